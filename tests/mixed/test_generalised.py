"""The mixed model of two values and counts: against a Laplace written out task by task, quadrature, and the truth."""

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.special

import undertow as ut
from undertow._batch import TaskBatch
from undertow.mixed import LaplaceRule, fit_generalised
from undertow.mixed.families import FAMILIES, average, count_quantiles
from undertow.mixed.laplace import LinkRows, evaluate

BOTH = pytest.mark.parametrize("family", ["binomial", "poisson"])
MEAN = np.array([0.5, -0.3, 0.2])
DEVIATIONS = np.array([0.4, 0.0, 0.7])


def draw(family, n_tasks, counts, seed=0, mean=MEAN, deviations=DEVIATIONS, weights=None):
    """Rows of the model itself; the last column is 1. counts: rows of each task, or the range they are drawn from."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*counts, size=n_tasks) if isinstance(counts, tuple) else np.full(n_tasks, counts)
    task = np.repeat(np.arange(n_tasks), sizes)
    x = np.column_stack([rng.standard_normal((len(task), len(mean) - 1)), np.ones(len(task))])
    own = mean + rng.standard_normal((n_tasks, len(mean))) * deviations
    y = outcomes(family, (x * own[task]).sum(axis=1), rng)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return LinkRows(x, y, offsets, np.ones(len(y)) if weights is None else weights(rng, len(y)))


def outcomes(family, eta, rng):
    if family == "poisson":
        return rng.poisson(np.exp(eta)).astype(float)
    return (rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(float)


def log_density(family, y, eta):
    if family == "poisson":
        return y * eta - np.exp(eta) - scipy.special.gammaln(y + 1)
    return -np.logaddexp(0, np.where(y == 1, -eta, eta))


def written_out(rows, family, varying, mean, scale):
    """The log-likelihood by Laplace's approximation, one task after the other, each mode by SciPy."""
    total = 0.0
    for first, last in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        x, y, w = rows.x[first:last], rows.y[first:last], rows.weights[first:last]

        def joint(v, x=x, y=y, w=w):
            eta = x @ mean + x[:, varying] @ (scale * v)
            return 0.5 * v @ v - w @ log_density(family, y, eta)

        v = scipy.optimize.minimize(joint, np.zeros(len(scale)), method="BFGS", options={"gtol": 1e-9}).x
        eta = x @ mean + x[:, varying] @ (scale * v)
        variance = np.exp(eta) if family == "poisson" else np.exp(-eta) / (1 + np.exp(-eta)) ** 2
        loaded = x[:, varying] * scale
        curvature = np.eye(len(scale)) + loaded.T @ (loaded * (w * variance)[:, None])
        total -= joint(v) + 0.5 * np.linalg.slogdet(curvature)[1]
    return total


def by_quadrature(rows, family, mean, deviation):
    """The log-likelihood itself, of a random intercept, on a grid far finer than any task's own peak."""
    grid = np.linspace(-7, 7, 701)
    shares = np.exp(-0.5 * grid**2) / np.exp(-0.5 * grid**2).sum()
    eta = (rows.x @ mean)[:, None] + deviation * grid
    each = np.add.reduceat(log_density(family, rows.y[:, None], eta), rows.offsets[:-1], axis=0)
    return float(np.sum(np.logaddexp.reduce(each + np.log(shares), axis=1)))


@BOTH
@pytest.mark.parametrize("scale", [(0.5, 0.8), (0.0, 0.8), (0.0, 0.0)])
def test_the_likelihood_and_its_slopes_are_those_of_a_laplace_that_is_written_out(family, scale):
    rows = draw(family, 12, (1, 9), weights=lambda rng, n: rng.integers(1, 4, n).astype(float))
    varying, mean, scale = np.array([0, 2]), np.array([0.4, -0.1, 0.1]), np.array(scale)
    ours = evaluate(rows, FAMILIES[family], varying, mean, scale)
    # The constant of a count is in the density of each row.
    assert ours.value == pytest.approx(written_out(rows, family, varying, mean, scale), abs=1e-7)

    def at(point):
        return evaluate(rows, FAMILIES[family], varying, point[:3], point[3:]).value

    step = 1e-5
    point = np.concatenate([mean, scale])
    slopes = [(at(point + step * e) - at(point - step * e)) / (2 * step) for e in np.eye(5)]
    np.testing.assert_allclose(np.concatenate([ours.by_mean, ours.by_scale]), slopes, atol=1e-6)


