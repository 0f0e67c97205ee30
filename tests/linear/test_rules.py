"""The proximal rule against least squares on augmented rows, and its outer problem against stacked least squares."""

import numpy as np
import pytest
from stacked import ragged, relative, task

import undertow as ut
from undertow.linear.proximal_step import RATIOS, RidgeMoments, ridge_adapt, sum_ridge_moments
from undertow.linear.ridge_solve import checked_ratios

RATIOS_TRIED = [1e-2, 0.7, 5.0, 1e3, np.inf]
COVARIANCES = [None, np.array([0.5, 2.0, 0.0, 1.0, 0.1]), np.cov(np.random.default_rng(8).standard_normal((5, 9)))]


def sample(p=5, n_support=4, n_query=6, m=7, seed=0):
    return ut.MixedLinearRegression(p, 0.7, 1.0).sample(ut.Design(m, n_support, n_query), seed)


def brute_step(x, y, start, ratio, covariance=None):
    """theta by lstsq on the support rows and the penalty as further rows, in whitened weights."""
    p = x.shape[1]
    if np.isinf(ratio):
        return start
    covariance = np.eye(p) if covariance is None else np.diag(covariance) if covariance.ndim == 1 else covariance
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(0))
    rows = np.concatenate([x @ root, np.sqrt(ratio) * np.eye(p)])
    step = np.linalg.lstsq(rows, np.concatenate([y - x @ start, np.zeros(p)]), rcond=None)[0]
    return start + root @ step


def brute_rows(tasks, ratio, covariance=None):
    """B and gamma: the rule applied to a basis of starting points."""
    p = tasks.n_features
    matrices, targets = [], []
    for i in range(tasks.n_tasks):
        x_t, y_t, x_v, y_v = task(tasks, i)
        offset = brute_step(x_t, y_t, np.zeros(p), ratio, covariance)
        basis = np.stack([brute_step(x_t, y_t, e, ratio, covariance) - offset for e in np.eye(p)], axis=1)
        matrices.append(x_v @ basis)
        targets.append(y_v - x_v @ offset)
    return np.concatenate(matrices), np.concatenate(targets)


@pytest.mark.parametrize("covariance", COVARIANCES, ids=["identity", "diagonal", "full"])
@pytest.mark.parametrize("n_support", [3, 9])
@pytest.mark.parametrize("masked", [False, True])
def test_adapted_weights_are_least_squares_on_augmented_rows(covariance, n_support, masked):
    tasks = sample(n_support=n_support)
    tasks = ragged(tasks) if masked else tasks
    start = np.arange(5.0)
    for ratio in RATIOS_TRIED:
        theta = ridge_adapt(start, tasks, ratio, covariance)
        for i in range(tasks.n_tasks):
            x, y, *_ = task(tasks, i)
            assert relative(theta[i], brute_step(x, y, start, ratio, covariance)) < 1e-10


def test_own_starting_points_and_the_size_of_the_penalty():
    tasks = sample()
    starts = np.random.default_rng(1).standard_normal((7, 5))
    theta = ridge_adapt(starts, tasks, 2.0)
    for i in range(7):
        x, y = tasks.support_x[i], tasks.support_y[i]
        # Stationary for half the mean squared error with penalty ratio / n_t.
        slope = x.T @ (x @ theta[i] - y) / len(x) + 2.0 / len(x) * (theta[i] - starts[i])
        assert abs(slope).max() < 1e-12


def test_limits_of_the_ratio():
    tasks = sample(n_support=9)
    for theta, x, y in zip(ridge_adapt(np.zeros(5), tasks, 0.0), tasks.support_x, tasks.support_y, strict=True):
        assert relative(theta, np.linalg.lstsq(x, y, rcond=None)[0]) < 1e-10
    few = sample(n_support=3)
    start = np.arange(5.0)
    for theta, x, y in zip(ridge_adapt(start, few, 0.0), few.support_x, few.support_y, strict=True):
        # Of all exact fits the one nearest to the start.
        assert relative(theta, start + np.linalg.pinv(x) @ (y - x @ start)) < 1e-10
    # The same row twice: nothing is divided by the zero that this leaves.
    again = few._replace(support_x=few.support_x[:, [0, 1, 2, 2]], support_y=few.support_y[:, [0, 1, 2, 2]])
    np.testing.assert_allclose(ridge_adapt(start, again, 0.0), ridge_adapt(start, few, 0.0), rtol=1e-8)
    np.testing.assert_array_equal(ridge_adapt(start, few, np.inf), np.broadcast_to(start, (7, 5)))
    # A large penalty is a small gradient step, at rate n_t / ratio.
    near = ridge_adapt(start, few, 1e6) - start
    step = ut.linear.adapt(start, few, 3 / 1e6) - start
    assert relative(near, step) < 1e-4


