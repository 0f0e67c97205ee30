"""Seconds for a curve of expected losses by method="auto", first call in a fresh process, and for ``undertow --help``.

OPENBLAS_NUM_THREADS=1 python benchmarks/theory_curve.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

# (p, m, n_t, n_v): exact by draws, exact by quadrature, equivalents on both sides, general covariance.
SIZES = [(60, 3, 30, 2), (60, 6, 30, 1), (200, 3, 50, 40), (1000, 5, 500, 20), (200, 100, 50, 5), (1000, 40, 300, 50)]

CURVE = """
import time
import numpy as np
import undertow as ut
problem = ut.MixedLinearRegression({p}{extra})
design = ut.Design({m}, {n_t}, {n_v})
start = time.perf_counter()
ut.theory.expected_loss(problem, design, np.linspace(-3, 3, 200), 0.2)
print(time.perf_counter() - start, ut.theory.method_for(problem, design, -1.0).method)
"""


def first_call(size: tuple[int, int, int, int], extra: str) -> tuple[float, str]:
    p, m, n_t, n_v = size
    code = CURVE.format(p=p, m=m, n_t=n_t, n_v=n_v, extra=extra)
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    return statistics.median(float(run[0]) for run in runs), runs[0][1]


def main() -> None:
    for size in SIZES:
        for name, extra in (
            ("isotropic", ""),
            ("unequal variances", f", input_covariance=np.linspace(0.2, 2, {size[0]})"),
        ):
            seconds, method = first_call(size, extra)
            print(f"p, m, n_t, n_v = {size}, {name}: 200 rates in {seconds:.2f} s ({method})")
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "undertow.cli", "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    print(f"undertow --help: {statistics.median(times):.2f} s (median of 5)")


if __name__ == "__main__":
    main()
