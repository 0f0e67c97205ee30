// The page: controls, what is said, the three charts, and the simulation that runs between them.
(function (undertow) {
  "use strict";

  const errors = [];
  const note = (message) => {
    errors.push(String(message));
    document.documentElement.dataset.errors = JSON.stringify(errors);
  };
  window.addEventListener("error", (event) => note(event.message));
  document.addEventListener("securitypolicyviolation", (event) => note(event.violatedDirective));

  const { number } = undertow;
  const CONTROLS = [
    ["p", "features", "p", 6, 100, 1, 30],
    ["n_t", "training task: support rows", "n_t", 1, 100, 1, 30],
    ["n_v", "training task: query rows", "n_v", 1, 60, 1, 2],
    ["m", "tasks", "m", 2, 60, 1, 5],
    ["n_r", "new task: rows", "n_r", 1, 100, 1, 20],
    ["noise_std", "noise, std", "σ", 0, 3, 0.05, 1],
    ["task_std", "spread of the tasks", "ν", 0, 3, 0.05, 0.5],
    ["train", "train rate", "α_t", -1.5, 1.5, 0.01, 0],
    ["adapt", "adapt rate", "α_r", -1, 1.5, 0.01, 0.2],
  ];
  const MOST_RATE = 14.1; // tan 1.5
  const MOST_DATA_SETS = 400;
  const PER_FRAME = 24; // milliseconds
  const TICKS = [-10, -3, -1, -0.3, 0, 0.3, 1, 3, 10].map((rate) => [Math.atan(rate), number(rate)]);
  const $ = (id) => document.getElementById(id);
  const at = Object.fromEntries(CONTROLS.map(([name, , , , , , value]) => [name, value]));
  let simulated = null, running = true, theory = null;

  // The slider of the train rate moves the angle; the number beside it is the rate.
  const shown = (name) => (name === "train" ? +Math.tan(at.train).toPrecision(3) : at[name]);

  function controls() {
    for (const [name, words, letter, low, high, step] of CONTROLS) {
      const row = document.createElement("div"), label = document.createElement("label"), sign = document.createElement("span");
      row.className = "control";
      label.htmlFor = "slider-" + name;
      const [stem, index] = letter.split("_");
      sign.append(stem);
      if (index) sign.append(Object.assign(document.createElement("sub"), { textContent: index }));
      label.append(words + " ", sign);
      const slider = Object.assign(document.createElement("input"), { type: "range", id: "slider-" + name, min: low, max: high, step });
      const exact = Object.assign(document.createElement("input"), { type: "number", id: "number-" + name, step: name === "train" ? 0.01 : step });
      [exact.min, exact.max] = name === "train" ? [-MOST_RATE, MOST_RATE] : [low, high];
      exact.setAttribute("aria-label", words + ", as a number");
      slider.addEventListener("input", () => set(name, +slider.value));
      exact.addEventListener("change", () => {
        const value = Math.min(Math.max(+exact.value || 0, exact.min), exact.max), whole = Math.round(value);
        set(name, name === "train" ? Math.atan(value) : Number.isInteger(step) ? whole : value);
      });
      row.append(label, slider, exact);
      $("controls").append(row);
    }
    const buttons = Object.assign(document.createElement("div"), { className: "buttons" });
    for (const [words, act] of [["Go to the best rates", best], ["Start again", reset]]) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: words });
      button.addEventListener("click", act);
      buttons.append(button);
    }
    $("controls").append(buttons);
  }

  // Many events of one frame are answered once.
  const waiting = new Set();
  function set(name, value) {
    at[name] = value;
    if (!waiting.size) {
      setTimeout(() => {
        const changed = [...waiting];
        waiting.clear();
        changed.forEach(update);
      });
    }
    waiting.add(name);
  }

  function best() {
    at.train = Math.min(Math.max(Math.atan(theory.best.rate), -1.5), 1.5) || 0;
    at.adapt = undertow.bestAdapt(at, theory.of(Math.tan(at.train)));
    update("train");
  }

  function reset() {
    for (const [name, , , , , , value] of CONTROLS) at[name] = value;
    update("p");
  }

  function update(name) {
    for (const [one] of CONTROLS) {
      $("slider-" + one).value = at[one];
      $("number-" + one).value = shown(one);
      if (one === "train") $("slider-train").setAttribute("aria-valuetext", number(Math.tan(at.train), 3));
    }
    if (name !== "adapt" && name !== "n_r") {
      if (name !== "train") curve();
      theory.counts = Array.from({ length: 59 }, (_, i) => [i + 2, undertow.distance({ ...at, m: i + 2 }, Math.tan(at.train))]);
      restart();
    }
    say();
    draw();
  }

  function curve() {
    const of = (rate) => undertow.distance(at, rate), angles = [];
    for (let i = -75; i <= 75; i++) angles.push([i / 50, of(Math.tan(i / 50))]);
    theory = { angles, of, best: undertow.bestTrain(at) };
  }

  function restart() {
    const angles = [-1.4, -1.1, -0.8, -0.5, -0.25, 0, 0.25, 0.5, 0.8, 1.1, 1.4].concat(at.train);
    simulated = { angles, runs: undertow.simulation({ ...at }, angles.map(Math.tan), 1) };
  }

  function say() {
    const rate = Math.tan(at.train), n = undertow.rows(at), q = theory.of(rate), b = at.adapt;
    const bestAdapt = undertow.bestAdapt(at, q), top = theory.best;
    const side = n < at.p ? "fewer than" : n > at.p ? "more than" : "as many as";
    const where = `${at.n_v} × ${at.m} = ${n} query rows, ${side} p = ${at.p} features. `;
    if (undertow.infinite(at)) {
      $("answer").textContent = where + "This is the interpolation threshold: the mean loss is infinite at every train rate" +
        (at.noise_std || at.task_std ? "." : ", but without noise and spread, where it is 0.");
    } else {
      const both = undertow.adapted(at, top.q, undertow.bestAdapt(at, top.q)), here = undertow.adapted(at, q, b);
      const sign = top.rate < 0 ? "negative" : top.rate > 0 ? "positive" : "zero";
      $("answer").textContent = where + `The best train rate is ${sign}, ${number(top.rate, 3)}; at the best pair of rates the loss is ` +
        `${number(both)}, ${number(100 * (1 - both / here || 0), 3)} % below that of the rates chosen.`;
    }
    const facts = [
      ["Loss at the chosen rates", number(undertow.adapted(at, q, b)), `train ${number(rate, 3)}, adapt ${number(b, 3)}`],
      ["Best train rate", number(top.rate, 3), "loss " + number(undertow.adapted(at, top.q, b)) + " at this adapt rate"],
      ["Best adapt rate", number(bestAdapt, 3), "loss " + number(undertow.adapted(at, q, bestAdapt)) + " at this train rate"],
    ];
    $("keys").replaceChildren(...facts.map((words) => {
      const group = document.createElement("div");
      words.forEach((word, i) => {
        const part = document.createElement(i ? "dd" : "dt");
        part.textContent = word;
        if (i === 2) part.className = "note";
        group.append(part);
      });
      return group;
    }));
  }

  function draw() {
    const rate = Math.tan(at.train), q = theory.of(rate), b = at.adapt, top = theory.best;
    const here = undertow.adapted(at, q, b), found = simulated.runs.count ? simulated.runs.result() : [];
    const factor = ((1 - b) ** 2 + b * b * (at.p + 1) / at.n_r) / 2;
    const overshoot = undertow.stable(at.p, at.n_t), overshootNew = undertow.stable(at.p, at.n_r);
    undertow.chart($("train"), {
      curve: theory.angles.map(([angle, value]) => [angle, undertow.adapted(at, value, b)]),
      points: found.map(([mean, error], i) => [simulated.angles[i], undertow.adapted(at, mean, b), factor * error]),
      best: [Math.max(Math.atan(top.rate), -1.5), undertow.adapted(at, top.q, b)], chosen: at.train,
      edges: [{ x: Math.atan(overshoot), words: "steepest direction overshoots" }],
      needed: [here, undertow.adapted(at, top.q, b)], domain: [-1.5, 1.5], ticks: TICKS, title: "train rate",
    });
    const adapts = Array.from({ length: 126 }, (_, i) => -1 + i / 50), own = found.at(-1);
    const bestAdapt = undertow.bestAdapt(at, q);
    undertow.chart($("adapt"), {
      curve: adapts.map((one) => [one, undertow.adapted(at, q, one)]),
      points: own ? adapts.filter((_, i) => i % 12 === 2).map((one) => {
        const square = ((1 - one) ** 2 + one * one * (at.p + 1) / at.n_r) / 2;
        return [one, undertow.adapted(at, own[0], one), square * own[1]];
      }) : [],
      best: [bestAdapt, undertow.adapted(at, q, bestAdapt)], chosen: b,
      edges: [{ x: overshootNew, words: "steepest direction overshoots" }],
      needed: [here], domain: [-1, 1.5], ticks: [-1, -0.5, 0, 0.5, 1, 1.5].map((one) => [one, number(one)]), title: "adapt rate",
    });
    undertow.chart($("tasks"), {
      curve: theory.counts.map(([m, value]) => [m, undertow.adapted(at, value, b)]),
      points: own ? [[at.m, undertow.adapted(at, own[0], b), factor * own[1]]] : [], chosen: at.m,
      edges: [{ x: at.p / at.n_v, words: "query rows = features" }], needed: [here],
      domain: [1, 61], ticks: [2, 10, 20, 30, 40, 50, 60].map((m) => [m, String(m)]), title: "tasks",
    });
    $("d-train").textContent = `Best at ${number(top.rate, 3)}. Beyond ${number(overshoot, 3)} the inner step overshoots in the steepest direction of the loss (2 over the largest eigenvalue).`;
    $("d-adapt").textContent = `Best at ${number(bestAdapt, 3)}. Beyond ${number(overshootNew, 3)} the step on a new task overshoots in its steepest direction.`;
    $("d-tasks").textContent = `The interpolation threshold, as many query rows as features, lies at m = ${number(at.p / at.n_v, 3)}.`;
    $("drawn").textContent = `${simulated.runs.count} of ${MOST_DATA_SETS} data sets drawn`;
    $("toggle").hidden = simulated.runs.count >= MOST_DATA_SETS;
  }

  function turn() {
    if (running && simulated.runs.count < MOST_DATA_SETS) {
      const end = performance.now() + PER_FRAME;
      do simulated.runs.step();
      while (simulated.runs.count < MOST_DATA_SETS && performance.now() < end);
      draw();
    }
    setTimeout(turn, 60);
  }

  undertow.settings = at;
  undertow.update = update;
  controls();
  update("p");
  $("toggle").addEventListener("click", () => {
    running = !running;
    $("toggle").textContent = running ? "Stop the simulation" : "Go on with the simulation";
  });
  window.addEventListener("resize", draw);
  setTimeout(turn, 400);
})(window.undertow = window.undertow || {});
