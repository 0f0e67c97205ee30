"""Quadratic regression and sine waves: their moments, their definitions, and drawing them inside a compiled program."""

import numpy as np
import pytest
from scipy import stats

import undertow as ut


def z_of_mean(samples, expected=0.0):
    """Standardised difference of a mean over the first axis."""
    return abs((samples - expected).mean(0) / ((samples - expected).std(0) / np.sqrt(len(samples)))).max()


def moments_given_inputs(problem, x):
    """Mean, second moment (without noise) of y at rows x (m, 2, p), and mean product of a task's two rows."""
    mu = x @ problem.mean_weights + problem.mean_offset
    cov = problem.task_std**2 / problem.n_features * x @ x.transpose(0, 2, 1) + problem.offset_std**2
    s, c = cov[:, [0, 1], [0, 1]], cov[:, 0, 1]
    product = mu[:, 0] ** 2 * mu[:, 1] ** 2 + mu[:, 0] ** 2 * s[:, 1] + mu[:, 1] ** 2 * s[:, 0]
    product += 4 * mu[:, 0] * mu[:, 1] * c + s[:, 0] * s[:, 1] + 2 * c**2
    return mu**2 + s, mu**4 + 6 * mu**2 * s + 3 * s**2, product


@pytest.mark.parametrize("p", [1, 5])
def test_quadratic_draws_have_the_stated_moments(p):
    problem = ut.QuadraticRegression(
        p, 0.7, 1.3, mean_weights=np.linspace(0.4, -0.8, p), mean_offset=0.6, offset_std=0.9
    )
    tasks = problem.sample(ut.Design(100_000, 2, 1), seed=1)
    x, y = tasks.support_x, tasks.support_y
    mean, second, product = moments_given_inputs(problem, x)
    assert z_of_mean(x[:, 0]) < 4
    assert z_of_mean(x[:, 0, :, None] * x[:, 0, None, :], np.eye(p)) < 4
    assert z_of_mean(y - mean) < 4
    assert z_of_mean(y**2 - second - 0.7**2) < 4
    # Two rows of one task share w and b: that is what makes it a task.
    assert z_of_mean(y[:, 0] * y[:, 1] - product) < 4


@pytest.mark.parametrize("p", [2, 60])
def test_quadratic_outputs_are_of_order_one(p):
    problem = ut.QuadraticRegression(p)
    y = problem.sample(ut.Design(100_000, 1, 1), seed=2).query_y[:, 0]
    total = problem.task_std**2 + problem.offset_std**2
    variance = 2 * total**2 + 6 * problem.task_std**4 / p + problem.noise_std**2
    assert z_of_mean(y, total) < 4
    assert z_of_mean((y - total) ** 2, variance) < 4
    assert 1 < variance < 7


def test_sine_waves_are_those_of_the_definition():
    tasks = ut.Sinusoid().sample(ut.Design(4000, 5, 7), seed=3)
    assert [a.shape for a in tasks[:4]] == [(4000, 5, 1), (4000, 5), (4000, 7, 1), (4000, 7)]
    x = np.concatenate([tasks.support_x, tasks.query_x], axis=1)[..., 0]
    y = np.concatenate([tasks.support_y, tasks.query_y], axis=1)
    # A sin(x - phase) = (A cos phase) sin x - (A sin phase) cos x: two unknowns, twelve rows, no noise.
    basis = np.stack([np.sin(x), -np.cos(x)], axis=-1)
    found = np.linalg.pinv(basis) @ y[..., None]
    np.testing.assert_allclose((basis @ found)[..., 0], y, atol=1e-12)
    amplitude, phase = np.hypot(*found[..., 0].T), np.arctan2(found[:, 1, 0], found[:, 0, 0])
    for sample, low, high in [(amplitude, 0.1, 5.0), (phase, 0.0, np.pi), (x[:, 0], -5.0, 5.0), (x[:, 5], -5.0, 5.0)]:
        assert low <= sample.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < sample.max() <= high
        assert stats.kstest(sample, "uniform", (low, high - low)).pvalue > 6e-5  # as rare as |z| > 4
    assert abs(stats.spearmanr(amplitude, phase).statistic) * np.sqrt(4000) < 4