def test_it_is_the_blup_when_the_ratio_is_noise_over_task_variance():
    tasks, noise, variance, mean = sample(), 0.3, 1.7, np.ones(5)
    for theta, x, y in zip(ridge_adapt(mean, tasks, noise / variance), tasks.support_x, tasks.support_y, strict=True):
        v = variance * x @ x.T + noise * np.eye(len(x))
        np.testing.assert_allclose(theta, mean + variance * x.T @ np.linalg.solve(v, y - x @ mean), rtol=1e-10)


@pytest.mark.parametrize("covariance", COVARIANCES, ids=["identity", "diagonal", "full"])
@pytest.mark.parametrize("n_support", [3, 9])
@pytest.mark.parametrize("masked", [False, True])
def test_the_outer_problem_is_stacked_least_squares(covariance, n_support, masked):
    tasks = sample(n_support=n_support)
    tasks = ragged(tasks) if masked else tasks
    moments = RidgeMoments.from_tasks(tasks, RATIOS_TRIED, covariance)
    init = np.arange(5.0)
    weights = moments.solve([0.0, 0.3], init).weights
    for r, ratio in enumerate(RATIOS_TRIED):
        matrix, target = brute_rows(tasks, ratio, covariance)
        full = np.column_stack([matrix, target])
        assert relative(moments.gram[r], full.T @ full) < 1e-10
        if np.linalg.cond(matrix) < 1e4:
            plain = init + np.linalg.lstsq(matrix, target - matrix @ init, rcond=None)[0]
            assert relative(weights[r, 0], plain) < 1e-6
        weight = np.sqrt(0.3 * (matrix**2).sum() / 5)
        rows = np.concatenate([matrix, weight * np.eye(5)])
        rest = np.concatenate([target - matrix @ init, np.zeros(5)])
        assert relative(weights[r, 1], init + np.linalg.lstsq(rows, rest, rcond=None)[0]) < 1e-9


def test_losses_are_those_of_adapted_weights():
    train, new = sample(m=30), sample(seed=5)
    moments = RidgeMoments.from_tasks(new, RATIOS_TRIED)
    weights = RidgeMoments.from_tasks(train, RATIOS_TRIED).solve([0.1, 1.0]).weights
    losses = moments.loss(weights)
    assert losses.shape == (5, 2)
    for r, ratio in enumerate(RATIOS_TRIED):
        for s in range(2):
            theta = ridge_adapt(weights[r, s], new, ratio)
            error = (new.query_x @ theta[..., None])[..., 0] - new.query_y
            assert losses[r, s] == pytest.approx(0.5 * (error**2).mean(), rel=1e-10)
    np.testing.assert_allclose(moments.loss(weights[2, 1])[2], losses[2, 1], rtol=1e-12)
    np.testing.assert_allclose(moments.loss(weights[2])[2], losses[2], rtol=1e-12)


def test_no_adaptation_is_the_path_at_rate_zero():
    tasks = ragged(sample(m=20))
    moments = RidgeMoments.from_tasks(tasks, [np.inf])
    path = ut.rate_path(tasks, 0.0)
    assert relative(moments.solve().weights[0, 0], path.weights[0]) < 1e-10
    assert moments.loss(path.weights[0])[0] == pytest.approx(path.meta_loss[0], rel=1e-10)


