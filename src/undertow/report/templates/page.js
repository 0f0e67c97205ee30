(function () {
  "use strict";
  const root = document.documentElement;
  const note = window.undertowError;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let drawn = [];
  let turn = 0;

  async function draw() {
    const mine = ++turn;
    const scheme = dark.matches ? "dark" : "light";
    drawn.forEach((one) => one.finalize());
    drawn = [];
    root.dataset.scheme = scheme;
    const places = Array.from(document.querySelectorAll("[data-chart]"));
    root.dataset.charts = "0/" + places.length;
    for (const place of places) {
      try {
        const made = await vegaEmbed(place, charts.specs[place.dataset.chart], {
          mode: "vega-lite",
          renderer: "svg",
          config: charts.configs[scheme],
          actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
          tooltip: { theme: scheme },
        });
        if (mine !== turn) {
          made.finalize();
          return;
        }
        drawn.push(made);
        root.dataset.charts = drawn.length + "/" + places.length;
      } catch (error) {
        note(place.dataset.chart + ": " + (error && error.message ? error.message : error));
        place.textContent = "This chart could not be drawn. Its data are in the table below.";
      }
    }
  }

  dark.addEventListener("change", draw);
  draw();
})();