@BOTH
def test_a_fit_is_at_the_top_of_a_likelihood_that_is_written_out(family):
    rows = draw(family, 12, (2, 9), seed=3)
    fit = fit_generalised(rows, family=family, mean_scale=np.inf)
    assert fit.converged
    top, step = np.append(fit.mean, np.sqrt(fit.task_covariance[2])), 0.02

    def at(point):
        return written_out(rows, family, np.array([2]), point[:3], point[3:])

    value = at(top)
    assert fit.log_likelihood == pytest.approx(value, abs=1e-7)
    for way in np.eye(4):
        above, below = at(top + step * way), at(top - step * way)
        assert max(above, below) < value
        # Of a parabola the top lies where both sides are alike.
        assert abs((above - below) / (above + below - 2 * value) * step / 2) < 0.05 * step


@BOTH
def test_the_error_of_laplace_is_that_of_a_quadrature_and_falls_with_the_rows(family):
    errors = []
    for n in (8, 32, 128):
        rows = draw(family, 20, n, seed=1, deviations=np.array([0.0, 0.0, 0.7]))
        value = evaluate(rows, FAMILIES[family], np.array([2]), MEAN, np.array([0.7])).value
        errors.append(abs(value - by_quadrature(rows, family, MEAN, 0.7)) / 20)
    print(errors)
    # Relative error of a task's likelihood: of the order of one over its rows.
    assert errors[0] < 0.02
    assert errors[2] < 0.5 * errors[1] < 0.5 * errors[0]


@BOTH
def test_estimates_lie_around_the_truth_by_their_standard_errors(family):
    # Counts say more about a task than two values do: there Laplace's own error is far below the standard error.
    far, deviations = [], []
    for seed in range(12):
        fit = fit_generalised(draw(family, 150, 12, seed, deviations=np.array([0.0, 0.0, 0.7])), family=family)
        far.append((fit.mean - MEAN) / np.sqrt(np.diag(fit.mean_covariance)))
        deviations.append(np.sqrt(fit.task_covariance[2]))
    far = np.array(far)
    assert np.abs(far.mean(axis=0) * np.sqrt(len(far))).max() < 3.5
    # Mean square of 36 standard normal numbers: 1, with standard deviation sqrt(2 / 36).
    assert abs((far**2).mean() - 1) < 3.5 * np.sqrt(2 / far.size)
    bias = np.mean(deviations) - 0.7
    error = np.std(deviations, ddof=1) / np.sqrt(len(deviations))
    # Two values in tasks of 12: Laplace's deviation is up to 4 % too small, as the quadrature test above allows.
    assert abs(bias) < 3.5 * error + (0.03 if family == "binomial" else 0.0)


@BOTH
def test_diagonal_slopes_find_the_column_that_does_not_vary(family):
    fit = fit_generalised(draw(family, 300, 25, seed=5), "diagonal", family=family)
    np.testing.assert_allclose(np.sqrt(fit.task_covariance), DEVIATIONS, atol=0.15)
    assert fit.task_covariance[1] < 0.01
    intercept = fit_generalised(draw(family, 300, 25, seed=5), family=family)
    assert fit.log_likelihood > intercept.log_likelihood + 10


@BOTH
def test_tasks_that_do_not_differ_have_no_variance_and_the_weights_of_a_plain_regression(family):
    found = [fit_generalised(draw(family, 60, 6, seed, deviations=np.zeros(3)), family=family) for seed in range(6)]
    none = [
        fit_generalised(draw(family, 60, 6, seed, deviations=np.zeros(3)), "none", family=family) for seed in range(6)
    ]
    assert any(not fit.task_covariance.any() for fit in found)
    for with_it, without in zip(found, none, strict=True):
        assert with_it.log_likelihood >= without.log_likelihood - 1e-6
        if not with_it.task_covariance.any():
            np.testing.assert_allclose(with_it.mean, without.mean, atol=1e-4)


@BOTH
def test_without_variance_it_is_the_generalised_linear_model_of_statsmodels(family):
    sm = pytest.importorskip("statsmodels.api")
    rows = draw(family, 40, 8)
    kind = sm.families.Binomial() if family == "binomial" else sm.families.Poisson()
    theirs = sm.GLM(rows.y, rows.x, family=kind).fit(tol=1e-12)
    ours = fit_generalised(rows, "none", family=family, mean_scale=np.inf)
    np.testing.assert_allclose(ours.mean, theirs.params, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(ours.mean_covariance)), theirs.bse, rtol=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.llf, abs=1e-6)


