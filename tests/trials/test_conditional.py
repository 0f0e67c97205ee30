"""The expected loss given the inputs, against labels sampled by the thousand and solved by a pseudoinverse."""

import numpy as np
import pytest

from undertow.problem import Design, MixedLinearRegression
from undertow.trials.conditional import adaptation_metric, loss_given_inputs, unavoidable_loss
from undertow.trials.monte_carlo import run_cell
from undertow.trials.panel import Panel, cells_of

P = 6
ROTATION = np.linalg.qr(np.random.default_rng(5).standard_normal((P, P)))[0]
FULL = (ROTATION * np.linspace(0.3, 2.0, P)) @ ROTATION.T
FULL = (FULL + FULL.T) / 2
PROBLEMS = {
    "white": {"task_std": 0.8},
    "diagonal": {
        "task_covariance": np.linspace(0.0, 0.4, P),
        "input_covariance": np.linspace(0.2, 1.8, P),
        "mean_weights": np.arange(P) / 4,
    },
    "full": {
        "task_covariance": FULL / 5,
        "input_covariance": FULL,
        "mean_weights": np.ones(P),
    },
    "white inputs, full tasks": {"task_covariance": FULL / 5},
}
INIT = np.array([0.5, -1.0, 0.0, 0.3, 0.0, 1.0])


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("design", [Design(2, 5, 2, 4), Design(3, 4, 3, 7)], ids=["N<p", "N>p"])
@pytest.mark.parametrize("train_rate", [-0.7, 0.0, 0.3])
def test_agrees_with_sampled_labels_and_a_pseudoinverse(name, design, train_rate):
    """Given X, sample w and z, solve the stacked rows with pinv, and measure the loss by its exact test-side form."""
    problem = MixedLinearRegression(P, noise_std=0.7, **PROBLEMS[name])
    generator, draws, adapt_rate = np.random.default_rng(11), 4000, 0.3
    tasks = problem.sample(design, generator)
    expected = loss_given_inputs(
        problem, design.n_adapt, tasks.support_x[None], tasks.query_x[None], [train_rate], [adapt_rate], INIT
    )[0, 0, 0]

    n_t, p = tasks.support_x.shape[1:]
    task_root = np.linalg.cholesky(_matrix(problem.task_covariance, problem.task_std**2 / p) + 1e-15 * np.eye(p))
    outer, target = [], []
    for support_x, query_x in zip(tasks.support_x, tasks.query_x, strict=True):
        weights = problem.mean_weights + generator.standard_normal((draws, p)) @ task_root.T
        support_y = weights @ support_x.T + 0.7 * generator.standard_normal((draws, n_t))
        query_y = weights @ query_x.T + 0.7 * generator.standard_normal((draws, len(query_x)))
        step = np.eye(p) - train_rate * support_x.T @ support_x / n_t
        outer.append(query_x @ step)
        target.append(query_y - train_rate / n_t * support_y @ support_x @ query_x.T)
    stacked, labels = np.vstack(outer), np.hstack(target)
    solution = INIT + (labels - stacked @ INIT) @ np.linalg.pinv(stacked).T
    losses = _exact_loss(problem, design.n_adapt, adapt_rate, solution)
    assert abs(losses.mean() - expected) < 4 * losses.std(ddof=1) / np.sqrt(draws)
    # The check is sharp enough to see a missing term: one per cent of the loss is outside it.
    assert losses.std(ddof=1) / np.sqrt(draws) < 0.02 * expected


def _matrix(covariance, scale):
    if covariance is None:
        return scale * np.eye(P)
    return np.diag(covariance) if covariance.ndim == 1 else covariance


def _exact_loss(problem, n_adapt, rate, solution):
    """(draws,) loss of each solution on a new task, by Isserlis' theorem for E[(I - r S) Sx (I - r S)]."""
    sx, sw = _matrix(problem.input_covariance, 1.0), _matrix(problem.task_covariance, problem.task_std**2 / P)
    metric = sx - 2 * rate * sx @ sx + rate**2 * (sx @ sx @ sx * (1 + 1 / n_adapt) + np.trace(sx @ sx) / n_adapt * sx)
    off = solution - problem.mean_weights
    noise = problem.noise_std**2 * (1 + rate**2 * np.trace(sx @ sx) / n_adapt)
    return (noise + np.trace(metric @ sw) + np.einsum("np,pq,nq->n", off, metric, off)) / 2


@pytest.mark.parametrize("name", PROBLEMS)
def test_unavoidable_loss_is_that_of_a_start_at_the_mean_task(name):
    problem = MixedLinearRegression(P, noise_std=0.7, **PROBLEMS[name])
    (expected,) = _exact_loss(problem, 5, 0.4, problem.mean_weights[None])
    assert unavoidable_loss(problem, 5, 0.4) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_metric_agrees_with_sampled_adaptation(name):
    """H and the unavoidable loss, against new tasks that are sampled, adapted and tested."""
    problem = MixedLinearRegression(P, noise_std=0.7, **PROBLEMS[name])
    rate, n_adapt, draws = 0.4, 5, 20000
    new = problem.sample(Design(draws, n_adapt, 1, n_adapt), seed=3)
    for start in (problem.mean_weights, INIT):
        residual = (new.support_x @ start) - new.support_y
        adapted = start - rate / n_adapt * np.einsum("mn,mnp->mp", residual, new.support_x)
        losses = (np.einsum("mnp,mp->mn", new.query_x, adapted) - new.query_y)[:, 0] ** 2 / 2
        off, metric = start - problem.mean_weights, adaptation_metric(problem, n_adapt, rate)
        square = off @ metric @ off if metric.ndim == 2 else (metric * off**2).sum()
        expected = unavoidable_loss(problem, n_adapt, rate) + square / 2
        assert abs(losses.mean() - expected) < 4 * losses.std(ddof=1) / np.sqrt(draws)


def test_several_adapt_rates_are_the_single_ones():
    problem = MixedLinearRegression(P, **PROBLEMS["diagonal"])
    tasks = problem.sample(Design(2, 5, 2), seed=0)
    args = (problem, 4, tasks.support_x[None], tasks.query_x[None], [-1.0, 0.5])
    both = loss_given_inputs(*args, [0.0, 0.3])
    assert both.shape == (1, 2, 2)
    for j, rate in enumerate([0.0, 0.3]):
        np.testing.assert_allclose(both[:, :, j], loss_given_inputs(*args, [rate])[:, :, 0], rtol=1e-13)


@pytest.mark.parametrize("n_tasks", [3, 10], ids=["N<p", "N>p"])
@pytest.mark.parametrize("covariance", [None, np.repeat([0.3, 1.7], 6)], ids=["white", "unequal"])
def test_raw_and_conditional_have_the_same_mean(n_tasks, covariance):
    """The runs share inputs, so the difference of the two estimates is a paired one."""
    problem = MixedLinearRegression(12, 1.0, 0.5, input_covariance=covariance)
    panel = Panel("a", problem, Design(n_tasks, 8, 2, 6), (-0.4, 0.0, 0.2), (0.0, 0.3), 100, 20, 10)
    tables = [run_cell(panel, cell) for cell in cells_of([panel], seed=1)]
    raw, conditional = (
        np.concatenate([table[name].to_numpy() for table in tables]).reshape(100, 6) for name in ("raw", "conditional")
    )
    difference = raw - conditional
    assert (abs(difference.mean(0)) < 4 * difference.std(0, ddof=1) / 10).all()
    assert (conditional.std(0) < raw.std(0)).all()
