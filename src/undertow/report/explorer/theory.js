// The expected test loss of mixed linear regression: the deterministic equivalent, as in undertow.theory.equivalent.
// Settings: p, n_t, n_v, n_r, m, noise_std, task_std. One inner step; the start is the mean task.
(function (undertow) {
  "use strict";

  const rows = (at) => at.n_v * at.m;
  // Within one row of the threshold N = p the mean is infinite.
  const infinite = (at) => Math.abs(rows(at) - at.p) <= 1;

  // kappa > 0 with sum_j weights_j d_j / (d_j + kappa) = share: Newton's method in its logarithm, inside a bracket.
  function solve(d, weights, share) {
    let mean = 0, least = Infinity;
    for (let j = 0; j < d.length; j++) {
      mean += weights[j] * d[j];
      if (d[j] > 0 && d[j] < least) least = d[j];
    }
    let high = Math.log(mean / share);
    let low = Math.min(Math.log(least) + Math.log1p(-share) - Math.log(share), high - 1);
    let t = Math.max(0.5 * (low + high), high - 3);
    for (let i = 0; i < 200; i++) {
      const kappa = Math.exp(t);
      let excess = -share, slope = 0;
      for (let j = 0; j < d.length; j++) {
        const ratio = d[j] / (d[j] + kappa);
        excess += weights[j] * ratio;
        slope += weights[j] * ratio * (1 - ratio);
      }
      if (excess > 0) low = t;
      else high = t;
      const step = t + excess / slope, next = step > low && step < high ? step : 0.5 * (low + high);
      const done = Math.abs(next - t) < 1e-12 * Math.max(1, Math.abs(t));
      t = next;
      if (done) break;
    }
    return Math.exp(t);
  }

  // [task, noise]: Q = E|omega* - w_0|^2 = task nu^2 + noise sigma^2 at a train rate.
  function coefficients(at, rate) {
    const { p, n_t, n_v, m } = at, { nodes, weights } = undertow.spectrum(p, n_t), n = rows(at);
    const c = 1 / Math.hypot(1, rate), s = rate * c, unit = c * c, d = new Float64Array(nodes.length);
    for (let j = 0; j < d.length; j++) d[j] = (c - s * nodes[j]) ** 2;
    const kappa = solve(d, weights, n < p ? (n_v + 1) / p : 1 / m);
    let df2 = 0, gap = 0, t1 = 0, t2 = 0;
    for (let j = 0; j < d.length; j++) {
      const resolvent = 1 / (d[j] + kappa), noise = s * s * nodes[j] * resolvent * weights[j];
      df2 += weights[j] * (d[j] * resolvent) ** 2;
      gap += weights[j] * d[j] * resolvent ** 2;
      t1 += noise;
      t2 += noise * d[j] * resolvent;
    }
    [df2, gap, t1, t2] = [p * df2, p * gap, p / n_t * t1, p / n_t * t2];
    if (n < p) {
      const peak = (p - n_v - 1) / (p - n - 1), psi = n_v / (n_v + 1) * (unit / kappa + t1);
      return [n / p * peak, m * peak * psi];
    }
    const r = n_v - (p + 1) / m;
    const within = m * ((n_v + 2) / (n + 2) - (n - n_v) / ((n + 2) * (n - 1)));
    const between = n * (n - 2 / p) / ((n + 2) * (n - 1));
    const task = within * df2 / (gap * kappa) + between * (p / m) / r;
    const noise = unit * p / (kappa * r) + p / r * t1 + (1 + 1 / n_v) * p * t2 / (kappa * gap);
    return [(1 - 1 / m) * task, (1 - 1 / m) * noise];
  }

  function distance(at, rate) {
    const task2 = at.task_std ** 2, noise2 = at.noise_std ** 2;
    if (infinite(at)) return task2 + noise2 > 0 ? Infinity : 0;
    const [task, noise] = coefficients(at, rate);
    return task * task2 + noise * noise2;
  }

  // The test side, exact at all sizes: half a mean squared error after one step at adapt rate b.
  function adapted(at, q, b) {
    const square = (1 - b) ** 2 + b * b * (at.p + 1) / at.n_r;
    return at.noise_std ** 2 / 2 * (1 + b * b * at.p / at.n_r) + square / 2 * (at.task_std ** 2 + q);
  }

  const loss = (at, rate, b) => adapted(at, distance(at, rate), b);

  function bestAdapt(at, q) {
    const d = at.task_std ** 2 + q;
    return d > 0 ? 1 / (1 + (at.p + 1) / at.n_r + at.noise_std ** 2 * (at.p / at.n_r) / d) : 0;
  }

  // The train rate with the least distance over rates of both signs, {rate, q}; rate is -Infinity where far out is best.
  function bestTrain(at) {
    if (infinite(at)) return { rate: NaN, q: Infinity };
    const of = (v) => distance(at, FINE * Math.sinh(v)), end = Math.asinh(FAR / FINE), grid = [];
    for (let i = -PER_SIDE; i <= PER_SIDE; i++) grid.push({ v: i / PER_SIDE * end, q: of(i / PER_SIDE * end) });
    const least = grid.reduce((best, one) => (one.q < best.q ? one : best)), most = Math.max(...grid.map((one) => one.q));
    const atZero = grid[PER_SIDE].q;
    if (most - least.q <= 1e-12 * most) return { rate: 0, q: atZero };
    if (Math.abs(least.v) === end) return { rate: -Infinity, q: least.q };
    const found = golden(of, least.v - end / PER_SIDE, least.v + end / PER_SIDE), rate = FINE * Math.sinh(found.v);
    return (rate >= 0 && rate < LOCAL && besideZero(at, atZero)) || { rate, q: found.q };
  }

  const FINE = 1e-2, FAR = 1e5, PER_SIDE = 60, LOCAL = 1e-2;

  // The exact slope at 0 is positive: the least of the parabola with it, where the equivalent's own slope decides wrongly.
  function besideZero(at, atZero) {
    const n = rows(at), slope = 2 * at.noise_std ** 2 * (n < at.p ? n / (at.p - n - 1) : at.p / (n - at.p - 1));
    const curvature = (distance(at, -LOCAL) + distance(at, LOCAL) - 2 * atZero) / LOCAL ** 2;
    if (!(slope > 0 && curvature > 0)) return null;
    return { rate: -slope / curvature, q: atZero - slope ** 2 / (2 * curvature) };
  }

  function golden(of, low, high) {
    const share = (Math.sqrt(5) - 1) / 2;
    let a = high - share * (high - low), b = low + share * (high - low), fa = of(a), fb = of(b);
    while (high - low > 1e-6) {
      if (fa < fb) [high, b, fb, a] = [b, a, fa, b - share * (b - low)], fa = of(a);
      else [low, a, fa, b] = [a, b, fb, a + share * (high - a)], fb = of(b);
    }
    return fa < fb ? { v: a, q: fa } : { v: b, q: fb };
  }

  // The rate from which an inner step on n rows of p features overshoots: 2 over the upper edge of the limiting spectrum.
  const stable = (p, n) => 2 / (1 + Math.sqrt(p / n)) ** 2;

  Object.assign(undertow, { rows, infinite, distance, adapted, loss, bestAdapt, bestTrain, stable });
})(window.undertow = window.undertow || {});