@BOTH
def test_a_row_of_weight_two_is_two_rows(family):
    rows = draw(family, 20, (1, 6), weights=lambda rng, n: rng.integers(1, 4, n).astype(float))
    times = rows.weights.astype(int)
    offsets = np.concatenate([[0], np.cumsum(rows.sums(rows.weights).astype(int))])
    copies = LinkRows(np.repeat(rows.x, times, axis=0), np.repeat(rows.y, times), offsets, np.ones(times.sum()))
    one, other = (fit_generalised(each, family=family) for each in (rows, copies))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-5)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-6)


@BOTH
def test_units_of_features_change_nothing(family):
    rows = draw(family, 30, 6)
    units = np.array([1e4, 1e-3, 1.0])
    one, other = (fit_generalised(each, "diagonal", family=family) for each in (rows, rows._replace(x=rows.x * units)))
    np.testing.assert_allclose(other.mean * units, one.mean, atol=1e-5)
    np.testing.assert_allclose(other.task_covariance * units**2, one.task_covariance, atol=1e-4)


def test_a_feature_that_parts_the_values_has_finite_weights_or_a_way_out():
    x = np.column_stack([np.linspace(-1, 1, 60), np.ones(60)])
    parted = LinkRows(x, (x[:, 0] > 0).astype(float), np.arange(0, 61, 6), np.ones(60))
    fit = fit_generalised(parted, family="binomial")
    assert np.isfinite(fit.mean).all()
    assert fit.mean[0] > 3
    with pytest.raises(ut.InputError, match="Leave it out"):
        fit_generalised(parted, family="binomial", mean_scale=np.inf)
    rare = np.zeros(60)
    rare[::7] = 1
    counts = LinkRows(
        np.column_stack([rare, np.ones(60)]), np.where(rare > 0, 0.0, 2.0), np.arange(0, 61, 6), np.ones(60)
    )
    assert fit_generalised(counts, family="poisson").mean[0] < -3
    with pytest.raises(ut.InputError, match="Leave it out"):
        fit_generalised(counts, family="poisson", mean_scale=np.inf)


def test_tasks_of_one_kind_each_have_a_finite_fit():
    # Every ward is all 0 or all 1: the likeliest variance is without bound, and stays at a limit.
    y = np.repeat(np.arange(40) % 2, 5).astype(float)
    rng = np.random.default_rng(0)
    rows = LinkRows(np.column_stack([rng.standard_normal(200), np.ones(200)]), y, np.arange(0, 201, 5), np.ones(200))
    fit = fit_generalised(rows, family="binomial")
    assert np.isfinite(fit.mean).all()
    free = fit_generalised(rows, family="binomial", mean_scale=np.inf)
    assert 2 < np.sqrt(fit.task_covariance[1]) < np.sqrt(free.task_covariance[1]) <= 20
    alone = fit_generalised(draw("binomial", 80, 1), family="binomial")
    assert np.isfinite([*alone.mean, *alone.task_covariance, alone.log_likelihood]).all()


def test_counts_that_are_nearly_all_0_do_not_promise_a_new_task_more_than_any_had():
    rows = draw("poisson", 30, 10)._replace(y=np.r_[1.0, np.zeros(299)])
    fit = fit_generalised(rows, family="poisson")
    expected = average("poisson", rows.x @ fit.mean, np.full(300, fit.task_covariance[2]))
    assert np.isfinite(expected).all()
    assert np.median(expected) < 1


@pytest.mark.parametrize(
    ("family", "y"),
    [
        ("binomial", [0, 0, 0]),
        ("binomial", [0, 1, 2]),
        ("poisson", [0, 0, 0]),
        ("poisson", [1, -1, 2]),
        ("poisson", [0.5, 1, 1]),
    ],
)
def test_targets_that_have_no_fit_are_refused(family, y):
    rows = LinkRows(np.ones((3, 1)), np.array(y, dtype=float), np.array([0, 2, 3]), np.ones(3))
    with pytest.raises(ut.InputError):
        fit_generalised(rows, family=family)


def test_unknown_names_are_refused():
    rows = draw("poisson", 5, 3)
    for family, structure, scale in (("gamma", "none", None), ("poisson", "full", None), ("poisson", "none", 0.0)):
        with pytest.raises(ut.InputError):
            fit_generalised(rows, structure, family=family, mean_scale=scale)


