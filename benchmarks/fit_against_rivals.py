"""MAMLRegressorCV.fit against what a user would fit instead: processor time in paired rounds, and held-out loss.

Rivals, each where it is installed: statsmodels' MixedLM with a random intercept, mixedlm-rs with a random intercept and
with a full covariance, gpboost with a random intercept and with uncorrelated slopes. A rival fits one model once; the
default fit searches all structures of the mixed model and two more families of rules, nested in five folds. Each round
fits every one of them once. Tables: the four that are shipped, made ones of under 200 rows, and a made one of 500 tasks
x 10 rows with an intercept and 8 correlated slopes, whose fits are compared on new tasks too. Last the time of the
command ``undertow fit mathachieve`` in a process of its own. Rivals: pip install statsmodels mixedlm-rs gpboost optuna

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/fit_against_rivals.py [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import undertow as ut
from undertow.comparison.mixedlm import independent_columns, read_fit
from undertow.comparison.registry import BY_NAME
from undertow.linear.proximal_step import ridge_adapt
from undertow.tasks import read_table

SHIPPED = ("mathachieve", "radon", "gapminder", "parkinsons")
SMALL = ((4, 3, 3), (6, 10, 3), (10, 10, 5), (15, 12, 8), (10, 18, 12))  # tasks, rows of each, features
MADE, NEW, SUPPORT = "500 tasks x 10 rows x 8", 1000, 5


def statsmodels_intercept(x, y, groups):
    from statsmodels.regression.mixed_linear_model import MixedLM

    return MixedLM(y, x, groups).fit()


def mixedlm_rs_intercept(x, y, groups):
    from mixedlm_rs import MixedLM

    return MixedLM(y, x, groups).fit()


def mixedlm_rs_full(x, y, groups):
    from mixedlm_rs import MixedLM

    return MixedLM(y, x, groups, exog_re=x).fit()


def gpboost_intercept(x, y, groups):
    import gpboost

    return gpboost.GPModel(group_data=groups, likelihood="gaussian").fit(y=y, X=x)


def gpboost_slopes(x, y, groups):
    import gpboost

    slopes = x[:, :-1]
    of_group = np.ones(slopes.shape[1], dtype=int)
    model = gpboost.GPModel(
        group_data=groups, group_rand_coef_data=slopes, ind_effect_group_rand_coef=of_group, likelihood="gaussian"
    )
    return model.fit(y=y, X=x)


RIVALS = {
    "statsmodels intercept": ("statsmodels", statsmodels_intercept),
    "mixedlm-rs intercept": ("mixedlm_rs", mixedlm_rs_intercept),
    "mixedlm-rs full": ("mixedlm_rs", mixedlm_rs_full),
    "gpboost intercept": ("gpboost", gpboost_intercept),
    "gpboost slopes": ("gpboost", gpboost_slopes),
}


def installed() -> dict[str, Callable]:
    found = {}
    for name, (module, fit) in RIVALS.items():
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:
            print(f"left out: {name} ({error})")
        else:
            found[name] = fit
    return found


def made(n_tasks: int, n_rows: int, p: int, seed: int = 0):
    """Rows (m, n, p) and targets (m, n) of tasks whose intercepts and slopes vary together."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.cholesky(0.4 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))))
    spread = rng.standard_normal((p + 1, p + 1)) * 0.25 + 0.3 * np.eye(p + 1)
    mean = rng.standard_normal(p + 1)
    x = rng.standard_normal((n_tasks, n_rows, p)) @ mix.T
    weights = mean + rng.standard_normal((n_tasks, p + 1)) @ spread.T
    y = np.einsum("mnp,mp->mn", x, weights[:, 1:]) + weights[:, :1] + rng.standard_normal((n_tasks, n_rows))
    return x, y


