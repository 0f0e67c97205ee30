"""MAMLRegressorCV.fit with straight lines against statsmodels' MixedLM, and what each predicts for new tasks.

500 tasks of 10 rows, 8 correlated features; intercept and all 8 slopes vary over tasks with correlations. Both are
fitted to the same rows. Each new task then gives 5 rows to adapt on; the loss is the mean squared error on its others.

    OPENBLAS_NUM_THREADS=1 python benchmarks/fit_against_mixedlm.py [--tasks 500] [--new 1000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings

import numpy as np

import undertow as ut
from undertow.linear.proximal_step import ridge_adapt


def tables(n_tasks: int, n_rows: int, p: int, seed: int):
    rng = np.random.default_rng(seed)
    mix = np.linalg.cholesky(0.4 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))))
    spread = rng.standard_normal((p + 1, p + 1)) * 0.25 + 0.3 * np.eye(p + 1)
    mean = rng.standard_normal(p + 1)
    x = rng.standard_normal((n_tasks, n_rows, p)) @ mix.T
    weights = mean + rng.standard_normal((n_tasks, p + 1)) @ spread.T
    y = np.einsum("mnp,mp->mn", x, weights[:, 1:]) + weights[:, :1] + rng.standard_normal((n_tasks, n_rows))
    return x, y


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--new", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3, help="of our fit; MixedLM is fitted once")
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    rows, p, n_support = 10, 8, 5
    x, y = tables(options.tasks + options.new, rows, p, 0)
    new_x, new_y = x[options.tasks :], y[options.tasks :]
    x, y = x[: options.tasks].reshape(-1, p), y[: options.tasks].reshape(-1)
    groups = np.repeat(np.arange(options.tasks), rows)

    def batch(inputs, targets):
        s = n_support
        return ut.TaskBatch(inputs[:, :s], targets[:, :s], inputs[:, s:], targets[:, s:])

    times = []
    ut.MAMLRegressorCV(n_support, effort="fast")
    for _ in range(options.rounds):
        start = time.perf_counter()
        model = ut.MAMLRegressorCV(n_support, effort="fast").fit(x, y, groups=groups)
        times.append(time.perf_counter() - start)
    fitted = model.model_
    z = fitted.standard.features(new_x.reshape(-1, p)).reshape(options.new, rows, p + 1)
    t = fitted.standard.targets(new_y.reshape(-1, 1)).reshape(options.new, rows)
    ours_batch = batch(z, t)
    theta = fitted.rules[0].adapt(fitted.omega[0], ours_batch)
    errors = np.einsum("mvp,mp->mv", ours_batch.query_x, theta) - ours_batch.query_y
    ours = (errors**2).mean(axis=1) * float(fitted.standard.target_spread[0]) ** 2

    import statsmodels.api as sm

    design = sm.add_constant(x)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = sm.MixedLM(y, design, groups, exog_re=design).fit()
    seconds = time.perf_counter() - start
    wide = batch(np.concatenate([np.ones((options.new, rows, 1)), new_x], axis=2), new_y)
    theta = ridge_adapt(np.asarray(fit.fe_params), wide, float(fit.scale), np.asarray(fit.cov_re))
    theirs = ((np.einsum("mvp,mp->mv", wide.query_x, theta) - wide.query_y) ** 2).mean(axis=1)
    gap = ours - theirs
    report = {
        "fit_seconds": statistics.median(times),
        "mixedlm_seconds": seconds,
        "ratio": seconds / statistics.median(times),
        "loss": float(ours.mean()),
        "mixedlm_loss": float(theirs.mean()),
        "difference": float(gap.mean()),
        "standard_error": float(gap.std(ddof=1) / np.sqrt(len(gap))),
        "chosen": model.strategy_,
        "settings": model.choice_.settings,
    }
    print(
        f"MAMLRegressorCV {report['fit_seconds']:.2f} s, MixedLM {seconds:.1f} s: {report['ratio']:.0f} times faster; "
        f"loss {report['loss']:.4f} against {report['mixedlm_loss']:.4f}, difference {report['difference']:+.4f} "
        f"(standard error {report['standard_error']:.4f}); chosen {model.strategy_} {model.choice_.settings}"
    )
    if options.out:
        with open(options.out, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