@BOTH
def test_a_task_adapts_to_its_mode_and_to_what_curvature_leaves_open(family):
    rows = draw(family, 6, (1, 8), seed=2, weights=lambda rng, n: rng.integers(1, 4, n).astype(float))
    rule = LaplaceRule(family, np.array([0.3, 0.0, 0.5]), low=-1.0 if family == "binomial" else 0.0)
    omega = np.array([0.4, -0.1, 0.1])
    longest = int(np.diff(rows.offsets).max())
    x, y = np.zeros((6, longest, 3)), np.zeros((6, longest))
    mask = np.zeros((6, longest), dtype=bool)
    targets = 2 * rows.y - 1 if family == "binomial" else rows.y
    for i, (first, last) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        root = np.sqrt(rows.weights[first:last])
        x[i, : last - first], y[i, : last - first] = rows.x[first:last] * root[:, None], targets[first:last] * root
        mask[i, : last - first] = True
    batch = TaskBatch(x, y, x[:, :1], y[:, :1], support_mask=mask)
    theta = rule.adapt(omega, batch)
    spread = rule.spread(theta, batch)
    for i, (first, last) in enumerate(zip(rows.offsets[:-1], rows.offsets[1:], strict=True)):
        own, target, w = rows.x[first:last], rows.y[first:last], rows.weights[first:last]

        def joint(both, own=own, target=target, w=w):
            eta = own @ (omega + np.array([both[0], 0, both[1]]))
            return 0.5 * (both[0] ** 2 / 0.3 + both[1] ** 2 / 0.5) - w @ log_density(family, target, eta)

        mode = scipy.optimize.minimize(joint, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(theta[i] - omega, [mode[0], 0, mode[1]], atol=1e-6)
        step, corners = 1e-3, np.eye(2)
        hessian = [
            [
                sum(s * t * joint(mode + step * (s * a + t * b)) for s in (1, -1) for t in (1, -1)) / (4 * step**2)
                for b in corners
            ]
            for a in corners
        ]
        np.testing.assert_allclose(spread[i], np.linalg.inv(hessian), rtol=1e-3)


def test_means_and_quantiles_of_a_new_target_are_those_of_the_mixture():
    eta, variance = np.array([-2.0, 0.0, 1.5, 0.3]), np.array([0.0, 0.5, 4.0, 30.0])
    for family in ("binomial", "poisson"):
        for e, v, ours in zip(eta, variance, average(family, eta, variance), strict=True):
            if family == "poisson" and v > 5:
                continue
            grid = np.linspace(-9, 9, 20_001)
            density = np.exp(-0.5 * grid**2)
            values = FAMILIES[family].mean(e + np.sqrt(v) * grid)
            assert ours == pytest.approx(values @ density / density.sum(), rel=1e-6)
    for share in (0.05, 0.5, 0.95):
        rng = np.random.default_rng(1)
        ours = count_quantiles(eta[:3], variance[:3], share)
        for e, v, q in zip(eta[:3], variance[:3], ours, strict=True):
            drawn = rng.poisson(np.exp(e + np.sqrt(v) * rng.standard_normal(40_000)))
            error = 4 * np.sqrt(share * (1 - share) / 40_000)
            assert (drawn <= q).mean() >= share - error
            assert (drawn <= q - 1).mean() < share + error


def test_a_table_is_fitted_as_its_rows_are():
    rows = draw("poisson", 30, (1, 6))
    task = np.repeat(np.arange(30), np.diff(rows.offsets))
    pa = pytest.importorskip("pyarrow")
    columns = {"task": task, "a": rows.x[:, 0], "b": rows.x[:, 1], "y": rows.y, "n": np.full(len(task), 2.0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ut.tasks.TableNote)
        table = ut.tasks.read_table(pa.table(columns), "task", "y", features=["a", "b"])
        precise = ut.tasks.read_table(
            pa.table(columns), "task", "y", features=["a"], weights="n", weights_are="precision"
        )
    one, other = fit_generalised(table.with_intercept(), family="poisson"), fit_generalised(rows, family="poisson")
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-6)
    with pytest.raises(ut.InputError, match="precision"):
        fit_generalised(precise.with_intercept(), family="poisson")
    with pytest.raises(ut.InputError, match="constant"):
        fit_generalised(table, family="poisson")
