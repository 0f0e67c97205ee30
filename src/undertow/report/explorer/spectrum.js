// The mean spectrum of S = X^T X / n, X (n, p) standard normal, as a quadrature; as in undertow.theory.wishart_density.
(function (undertow) {
  "use strict";

  // Small and fast, with a period far beyond what is drawn here (Chris Doty-Humphrey's sfc32).
  function generator(...seeds) {
    let [a, b, c] = [0, 1, 2].map((i) => (seeds[i] || 0) | 0), count = 1;
    const next = () => {
      const sum = (a + b + count) | 0;
      count = (count + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = ((c << 21) | (c >>> 11)) + sum | 0;
      return ((sum >>> 0) + 0.5) / 4294967296;
    };
    for (let i = 0; i < 20; i++) next();
    let spare = null;
    const normal = () => {
      if (spare !== null) {
        const kept = spare;
        spare = null;
        return kept;
      }
      const radius = Math.sqrt(-2 * Math.log(next())), angle = 2 * Math.PI * next();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    };
    return { normal };
  }

  // Legendre polynomials of degree 0 to most at x.
  function legendre(x, most) {
    const list = [1, x];
    for (let k = 1; k < most; k++) list.push(((2 * k + 1) * x * list[k] - k * list[k - 1]) / (k + 1));
    return list;
  }

  const PANELS = 100, ORDER = 8, TAIL = 7;

  // Gauss points and weights on (-1, 1), and the matrix that integrates from -1 to each point.
  const { points, weights, within } = (() => {
    const points = [], weights = [], at = [];
    for (let i = 0; i < ORDER; i++) {
      let x = -Math.cos(Math.PI * (i + 0.75) / (ORDER + 0.5)), slope = 0;
      for (let turn = 0; turn < 8; turn++) {
        const list = legendre(x, ORDER);
        slope = ORDER * (x * list[ORDER] - list[ORDER - 1]) / (x * x - 1);
        x -= list[ORDER] / slope;
      }
      points.push(x);
      weights.push(2 / ((1 - x * x) * slope * slope));
      at.push(legendre(x, ORDER));
    }
    const part = (k, i) => (k ? (at[i][k + 1] - at[i][k - 1]) / (2 * k + 1) : points[i] + 1);
    const within = points.map((_, i) => points.map((_, j) => {
      let sum = 0;
      for (let k = 0; k < ORDER; k++) sum += (k + 0.5) * weights[j] * at[j][k] * part(k, i);
      return sum;
    }));
    return { points, weights, within };
  })();

  const kept = new Map();

  // {nodes, weights}: E tr f(S) / p = sum_j weights_j f(nodes_j).
  function spectrum(p, n) {
    const key = p + "," + n;
    if (!kept.has(key)) {
      if (kept.size > 200) kept.clear();
      kept.set(key, make(p, n));
    }
    return kept.get(key);
  }

  // The exact mean density (Adler, Forrester, Nagao and van Moerbeke, 2000) at u = sqrt(x), x an eigenvalue of n S.
  function make(p, n) {
    const q = Math.min(p, n), a = Math.abs(n - p), middle = Math.sqrt(n) + Math.sqrt(p);
    const low = Math.max(0, Math.abs(Math.sqrt(n) - Math.sqrt(p)) - TAIL), width = (middle + TAIL - low) / PANELS;
    const count = PANELS * ORDER, zero = q < p ? 1 : 0, nodes = new Float64Array(count + zero);
    const mass = new Float64Array(count + zero), u = new Float64Array(count), du = new Float64Array(count);
    const kernel = new Float64Array(count), before = new Float64Array(count), last = new Float64Array(count);
    let logFactorial = 0;
    for (let k = 2; k <= a; k++) logFactorial += Math.log(k);
    for (let i = 0; i < count; i++) {
      u[i] = low + width * (Math.floor(i / ORDER) + (points[i % ORDER] + 1) / 2);
      du[i] = width / 2 * weights[i % ORDER];
      const x = u[i] ** 2;
      nodes[i] = x / n;
      last[i] = Math.exp(0.5 * (a * Math.log(x) - x - logFactorial));
      for (let k = 0; k < q - 1; k++) {
        kernel[i] += last[i] ** 2;
        const next = (2 * k + 1 + a - x) * last[i] - Math.sqrt(k * (k + a)) * before[i];
        before[i] = last[i];
        last[i] = next / Math.sqrt((k + 1) * (k + 1 + a));
      }
    }
    const edge = Math.sqrt((q - 1) * (q - 1 + a)) / 2, one = againstSign(before, du, width);
    const two = q % 2 ? againstSign(last, du, width) : null, ratio = two ? one.total / two.total : 0;
    for (let i = 0; i < count; i++) {
      const sign = one.at[i] - (two ? ratio * two.at[i] : 0);
      const correction = (two ? 2 * last[i] / two.total : 0) - edge * last[i] * sign;
      mass[i] = Math.max((2 * u[i] * kernel[i] + correction) * du[i] / p, 0);
    }
    if (zero) mass[count] = 1 - n / p;
    return { nodes, weights: mass };
  }

  // at: the integral of sgn(x - t) t^(-1/2) f(t) at all nodes x; total: that without the sign.
  function againstSign(f, du, width) {
    const at = new Float64Array(f.length);
    let total = 0;
    for (let first = 0; first < f.length; first += ORDER) {
      for (let i = 0; i < ORDER; i++) {
        let inside = 0;
        for (let j = 0; j < ORDER; j++) inside += within[i][j] * f[first + j];
        at[first + i] = 2 * (total + width * inside);
      }
      for (let j = first; j < first + ORDER; j++) total += 2 * f[j] * du[j];
    }
    return { at: at.map((value) => value - total), total };
  }

  Object.assign(undertow, { generator, spectrum });
})(window.undertow = window.undertow || {});