def test_moments_add_up_and_tasks_may_weigh_alike():
    tasks = ragged(sample(m=12))
    whole = RidgeMoments.from_tasks(tasks, RATIOS_TRIED)
    parts = [RidgeMoments.from_tasks(tasks.select(slice(i, i + 4)), RATIOS_TRIED) for i in (0, 4, 8)]
    for other in (sum_ridge_moments(parts), parts[0] + parts[1] + parts[2]):
        np.testing.assert_allclose(other.gram, whole.gram, rtol=1e-10, atol=1e-10)
        assert (other.weight, other.n_rows, other.n_tasks) == (whole.weight, whole.n_rows, 12)
    alike = RidgeMoments.from_tasks(tasks, [1.0], weighting="tasks")
    assert alike.weight == 12
    each = [RidgeMoments.from_tasks(tasks.select([i]), [1.0]) for i in range(12)]
    np.testing.assert_allclose(alike.gram, sum(e.gram / e.n_rows for e in each), rtol=1e-10)
    assert alike.loss(np.ones(5))[0] == pytest.approx(np.mean([e.loss(np.ones(5))[0] for e in each]), rel=1e-10)


def test_rows_weighed_by_the_square_root_of_their_weight():
    tasks = sample(m=3)
    doubled = tasks._replace(
        support_x=np.repeat(tasks.support_x, 2, axis=1), support_y=np.repeat(tasks.support_y, 2, axis=1)
    )
    heavy = tasks._replace(support_x=np.sqrt(2) * tasks.support_x, support_y=np.sqrt(2) * tasks.support_y)
    np.testing.assert_allclose(ridge_adapt(np.ones(5), heavy, 0.7), ridge_adapt(np.ones(5), doubled, 0.7), rtol=1e-10)


def test_chunks_do_not_change_the_sums():
    # Large enough for several chunks.
    tasks = ragged(sample(m=9000))
    single = [tasks.select(slice(start, start + 90)) for start in range(0, 9000, 90)]
    whole, parts = (RidgeMoments.from_tasks(part, RATIOS_TRIED).gram for part in (single, tasks))
    np.testing.assert_allclose(parts, whole, rtol=1e-11, atol=1e-11 * abs(whole).max())
    theta = np.concatenate([ridge_adapt(np.ones(5), part, 0.7) for part in single])
    np.testing.assert_allclose(ridge_adapt(np.ones(5), tasks, 0.7), theta, rtol=1e-10)


def test_float32_stays_float32_and_near():
    tasks = sample(m=50)
    small = tasks._replace(**{name: getattr(tasks, name).astype(np.float32) for name in tasks._fields[:4]})
    theta = ridge_adapt(np.zeros(5, np.float32), small, 0.7)
    assert theta.dtype == np.float32
    assert relative(theta, ridge_adapt(np.zeros(5), tasks, 0.7)) < 1e-5
    a, b = RidgeMoments.from_tasks(small, [0.7]), RidgeMoments.from_tasks(tasks, [0.7])
    assert a.eps == np.finfo(np.float32).eps
    assert relative(a.solve(1e-3).weights, b.solve(1e-3).weights) < 1e-4


@pytest.mark.parametrize("covariance", COVARIANCES, ids=["identity", "diagonal", "full"])
@pytest.mark.parametrize("n_support", [3, 9])
def test_a_negative_ratio_is_the_prediction_by_rows_that_repel_each_other(covariance, n_support):
    tasks, start = sample(n_support=n_support), np.arange(5.0)
    c = np.eye(5) if covariance is None else np.diag(covariance) if covariance.ndim == 1 else covariance
    tops = np.array([np.linalg.eigvalsh(x @ c @ x.T)[-1] for x in tasks.support_x])
    reach = np.sort(tops)[2:4].mean()
    for ratio, limit in ((-1.1 * tops.max(), np.inf), (-1.1 * tops.max(), reach), (-reach, np.inf)):
        theta = ridge_adapt(start, tasks, ratio, covariance, limit)
        batch = RidgeMoments.from_tasks(tasks, [ratio], covariance, reach=limit)
        errors = 0.0
        for i, top in enumerate(tops):
            x, y, z, t = task(tasks, i)
            # The best linear prediction where weights vary by -C and noise by -ratio.
            expected = start - c @ x.T @ np.linalg.solve(-ratio * np.eye(n_support) - x @ c @ x.T, y - x @ start)
            expected = expected if top < min(-ratio, limit) else start
            assert relative(theta[i], expected) < 1e-9
            errors += ((t - z @ expected) ** 2).sum()
        assert batch.loss(start)[0] == pytest.approx(errors / 2 / batch.n_rows, rel=1e-9)