PROBLEMS = [ut.MixedLinearRegression(3), ut.QuadraticRegression(3, mean_weights=[0.5, 0.0, 1.0]), ut.Sinusoid()]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_problems_are_values_and_a_seed_fixes_the_draw(problem):
    design = ut.Design(3, 4, 5)
    first, again, other = (problem.sample(design, seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first[:4], again[:4], strict=True))
    assert not np.array_equal(first.query_y, other.query_y)
    assert not np.array_equal(first.support_y[0], first.support_y[1])
    single = problem.sample(design, 5, dtype=np.float32)
    assert {a.dtype for a in single[:4]} == {np.dtype(np.float32)}
    others = [other for other in PROBLEMS if other is not problem]
    assert all(problem != other for other in others)
    with pytest.raises(ut.InputError, match="float64 or float32"):
        problem.sample(design, dtype=np.int64)


def test_equal_fields_are_equal_problems():
    make = lambda **more: ut.QuadraticRegression(3, mean_weights=[0.5, 0.0, 1.0], **more)  # noqa: E731
    assert make() == PROBLEMS[1]
    assert hash(make()) == hash(PROBLEMS[1])
    assert make(offset_std=0.1) != PROBLEMS[1]
    assert ut.QuadraticRegression(3) != PROBLEMS[1]
    assert ut.Sinusoid() == ut.Sinusoid()
    assert hash(ut.Sinusoid()) == hash(ut.Sinusoid())
    assert ut.MixedLinearRegression(3) != "a string"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_features": 0}, "n_features=0"),
        ({"noise_std": -1.0}, "noise_std=-1.0: it must be at least 0"),
        ({"task_std": float("nan")}, "task_std=nan"),
        ({"offset_std": -0.5}, "offset_std=-0.5: it must be at least 0"),
        ({"mean_offset": float("inf")}, "mean_offset=inf"),
        ({"mean_weights": [1.0]}, r"mean_weights has shape \(1,\)"),
    ],
)
def test_impossible_quadratic_problems_are_refused(arguments, words):
    with pytest.raises(ut.InputError, match=words):
        ut.QuadraticRegression(**{"n_features": 3, **arguments})


class KeySource:
    """A JAX key as a random source: one key for each call."""

    def __init__(self, key):
        self.key = key
        self.record = []

    def _next(self, draw, shape):
        import jax

        self.key, key = jax.random.split(self.key)
        self.record.append(draw(key, shape))
        return self.record[-1]

    def normal(self, shape):
        import jax

        return self._next(jax.random.normal, shape)

    def uniform(self, low, high, shape):
        import jax

        return self._next(lambda key, shape: jax.random.uniform(key, shape, minval=low, maxval=high), shape)


class Replay:
    """Hands out recorded numbers again, as NumPy arrays."""

    def __init__(self, record):
        self.record = [np.asarray(part, np.float64) for part in record]

    def normal(self, shape):
        assert self.record[0].shape == shape
        return self.record.pop(0)

    def uniform(self, low, high, shape):
        part = self.normal(shape)
        assert low <= part.min() <= part.max() <= high
        return part


@pytest.mark.long
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_a_problem_can_be_drawn_inside_a_compiled_jax_program(problem):
    jax = pytest.importorskip("jax")
    design = ut.Design(4, 3, 2)

    @jax.jit
    def draw(key):
        source = KeySource(key)
        return problem.draw(source, design)[:4], source.record

    compiled, record = draw(jax.random.key(0))
    assert all(isinstance(part, jax.Array) and part.dtype == np.float32 for part in compiled)
    # The same numbers through NumPy in float64 give the same tasks.
    for ours, theirs in zip(compiled, problem.draw(Replay(record), design)[:4], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
    assert not np.array_equal(draw(jax.random.key(1))[0][3], compiled[3])
