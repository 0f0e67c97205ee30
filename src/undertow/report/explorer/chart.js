// One chart in an SVG element: a curve, points with their errors, marks; drawn anew whenever something changes.
(function (undertow) {
  "use strict";

  const SPACE = "http://www.w3.org/2000/svg", LEFT = 56, RIGHT = 14, TOP = 20, BOTTOM = 40;

  function element(name, attributes, text) {
    const made = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function number(value, digits = 4) {
    if (!Number.isFinite(value)) return Number.isNaN(value) ? "none" : value < 0 ? "−∞" : "∞";
    const text = Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-4) ? value.toExponential(1) : String(+value.toPrecision(digits));
    return text.replace("-", "−");
  }

  function ticks(low, high, count) {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((one) => one * power >= rough), found = [];
    for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) found.push(k * step);
    return found;
  }

  // Losses to show: all that are chosen or best, and of the curve what does not dwarf them.
  function range(curve, needed) {
    const values = curve.map(([, y]) => y).filter(Number.isFinite).sort((a, b) => a - b);
    const must = needed.filter(Number.isFinite);
    if (!values.length && !must.length) return [0, 1];
    const low = Math.min(values[0] ?? Infinity, ...must), middle = values[Math.floor(values.length / 2)] ?? low;
    let high = Math.max(Math.min(values.at(-1) ?? low, low + 4 * (middle - low) + 0.02 * low), ...must);
    if (high - low < 1e-6 * Math.max(high, 1e-12)) high = low + Math.max(0.1 * low, 1e-3);
    const room = 0.08 * (high - low);
    return [Math.max(low - room, 0), high + room];
  }

  // of: {curve: [[x, y]], points: [[x, y, error]], best: [x, y], chosen: x, edges: [{x, words}], needed: [y],
  //      domain: [low, high], ticks: [[x, label]], title}
  function chart(svg, of) {
    const width = svg.clientWidth || 320, height = svg.clientHeight || 248, [low, high] = range(of.curve, of.needed);
    const right = width - RIGHT, bottom = height - BOTTOM;
    const x = (value) => LEFT + (value - of.domain[0]) / (of.domain[1] - of.domain[0]) * (right - LEFT);
    const y = (value) => bottom - (value - low) / (high - low) * (bottom - TOP);
    const clip = svg.id + "-clip", inside = element("g", { "clip-path": "url(#" + clip + ")" }), parts = [];
    const region = element("clipPath", { id: clip });
    region.append(element("rect", { x: LEFT, y: TOP - 6, width: right - LEFT, height: bottom - TOP + 6 }));
    parts.push(region);
    for (const value of ticks(low, high, 4)) {
      parts.push(element("line", { class: "grid", x1: LEFT, x2: right, y1: y(value), y2: y(value) }));
      parts.push(element("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, number(value)));
    }
    parts.push(element("line", { class: "axis", x1: LEFT, x2: right, y1: bottom, y2: bottom }));
    let free = -Infinity;
    for (const [value, label] of of.ticks) {
      parts.push(element("line", { class: "axis", x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4 }));
      if (x(value) - free < 26) continue;
      free = x(value);
      parts.push(element("text", { x: x(value), y: bottom + 17, "text-anchor": "middle" }, label));
    }
    parts.push(element("text", { class: "title", x: (LEFT + right) / 2, y: height - 5, "text-anchor": "middle" }, of.title));
    for (const { x: at, words } of of.edges) {
      if (at < of.domain[0] || at > of.domain[1]) continue;
      parts.push(element("line", { class: "edge", x1: x(at), x2: x(at), y1: TOP, y2: bottom }));
      const near = x(at) > (LEFT + right) / 2;
      parts.push(element("text", { class: "edge-word", x: x(at), y: TOP - 7, "text-anchor": near ? "end" : "start" }, words));
    }
    inside.append(element("line", { class: "chosen", x1: x(of.chosen), x2: x(of.chosen), y1: TOP, y2: bottom }));
    inside.append(element("path", { class: "curve", d: path(of.curve, x, y, low, high) }));
    for (const [at, value, error] of of.points) {
      const reach = Number.isFinite(error) ? 2 * error : 0;
      inside.append(element("line", { class: "bar", x1: x(at), x2: x(at), y1: y(value - reach), y2: y(value + reach) }));
      inside.append(element("circle", { class: "point", cx: x(at), cy: y(value), r: 3.5 }));
    }
    if (of.best && of.best.every(Number.isFinite)) {
      const [a, b] = [x(of.best[0]), y(of.best[1])];
      inside.append(element("path", { class: "best", d: `M${a} ${b - 8}L${a + 8} ${b}L${a} ${b + 8}L${a - 8} ${b}Z` }));
    }
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren(...parts, inside);
  }

  function path(curve, x, y, low, high) {
    let text = "", down = false;
    const most = high + 10 * (high - low);
    for (const [at, value] of curve) {
      if (Number.isFinite(value)) text += (down ? "L" : "M") + x(at).toFixed(1) + " " + y(Math.min(value, most)).toFixed(1);
      down = Number.isFinite(value);
    }
    return text;
  }

  Object.assign(undertow, { chart, number });
})(window.undertow = window.undertow || {});
