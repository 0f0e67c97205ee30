"""The kernel path against the linear one, against brute force in feature space, and its outcomes and errors."""

import feature_space
import numpy as np
import pytest

import undertow as ut
from undertow.kernel import KernelBlocks, kernel_path, linear_kernel, relu_ntk

RATES = [-np.inf, -4.0, -0.7, -0.05, 0.0, 0.1, 0.9, 3.0, np.inf]
SIZES = {"tall": (8, 20, 12, 5), "wide": (30, 4, 40, 3), "square": (12, 3, 30, 4), "long": (5, 2, 9, 40)}


def sample(p, m, n_t, n_v, seed=3):
    problem = ut.MixedLinearRegression(p, 0.5, 1.0, mean_weights=np.linspace(-1, 1, p))
    return problem.sample(ut.Design(m, n_t, n_v), seed)


def relative(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


class Features:
    """A few random ReLU features and a nonzero function to start from."""

    def __init__(self, p, count, seed=0):
        rng = np.random.default_rng(seed)
        self.w, self.b = rng.standard_normal((2, count, p))
        self.c = rng.standard_normal(count)

    def __call__(self, x):
        return np.maximum(x @ self.w.T + self.c, 0) / np.sqrt(len(self.w))

    def f0(self, x):
        return 1.0 + np.sin(x @ self.b[0])

    def kernel(self, x, z):
        return self(x) @ self(z).T


# ---- against the linear path: the dual form is the primal form


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("with_init", [False, True])
@pytest.mark.parametrize("shape", SIZES)
def test_linear_kernel_gives_the_rate_path(shape, with_init, steps):
    tasks = sample(*SIZES[shape])
    p = tasks.n_features
    init = np.random.default_rng(0).standard_normal(p) if with_init else None
    f0 = (lambda x: x @ init) if with_init else None
    primal = ut.rate_path(tasks, RATES, init=init, steps=steps)
    dual = kernel_path(linear_kernel, tasks, RATES, f0=f0, steps=steps)
    x = np.random.default_rng(1).standard_normal((50, p))
    for ours, theirs in zip(dual.predict(x), primal.weights @ x.T, strict=True):
        assert relative(ours, theirs) < 1e-9
    finite = np.isfinite(RATES)
    np.testing.assert_allclose(dual.meta_loss[finite], primal.meta_loss[finite], rtol=1e-9, atol=1e-16)
    assert dual.scale == pytest.approx(primal.scale, rel=1e-12)
    assert (dual.rank == primal.rank).all()
    # One is a ratio of singular values, the other an estimate in the 1-norm, at most a factor of N away (its root).
    assert (np.abs(np.log(dual.condition / primal.condition)) <= np.log(dual.n_rows) / 2).all()
    fits = dual.n_rows <= p
    assert set(dual.outcome) <= {"minimum_norm" if fits else "least_squares", "ill_conditioned"}
    assert (np.isinf(dual.meta_loss[~finite]) != fits).all()


def test_default_grid_and_spectral_rates_are_those_of_the_rate_path():
    tasks = sample(*SIZES["wide"])
    primal, dual = ut.rate_path(tasks), kernel_path(linear_kernel, tasks)
    np.testing.assert_allclose(dual.train_rates, primal.train_rates, rtol=1e-12)
    np.testing.assert_allclose(dual.angles, primal.angles, rtol=1e-12)
    np.testing.assert_allclose(dual.predict(np.eye(30)), primal.weights, atol=1e-9)
    spectral = kernel_path(linear_kernel, tasks, [-2.0, 0.5], rate_unit="spectral")
    np.testing.assert_allclose(spectral.spectral_rates, [-2.0, 0.5])
    np.testing.assert_allclose(spectral.train_rates, np.array([-2.0, 0.5]) * primal.scale)


@pytest.mark.parametrize("weighting", ["rows", "tasks"])
@pytest.mark.parametrize("steps", [1, 2])
def test_ragged_tasks_and_weights_of_rows(steps, weighting):
    # A kernel that is not defined where padding would put zeros.
    def kernel(x, z):
        assert (np.abs(x).sum(1) > 0).all()
        assert (np.abs(z).sum(1) > 0).all()
        return x @ z.T

    tasks = feature_space.ragged(sample(6, 15, 8, 5))
    new = feature_space.ragged(sample(6, 30, 7, 9, seed=4), 1)
    init = np.linspace(1, 2, 6)
    primal = ut.rate_path(tasks, RATES, init=init, steps=steps, weighting=weighting)
    dual = kernel_path(kernel, tasks, RATES, f0=lambda x: x @ init, steps=steps, weighting=weighting)
    np.testing.assert_allclose(dual.predict(np.eye(6)), primal.weights, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(dual.meta_loss, primal.meta_loss, rtol=1e-9)
    assert dual.scale == pytest.approx(primal.scale, rel=1e-12)
    assert dual.n_rows == tasks.query_mask.sum()
    ours, theirs = (path.evaluate(new, steps=steps, weighting=weighting, per_task=True) for path in (dual, primal))
    np.testing.assert_allclose(ours.products, theirs.products, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ours.task_products, theirs.task_products, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(ours.task_rows, theirs.task_rows)
    np.testing.assert_array_equal(ours.task_ids, theirs.task_ids)


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_ridges_are_those_of_the_rate_path_in_units_of_rows(shape):
    tasks = sample(*SIZES[shape])
    p, init = tasks.n_features, np.linspace(0, 1, tasks.n_features)
    ridges = np.array([0.0, 1e-4, 0.1, 10.0])
    dual = kernel_path(linear_kernel, tasks, RATES, ridge=ridges, f0=lambda x: x @ init)
    primal = ut.rate_path(tasks, RATES, ridge=ridges * p / dual.n_rows, init=init)
    np.testing.assert_allclose(dual.predict(np.eye(p)), primal.weights, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(dual.meta_loss[1:-1], primal.meta_loss[1:-1], rtol=1e-8, atol=1e-20)
    assert (dual.outcome[:, 1:] == "ridge").all()
    for j in (0, 2):
        one = kernel_path(linear_kernel, tasks, RATES, ridge=ridges[j], f0=lambda x: x @ init)
        np.testing.assert_allclose(one.predict(np.eye(p)), dual.predict(np.eye(p))[:, j], rtol=1e-9, atol=1e-10)
    new = sample(p, 10, 9, 7, seed=5)
    ours, theirs = dual.evaluate(new), primal.evaluate(new)
    np.testing.assert_allclose(ours.loss([-0.1, 0.2]), theirs.loss([-0.1, 0.2]), rtol=1e-8)
    assert ours.best().ridge == pytest.approx(theirs.best().ridge * dual.n_rows / p)


@pytest.mark.parametrize("steps", [1, 3])
def test_surfaces_are_those_of_the_rate_path(steps):
    tasks = sample(*SIZES["wide"])
    new = [sample(30, 12, 9, 7, seed=5), sample(30, 5, 4, 20, seed=6)]
    init = np.linspace(0, 1, 30)
    primal, dual = (
        ut.rate_path(tasks, RATES, init=init),
        kernel_path(linear_kernel, tasks, RATES, f0=lambda x: x @ init),
    )
    ours, theirs = dual.evaluate(new, steps=steps), primal.evaluate(new, steps=steps)
    np.testing.assert_allclose(ours.loss(0.2), theirs.loss(0.2), rtol=1e-9)
    np.testing.assert_allclose(ours.best_adapt_rate, theirs.best_adapt_rate, rtol=1e-6)
    fine = dual.refine(ours, new)
    np.testing.assert_allclose(fine[:3], primal.refine(theirs, new)[:3], rtol=1e-4)
    assert fine.loss <= ours.best().loss


# ---- against brute force in feature space, f0 not zero


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("count", [6, 60])
def test_path_equals_brute_force_with_explicit_features(count, steps):
    tasks, features = sample(4, 6, 7, 3), Features(4, count)
    path = kernel_path(features.kernel, tasks, RATES, f0=features.f0, steps=steps)
    x = np.random.default_rng(1).standard_normal((20, 4))
    np.testing.assert_allclose(
        kernel_path(features.kernel, tasks, f0=features.f0, steps=steps).at(RATES).weights, path.weights
    )
    for i, rate in enumerate(RATES):
        delta, loss = feature_space.fit(features, features.f0, tasks, rate, steps)
        np.testing.assert_allclose(path.predict(x)[i], features.f0(x) + features(x) @ delta, rtol=1e-8, atol=1e-8)
        if np.isfinite(rate):
            assert path.meta_loss[i] == pytest.approx(loss, rel=1e-8, abs=1e-18)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("rate", [-0.3, 0.0, 0.4])
@pytest.mark.filterwarnings("ignore:adapt_rate")
def test_adaptation_equals_hand_written_steps(rate, steps):
    features = Features(4, 25)
    tasks, new = sample(4, 6, 7, 3), feature_space.ragged(sample(4, 5, 6, 8, seed=9))
    path = kernel_path(features.kernel, tasks, RATES, f0=features.f0)
    surface = path.evaluate(new, steps=steps, per_task=True)
    predictions = path.predict_adapted(new, rate, steps=steps)
    assert predictions.shape == (len(RATES), 5, 8)
    for i, train_rate in enumerate(RATES):
        delta, _ = feature_space.fit(features, features.f0, tasks, train_rate)
        truth = feature_space.adapted(features, features.f0, delta, new, rate, steps)
        losses = [0.5 * np.mean((t - feature_space.task(new, j)[3]) ** 2) for j, t in enumerate(truth)]
        for j, expected in enumerate(truth):
            np.testing.assert_allclose(predictions[i, j][new.query_mask[j]], expected, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(surface.task_loss(rate)[:, i], losses, rtol=1e-8)
        assert surface.loss(rate)[i] == pytest.approx(np.average(losses, weights=new.query_counts), rel=1e-8)
    best = surface.best_loss
    assert (best <= surface.loss(rate) * (1 + 1e-12)).all()


def test_a_kernel_without_explicit_features_equals_brute_force_with_its_root():
    tasks, new = sample(4, 5, 6, 4), sample(4, 3, 5, 6, seed=8)
    rows = np.concatenate([x.reshape(-1, 4) for x in (tasks[0], tasks[2], new[0], new[2])])
    values, vectors = np.linalg.eigh(relu_ntk(rows))
    table = dict(zip(map(bytes, rows), vectors * np.sqrt(values), strict=True))
    features = lambda x: np.array([table[bytes(row)] for row in x])  # noqa: E731
    f0 = lambda x: np.cos(x[:, 0])  # noqa: E731
    path = kernel_path(relu_ntk, tasks, [-1.0, 0.0, 0.5], f0=f0)
    assert (path.outcome == "minimum_norm").all()
    for i, rate in enumerate(path.train_rates):
        delta, loss = feature_space.fit(features, f0, tasks, rate)
        truth = feature_space.adapted(features, f0, delta, new, 0.2)
        np.testing.assert_allclose(path.predict_adapted(new, 0.2)[i], truth, rtol=1e-7, atol=1e-8)
        assert path.meta_loss[i] == pytest.approx(loss, abs=1e-20)


def test_the_terms_are_those_of_the_formula():
    tasks = sample(4, 3, 5, 2)
    blocks = KernelBlocks.of(relu_ntk, tasks)
    v, t = tasks.query_x.reshape(-1, 4), tasks.support_x.reshape(-1, 4)
    lift = np.zeros((6, 15))
    for i in range(3):
        lift[2 * i : 2 * i + 2, 5 * i : 5 * i + 5] = relu_ntk(tasks.query_x[i], tasks.support_x[i]) / 5
    half = lift @ relu_ntk(t, v)
    for ours, theirs in zip(blocks.terms, [relu_ntk(v), half + half.T, lift @ relu_ntk(t) @ lift.T], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    top = np.linalg.eigvalsh(relu_ntk(t) / 15)[-1]
    assert blocks.scale == pytest.approx(1 / top, rel=1e-12)


# ---- f0 as values, blocks used again, pieces


def test_values_of_f0_do_what_the_function_does():
    tasks, new, features = sample(4, 6, 7, 3), sample(4, 5, 6, 8, seed=9), Features(4, 25)
    at = lambda batch: (features.f0(batch.support_x), features.f0(batch.query_x))  # noqa: E731
    ours = kernel_path(features.kernel, tasks, RATES, f0=at(tasks))
    theirs = kernel_path(features.kernel, tasks, RATES, f0=features.f0)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-12)
    x = new.query_x[0]
    np.testing.assert_allclose(ours.predict(x, f0=features.f0(x)), theirs.predict(x), rtol=1e-12)
    surface, other = ours.evaluate(new, f0=at(new)), theirs.evaluate(new)
    np.testing.assert_allclose(surface.products, other.products, rtol=1e-10)
    fine = ours.refine(surface, new, f0=at(new))
    assert fine.loss == pytest.approx(theirs.refine(other, new).loss, rel=1e-10)
    np.testing.assert_allclose(
        ours.predict_adapted(new, 0.1, f0=at(new)), theirs.predict_adapted(new, 0.1), rtol=1e-10, atol=1e-12
    )
    for call in (lambda: ours.predict(x), lambda: ours.evaluate(new), lambda: ours.predict_adapted(new, 0.1)):
        with pytest.raises(ut.InputError, match="the path was given values of f0 and not a function"):
            call()


def test_blocks_serve_again_for_other_targets():
    tasks = sample(4, 6, 7, 3)
    calls = []

    def kernel(x, z):
        calls.append(len(x))
        return relu_ntk(x, z)

    blocks = KernelBlocks.of(kernel, tasks)
    made = len(calls)
    other = tasks._replace(support_y=tasks.support_y + 1, query_y=-tasks.query_y)
    for batch in (tasks, other):
        ours, theirs = kernel_path(blocks, batch, RATES), kernel_path(relu_ntk, batch, RATES)
        np.testing.assert_array_equal(ours.weights, theirs.weights)
    assert len(calls) == made
    with pytest.raises(ut.InputError, match="the blocks were made for other inputs"):
        kernel_path(blocks, sample(4, 6, 7, 3, seed=7))
    with pytest.raises(ut.InputError, match="steps=2: the blocks were made for 1"):
        kernel_path(blocks, tasks, steps=2)


@pytest.mark.parametrize("is_ragged", [False, True])
def test_pieces_do_not_change_anything(monkeypatch, is_ragged):
    tasks, new = sample(4, 9, 7, 3), sample(4, 8, 6, 8, seed=9)
    if is_ragged:
        tasks, new = feature_space.ragged(tasks), feature_space.ragged(new)
    whole = kernel_path(relu_ntk, tasks, RATES, steps=2)
    losses = whole.evaluate(new, steps=2).loss(0.1)
    monkeypatch.setattr("undertow.kernel.blocks._CALL_ENTRIES", 1000)
    monkeypatch.setattr("undertow.kernel.blocks._OWN_ENTRIES", 200)
    monkeypatch.setattr("undertow.kernel.path._MATRIX_NUMBERS", 2000)
    monkeypatch.setattr("undertow.kernel.solve._MATRIX_NUMBERS", 2000)
    parts = kernel_path(relu_ntk, tasks, RATES, steps=2)
    np.testing.assert_allclose(parts.predict(np.eye(4)), whole.predict(np.eye(4)), rtol=1e-8)
    np.testing.assert_allclose(parts.evaluate(new, steps=2).loss(0.1), losses, rtol=1e-8)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-13)


def test_spectral_unit_of_many_rows_comes_from_evenly_spaced_tasks(monkeypatch):
    tasks = sample(4, 60, 7, 1)
    exact = 1 / np.linalg.eigvalsh(relu_ntk(tasks.support_x.reshape(-1, 4)))[-1] * 60 * 7
    assert KernelBlocks.of(relu_ntk, tasks).scale == pytest.approx(exact, rel=1e-10)  # by iteration
    monkeypatch.setattr("undertow.kernel.blocks._UNIT_ROWS", 150)
    third = tasks.select(slice(0, None, 3))
    fewer = 1 / np.linalg.eigvalsh(relu_ntk(third.support_x.reshape(-1, 4)))[-1] * 20 * 7
    assert KernelBlocks.of(relu_ntk, tasks).scale == pytest.approx(fewer, rel=1e-12)


# ---- outcomes and errors


def test_repeated_rows_are_fitted_by_least_squares():
    tasks = sample(4, 5, 6, 3)
    twice = type(tasks)(*(np.concatenate([a, a]) for a in tasks[:2]), *(np.concatenate([a, a]) for a in tasks[2:4]))
    noise = np.random.default_rng(0).standard_normal(twice.query_y.shape)
    twice = twice._replace(query_y=twice.query_y + noise)
    mean = tasks._replace(query_y=(twice.query_y[:5] + twice.query_y[5:]) / 2)
    ours, theirs = kernel_path(relu_ntk, twice, [-0.5, 0.0, 0.3]), kernel_path(relu_ntk, mean, [-0.5, 0.0, 0.3])
    assert (ours.outcome == "least_squares").all()
    assert (ours.rank == 15).all()
    assert (theirs.outcome == "minimum_norm").all()
    x = np.random.default_rng(1).standard_normal((9, 4))
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.meta_loss, np.mean((noise[:5] - noise[5:]) ** 2) / 8, rtol=1e-9)
    assert "least squares (rank 15 of 30" in ours.explain(0)


def test_nearly_repeated_rows_are_called_ill_conditioned():
    tasks = sample(4, 2, 6, 3)
    rows = tasks.query_x.copy()
    rows[0, 1] = rows[0, 0] * (1 + 1e-10)
    path = kernel_path(relu_ntk, tasks._replace(query_x=rows), [0.0])
    assert path.outcome.tolist() == ["ill_conditioned"]
    assert "ridge such as 1e-8" in path.explain()


def test_precision_of_the_kernel_decides_on_rank():
    tasks = sample(3, 6, 7, 4)
    low = kernel_path(lambda x, z: linear_kernel(x, z).astype(np.float32), tasks, RATES)
    assert (low.rank == 3).all()
    high = kernel_path(linear_kernel, tasks, RATES)
    np.testing.assert_allclose(low.predict(np.eye(3)), high.predict(np.eye(3)), atol=2e-4)


def test_float32_tasks_and_words():
    tasks = sample(4, 5, 6, 3)
    single = type(tasks)(*(a.astype(np.float32) for a in tasks[:4]))
    path = kernel_path(relu_ntk, single, [0.1, np.inf])
    np.testing.assert_allclose(path.weights, kernel_path(relu_ntk, tasks, [0.1, np.inf]).weights, rtol=1e-3, atol=1e-4)
    assert repr(path) == "KernelPath(2 rates, 0.1 to 0.1; 5 tasks, 15 query rows, steps=1, ridges=[0.0])"
    assert "minimum norm (rank 15 of 15" in path.explain(1)


def test_negative_adaptation_warns():
    path = kernel_path(relu_ntk, sample(4, 5, 6, 3), [0.1])
    with pytest.warns(UserWarning, match="adapt_rate=-0.1 is negative"):
        path.predict_adapted(sample(4, 2, 3, 3), -0.1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kernel": 3}, "kernel=3: it must be a function"),
        ({"kernel": lambda x, z: x}, r"the kernel returned shape \(30, 4\) for 30 and 15 rows"),
        ({"kernel": lambda x, z: x @ z.T * np.nan}, r"kernel\[0, 0\] is nan"),
        ({"ridge": -1.0}, "ridge=-1"),
        ({"train_rates": np.nan}, "train_rates=nan"),
        ({"steps": 0}, "steps=0"),
        ({"rate_unit": "cm"}, "rate_unit='cm'"),
        ({"weighting": "none"}, "weighting='none'"),
        ({"f0": 3.0}, "f0 is of type float: it must be a function, or a pair"),
        ({"f0": lambda x: x}, r"f0 gives shape \(30, 4\) at 30 rows"),
        ({"f0": (np.zeros((5, 6)), np.zeros(3))}, r"f0 of the query rows has shape \(3,\): it must be \(5, 3\)"),
        ({"f0": lambda x: np.full(len(x), np.inf)}, r"f0\[0\] is inf"),
        ({"tasks": [1, 2]}, "tasks is of type list: it must be a TaskBatch"),
    ],
)
@pytest.mark.wrong_type
def test_what_cannot_be_used_is_refused(arguments, words):
    with pytest.raises(ut.InputError, match=words):
        kernel_path(**{"kernel": relu_ntk, "tasks": sample(4, 5, 6, 3), **arguments})


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (lambda a, b: -linear_kernel(a, b), "an eigenvalue of -"),
        (lambda a, b: linear_kernel(a, b) - 1, "an eigenvalue of -"),
        (lambda a, b: linear_kernel(a[:, :1], np.ones((len(b), 1))), "not symmetric"),
        (lambda a, b: 1j * linear_kernel(a, b), "complex"),
    ],
)
def test_a_function_that_is_no_kernel_is_refused(kernel, words):
    with pytest.raises(ut.InputError, match=words):
        kernel_path(kernel, sample(4, 5, 6, 3), RATES)


def test_new_rows_of_another_width_are_refused():
    path = kernel_path(relu_ntk, sample(4, 5, 6, 3), [0.1])
    for call in (path.evaluate, lambda new: path.predict(new.query_x[0])):
        with pytest.raises(ut.InputError, match="the 4 features of the training tasks"):
            call(sample(3, 5, 6, 3))
    with pytest.raises(ut.InputError, match=r"x\[0, 1\] is nan"):
        path.predict([[0.0, np.nan, 1.0, 1.0]])