def tables():
    """Yield name, features, targets, task of each row, and support rows."""
    for name in SHIPPED:
        table = read_table(getattr(ut.datasets, f"load_{name}")())
        yield name, table.x, table.y, np.repeat(np.arange(table.n_tasks), table.counts), SUPPORT
    x, y = made(500 + NEW, 10, 8)
    yield MADE, x[:500].reshape(-1, 8), y[:500].ravel(), np.repeat(np.arange(500), 10), SUPPORT
    for m, n, p in SMALL:
        x, y = made(m, n, p)
        yield f"{m} x {n} x {p}", x.reshape(-1, p), y.ravel(), np.repeat(np.arange(m), n), min(SUPPORT, n // 2)


def measured(calls: dict[str, Callable], rounds: int) -> tuple[dict[str, list[float]], dict[str, object]]:
    """Seconds of processor time of each call in each round, and what each returned in the last."""
    times, found = {name: [] for name in calls}, {}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found[name] = call()
                except Exception as error:  # whatever a rival may raise is one that found no fit
                    found[name] = error
            times[name].append(time.process_time() - start)
    return times, found


def new_tasks(model, rival) -> dict[str, float]:
    """Mean squared error on new tasks, each adapted on its first rows: our fit, and the BLUP of a rival."""
    x, y = (part[500:] for part in made(500 + NEW, 10, 8))
    s, fitted = SUPPORT, model.model_

    def losses(rows, targets, adapt):
        batch = ut.TaskBatch(rows[:, :s], targets[:, :s], rows[:, s:], targets[:, s:])
        return ((np.einsum("mvp,mp->mv", batch.query_x, adapt(batch)) - batch.query_y) ** 2).mean(axis=1)

    z = fitted.standard.features(x.reshape(-1, 8)).reshape(NEW, 10, -1)
    targets = fitted.standard.targets(y.reshape(-1, 1)).reshape(NEW, 10)
    ours = losses(z, targets, lambda batch: fitted.rules[0].adapt(fitted.omega[0], batch))
    ours *= float(fitted.standard.target_spread[0]) ** 2
    wide = np.concatenate([x, np.ones((NEW, 10, 1))], axis=2)
    blup = read_fit(rival, 9, list(range(9)), slopes=True)
    theirs = losses(wide, y, lambda batch: ridge_adapt(blup.omega, batch, blup.noise, blup.covariance))
    gap = ours - theirs
    return {
        "loss": float(ours.mean()),
        "rival_loss": float(theirs.mean()),
        "difference": float(gap.mean()),
        "standard_error": float(gap.std(ddof=1) / np.sqrt(len(gap))),
    }


def of_command(rounds: int) -> dict[str, float]:
    """Seconds of ``undertow fit mathachieve``: by the clock, and of the processor."""
    clock, cpu = [], []
    for _ in range(rounds):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-m", "undertow", "fit", "mathachieve"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock.append(time.perf_counter() - start)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"clock_seconds": statistics.median(clock), "processor_seconds": statistics.median(cpu)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--effort", default="default", choices=("default", "fast"), help="fast: straight lines only")
    parser.add_argument("--out", help="write the figures as JSON into this file")
    options = parser.parse_args()
    rivals, report = installed(), {}
    x, y = made(20, 10, 2)
    ut.MAMLRegressorCV(SUPPORT).fit(x.reshape(-1, 2), y.ravel(), groups=np.repeat(np.arange(20), 10))  # loads all parts
    for name, x, y, groups, n_support in tables():
        wide = np.c_[x, np.ones(len(x))]
        wide = np.ascontiguousarray(wide[:, independent_columns(wide)])
        # No rival is asked of tables that are there to show the default fit's time alone.
        own = rivals if name in (*SHIPPED, MADE) else {}
        if x.shape[1] > BY_NAME["mixedlm_rs"].most_slopes:  # minutes
            own = {rival: fit for rival, fit in own.items() if rival.endswith("intercept")}
        model = ut.MAMLRegressorCV(n_support, effort=options.effort)
        calls = {"default": lambda: model.fit(x, y, groups=groups)}
        calls |= {rival: lambda fit=fit: fit(wide, y, groups) for rival, fit in own.items()}
        times, found = measured(calls, options.rounds)
        print(f"{name}: {len(y)} rows, {groups[-1] + 1} tasks, {x.shape[1]} features")
        report[name] = {}
        for way, each in times.items():
            ratio = statistics.median(a / b for a, b in zip(times["default"], each, strict=True))
            failed = f"{found[way]}" if isinstance(found[way], Exception) else ""
            report[name][way] = {"seconds": statistics.median(each), "default_over_it": ratio, "failed": failed}
            print(f"  {way:22s} {statistics.median(each):7.3f} s, default / it {ratio:7.2f} {failed}", flush=True)
        if name == MADE and "mixedlm-rs full" in found and not isinstance(found["mixedlm-rs full"], Exception):
            report[name]["new tasks"] = on_new = new_tasks(model, found["mixedlm-rs full"])
            print(
                f"  loss on {NEW} new tasks {on_new['loss']:.4f}, of mixedlm-rs full {on_new['rival_loss']:.4f}: "
                f"difference {on_new['difference']:+.4f} (standard error {on_new['standard_error']:.4f})"
            )
    report["undertow fit mathachieve"] = command = of_command(options.rounds)
    print(
        f"undertow fit mathachieve: {command['clock_seconds']:.1f} s, {command['processor_seconds']:.1f} s of processor"
    )
    if options.out:
        Path(options.out).write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