def test_it_beats_gradient_steps_on_its_own_model():
    # Weights vary by 1 around a mean, noise variance 0.49: the right ratio is the best of the grid on held-out tasks.
    problem = ut.MixedLinearRegression(5, 0.7, np.sqrt(5.0), mean_weights=np.ones(5))
    train = problem.sample(ut.Design(400, 4, 10), 0)
    new = problem.sample(ut.Design(2000, 4, 10), 1)
    ratios = np.append(0.49 * 4.0 ** np.arange(-3, 4), np.inf)
    losses = RidgeMoments.from_tasks(new, ratios).loss(RidgeMoments.from_tasks(train, ratios).solve(1e-6).weights)[:, 0]
    assert losses.argmin() == 3
    path = ut.rate_path(train, 0.0)
    surface = path.evaluate(new)
    assert losses.min() < 0.9 * surface.loss(float(surface.best_adapt_rate[0]))[0]


def test_messages():
    tasks = sample()
    with pytest.raises(ut.InputError, match="ratio=-1"):
        checked_ratios([0.5, -1.0])
    with pytest.raises(ut.InputError, match="ratio=nan"):
        ridge_adapt(np.zeros(5), tasks, np.nan)
    with pytest.raises(ut.InputError, match=r"must be \(5,\) or \(7, 5\)"):
        ridge_adapt(np.zeros(4), tasks, 1.0)
    with pytest.raises(ut.InputError, match="task_covariance has shape"):
        ridge_adapt(np.zeros(5), tasks, 1.0, np.ones(4))
    with pytest.raises(ut.InputError, match="a variance cannot be negative"):
        ridge_adapt(np.zeros(5), tasks, 1.0, -np.ones(5))
    with pytest.raises(ut.InputError, match="negative eigenvalue"):
        ridge_adapt(np.zeros(5), tasks, 1.0, -np.eye(5))
    moments = RidgeMoments.from_tasks(tasks, [1.0])
    with pytest.raises(ut.InputError, match="ridge=-1"):
        moments.solve(-1.0)
    with pytest.raises(ut.InputError, match="init has shape"):
        moments.solve(0.0, np.zeros(4))
    with pytest.raises(ut.InputError, match="weights have shape"):
        moments.loss(np.zeros(4))
    with pytest.raises(ut.InputError, match="different ratios"):
        moments + RidgeMoments.from_tasks(tasks, [2.0])
    with pytest.raises(ut.InputError, match="support_x"):
        RidgeMoments.from_tasks(tasks._replace(support_x=np.full_like(tasks.support_x, np.nan)), [1.0])
    assert RATIOS[-1] == np.inf
    assert (np.diff(RATIOS) > 0).all()


@pytest.mark.parametrize("n_support", [3, 9])
@pytest.mark.parametrize("ratio", [1e-12, 0.3, 200.0])
def test_a_single_ratio_takes_a_shorter_way_to_the_same_numbers(n_support, ratio):
    problem = ut.MixedLinearRegression(5, 0.5, 1.0)
    tasks = problem.sample(ut.Design(40, n_support, 6), seed=3)
    alone = RidgeMoments.from_tasks(tasks, [ratio])
    among = RidgeMoments.from_tasks(tasks, [ratio, np.inf])
    np.testing.assert_allclose(alone.gram[0], among.gram[0], rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(among.at_ratio(1).gram, among.gram[1:])
    assert (alone.weight, alone.n_rows, alone.n_tasks) == (among.weight, among.n_rows, among.n_tasks)
    narrow = ut.TaskBatch(*(np.asarray(field, np.float32) for field in tasks[:4]))
    theta, exact = (ridge_adapt(np.ones(5, b.support_x.dtype), b, max(ratio, 0.3)) for b in (narrow, tasks))
    assert theta.dtype == np.float32
    np.testing.assert_allclose(theta, exact, rtol=2e-4, atol=2e-5)


def test_a_diagonal_covariance_is_that_matrix():
    problem = ut.MixedLinearRegression(5, 0.5, 1.0)
    tasks = problem.sample(ut.Design(20, 4, 1), seed=4)
    variances = np.array([1.0, 0.0, 0.3, 2.0, 0.0])
    for ratio in (0.0, 0.4):
        np.testing.assert_allclose(
            ridge_adapt(np.ones(5), tasks, ratio, variances),
            ridge_adapt(np.ones(5), tasks, ratio, np.diag(variances)),
            rtol=1e-8,
            atol=1e-10,
        )
