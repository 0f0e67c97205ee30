// Data sets drawn at the settings: meta-trained weights by least squares, and their squared distance from the mean task.
(function (undertow) {
  "use strict";

  // Solve a symmetric positive definite system in place by Cholesky's method; a is (n, n) by rows.
  function solve(a, b, n) {
    for (let j = 0; j < n; j++) {
      for (let i = j; i < n; i++) {
        let sum = a[i * n + j];
        for (let k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
        a[i * n + j] = i === j ? Math.sqrt(Math.max(sum, 1e-300)) : sum / a[j * n + j];
      }
    }
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < i; k++) b[i] -= a[i * n + k] * b[k];
      b[i] /= a[i * n + i];
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = i + 1; k < n; k++) b[i] -= a[k * n + i] * b[k];
      b[i] /= a[i * n + i];
    }
    return b;
  }

  // All query rows x, targets y, and what the inner step takes off at rate 1: u = X_v S and X_v X_t^T y_t / n_t.
  function draw(at, source) {
    const { p, n_t, n_v, m } = at, n = n_v * m, width = p + 1;
    const x = new Float64Array(n * width), u = new Float64Array(n * width);
    const support = new Float64Array(n_t * width), w = new Float64Array(p);
    const row = (into, from) => {
      let y = at.noise_std * source.normal();
      for (let j = 0; j < p; j++) y += (into[from + j] = source.normal()) * w[j];
      into[from + p] = y;
    };
    for (let task = 0; task < m; task++) {
      for (let j = 0; j < p; j++) w[j] = at.task_std / Math.sqrt(p) * source.normal();
      for (let i = 0; i < n_t; i++) row(support, i * width);
      for (let q = task * n_v; q < (task + 1) * n_v; q++) {
        row(x, q * width);
        for (let i = 0; i < n_t; i++) {
          let inner = 0;
          for (let j = 0; j < p; j++) inner += x[q * width + j] * support[i * width + j];
          inner /= n_t;
          for (let j = 0; j < width; j++) u[q * width + j] += inner * support[i * width + j];
        }
      }
    }
    return { x, u, n, p };
  }

  // |omega*|^2 at a train rate, with w_0 = 0 and the start there: least squares, or the least-norm fit for N < p.
  function distance({ x, u, n, p }, rate) {
    const width = p + 1, c = 1 / Math.hypot(1, rate), s = rate * c, z = new Float64Array(n * width);
    for (let i = 0; i < z.length; i++) z[i] = c * x[i] - s * u[i];
    const tall = n >= p, size = tall ? p : n, gram = new Float64Array(size * size), right = new Float64Array(size);
    if (tall) {
      for (let i = 0; i < n * width; i += width) {
        for (let j = 0; j < p; j++) {
          right[j] += z[i + j] * z[i + p];
          for (let k = 0; k <= j; k++) gram[j * p + k] += z[i + j] * z[i + k];
        }
      }
    } else {
      for (let i = 0; i < n; i++) {
        right[i] = z[i * width + p];
        for (let k = 0; k <= i; k++) {
          let sum = 0;
          for (let j = 0; j < p; j++) sum += z[i * width + j] * z[k * width + j];
          gram[i * n + k] = sum;
        }
      }
    }
    const found = solve(gram, right.slice(), size);
    // For N < p omega = B^T v with B B^T v = y, and its square is v . y.
    return found.reduce((sum, value, i) => sum + value * (tall ? value : right[i]), 0);
  }

  // Sums over data sets of Q and its square at each rate; step() adds one data set.
  function simulation(at, rates, seed) {
    const source = undertow.generator(seed, 1, 2), sums = rates.map(() => 0), squares = rates.map(() => 0);
    const one = { at, rates, count: 0 };
    one.step = () => {
      const data = draw(at, source);
      rates.forEach((rate, i) => {
        const q = distance(data, rate);
        sums[i] += q;
        squares[i] += q * q;
      });
      one.count++;
    };
    // [mean, standard error] of Q at each rate
    one.result = () => sums.map((sum, i) => {
      const mean = sum / one.count, spread = Math.max(squares[i] / one.count - mean * mean, 0);
      return [mean, one.count > 1 ? Math.sqrt(spread / (one.count - 1)) : NaN];
    });
    return one;
  }

  Object.assign(undertow, { simulation });
})(window.undertow = window.undertow || {});
