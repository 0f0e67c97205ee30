// The mean spectrum of S = X^T X / n, X (n, p) standard normal, as a quadrature; as in undertow.theory.wishart.
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
    // Marsaglia and Tsang (2000), for shapes of 1 and above.
    const chi2 = (degrees) => {
      if (degrees === 1) return normal() ** 2;
      const d = degrees / 2 - 1 / 3, scale = 1 / Math.sqrt(9 * d);
      for (;;) {
        const x = normal(), v = (1 + scale * x) ** 3;
        if (v > 0 && Math.log(next()) < x * x / 2 + d - d * v + d * Math.log(v)) return 2 * d * v;
      }
    };
    return { next, normal, chi2 };
  }

  // Eigenvalues of a symmetric tridiagonal matrix by implicit QL steps; both arrays are overwritten. (Math.hypot is slow.)
  function tridiagonal(diagonal, off) {
    const n = diagonal.length;
    for (let l = 0; l < n; l++) {
      for (;;) {
        let m = l;
        while (m < n - 1 && Math.abs(off[m]) > 1e-16 * (Math.abs(diagonal[m]) + Math.abs(diagonal[m + 1]))) m++;
        if (m === l) break;
        let g = (diagonal[l + 1] - diagonal[l]) / (2 * off[l]), r = Math.sqrt(g * g + 1);
        g = diagonal[m] - diagonal[l] + off[l] / (g + (g >= 0 ? r : -r));
        let s = 1, c = 1, p = 0, i = m - 1;
        for (; i >= l; i--) {
          const f = s * off[i], b = c * off[i];
          r = Math.sqrt(f * f + g * g);
          off[i + 1] = r;
          if (r === 0) {
            diagonal[i + 1] -= p;
            off[m] = 0;
            break;
          }
          s = f / r;
          c = g / r;
          g = diagonal[i + 1] - p;
          r = (diagonal[i] - g) * s + 2 * c * b;
          p = s * r;
          diagonal[i + 1] = g + p;
          g = c * r - b;
        }
        if (r === 0 && i >= l) continue;
        diagonal[l] -= p;
        off[l] = g;
        off[m] = 0;
      }
    }
    return diagonal;
  }

  // Nonzero eigenvalues of one S by its tridiagonal model (Dumitriu and Edelman, 2002).
  function eigenvalues(source, p, n) {
    const rank = Math.min(p, n), large = Math.max(p, n);
    const on = Float64Array.from({ length: rank }, (_, i) => source.chi2(large - i));
    const below = Float64Array.from({ length: rank - 1 }, (_, i) => source.chi2(rank - 1 - i));
    const diagonal = Float64Array.from(on, (value, i) => (value + (i ? below[i - 1] : 0)) / n);
    const off = new Float64Array(rank);
    for (let i = 0; i < rank - 1; i++) off[i] = Math.sqrt(on[i] * below[i]) / n;
    return tridiagonal(diagonal, off);
  }

  // E tr S^order / p, exact: a sum over zonal polynomials (Hanlon, Stanley and Stembridge, 1992).
  function moment(order, p, n) {
    let top = 0n, bottom = 1n;
    for (const shape of shapes(order)) {
      let value = BigInt(2 * order), norm = 1n;
      shape.forEach((row, i) => {
        for (let j = 0; j < row; j++) {
          const content = 2 * j - i, below = shape.filter((other) => other > j).length - i - 1;
          value *= BigInt((p + content) * (n + content) * (i || j ? content : 1));
          const hook = 2 * (row - j - 1) + below;
          norm *= BigInt((hook + 1) * (hook + 2));
        }
      });
      top = top * norm + value * bottom;
      bottom *= norm;
    }
    bottom *= BigInt(p) * BigInt(n) ** BigInt(order);
    return Number((top << 80n) / bottom) / 2 ** 80;
  }

  function shapes(order) {
    const found = [];
    for (let first = 1; first <= order; first++) {
      for (let second = 0; second <= Math.min(first, order - first); second++) {
        const rest = order - first - second;
        if (!rest || second) found.push([first, ...(second ? [second] : []), ...Array(rest).fill(1)]);
      }
    }
    return found;
  }

  function solve(matrix, right) {
    const n = right.length, a = matrix.map((row, i) => [...row, right[i]]);
    for (let k = 0; k < n; k++) {
      let best = k;
      for (let i = k + 1; i < n; i++) if (Math.abs(a[i][k]) > Math.abs(a[best][k])) best = i;
      [a[k], a[best]] = [a[best], a[k]];
      for (let i = k + 1; i < n; i++) {
        const factor = a[i][k] / a[k][k];
        for (let j = k; j <= n; j++) a[i][j] -= factor * a[k][j];
      }
    }
    const x = Array(n).fill(0);
    for (let k = n - 1; k >= 0; k--) {
      x[k] = a[k][n];
      for (let j = k + 1; j < n; j++) x[k] -= a[k][j] * x[j];
      x[k] /= a[k][k];
    }
    return x;
  }

  // Legendre polynomials of shift + stretch s as coefficients of powers of s, orders 0 to most.
  function legendre(most, shift, stretch) {
    const list = [[1], [shift, stretch]];
    for (let k = 1; k < most; k++) {
      const next = Array(k + 2).fill(0);
      list[k].forEach((c, i) => {
        next[i] += (2 * k + 1) * shift * c / (k + 1);
        next[i + 1] += (2 * k + 1) * stretch * c / (k + 1);
      });
      list[k - 1].forEach((c, i) => (next[i] -= k * c / (k + 1)));
      list.push(next);
    }
    return list;
  }

  const NODES = 1000, MATCHED = 6;
  // Eigenvalues drawn: of small matrices more, whose spectrum is wide and which cost little.
  const pooled = (rank) => NODES * Math.min(Math.max(Math.round(200 / rank), 8), 64);
  const kept = new Map();

  // {nodes, weights}: E tr f(S) / p = sum_j weights_j f(nodes_j). Moments of order 0 to 6 are exact.
  function spectrum(p, n) {
    const key = p + "," + n;
    if (!kept.has(key)) {
      if (kept.size > 200) kept.clear();
      kept.set(key, make(p, n));
    }
    return kept.get(key);
  }

  function make(p, n) {
    const source = generator(p, n, 20210111), rank = Math.min(p, n), pool = [];
    const draws = Math.ceil(pooled(rank) / rank), together = pooled(rank) / NODES;
    for (let i = 0; i < draws; i++) pool.push(...eigenvalues(source, p, n));
    const sorted = Float64Array.from(pool).sort(), count = Math.floor(sorted.length / together);
    const nodes = new Float64Array(count + 1), weights = new Float64Array(count + 1);
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < together; j++) nodes[i] += Math.max(sorted[i * together + j], 0) / together;
    }
    const flat = rank / p / count, low = nodes[0], high = nodes[count - 1], width = high - low;
    const polynomials = legendre(MATCHED, -(low + high) / width, 2 / width);
    const moments = Array.from({ length: MATCHED + 1 }, (_, j) => (j ? moment(j, p, n) : rank / p));
    const target = polynomials.map((one) => one.reduce((sum, c, j) => sum + c * moments[j], 0));
    const basis = Array.from({ length: count }, (_, i) => values((2 * nodes[i] - low - high) / width));
    // The long tail of a rank of 1 or 2 may not bear all orders with positive weights.
    for (let order = MATCHED; order > 0; order--) {
      const gram = target.slice(0, order + 1).map(() => Array(order + 1).fill(0)), miss = target.slice(0, order + 1);
      for (const row of basis) {
        for (let j = 0; j <= order; j++) {
          miss[j] -= flat * row[j];
          for (let k = 0; k <= order; k++) gram[j][k] += flat * row[j] * row[k];
        }
      }
      const change = solve(gram, miss);
      let least = 0;
      basis.forEach((row, i) => {
        weights[i] = flat * (1 + change.reduce((sum, c, j) => sum + c * row[j], 0));
        least = Math.min(least, weights[i]);
      });
      if (least >= 0) break;
    }
    weights[count] = 1 - rank / p;
    return { nodes, weights };
  }

  function values(t) {
    const list = [1, t];
    for (let k = 1; k < MATCHED; k++) list.push(((2 * k + 1) * t * list[k] - k * list[k - 1]) / (k + 1));
    return list;
  }

  Object.assign(undertow, { generator, spectrum });
})(window.undertow = window.undertow || {});
