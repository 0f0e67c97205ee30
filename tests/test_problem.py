"""Problems and designs: what they draw, and what they refuse."""

import numpy as np
import pytest

import undertow as ut
from undertow.problem import NumpySource


def z_of_mean(samples, expected):
    """Standardised difference of a mean over the first axis, largest over the rest."""
    return np.abs((samples.mean(0) - expected) / (samples.std(0) / np.sqrt(len(samples)))).max()


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_draws_have_the_stated_moments(kind):
    p, rng = 4, np.random.default_rng(0)
    root = rng.standard_normal((2, p, p))
    task, inputs = root @ root.transpose(0, 2, 1)
    if kind == "diagonal":
        task, inputs = np.arange(4.0), np.array([0.2, 1.0, 3.0, 0.5])
    w0 = np.array([1.0, -2.0, 0.5, 0.0])
    extra = {} if kind == "isotropic" else {"task_covariance": task, "input_covariance": inputs}
    problem = ut.MixedLinearRegression(p, 0.7, 1.3 if kind == "isotropic" else None, mean_weights=w0, **extra)
    tasks = problem.sample(ut.Design(20_000, 2, 1), seed=1)
    sigma_x = np.eye(p) if kind == "isotropic" else np.diag(inputs) if kind == "diagonal" else inputs
    sigma_w = 1.3**2 / p * np.eye(p) if kind == "isotropic" else np.diag(task) if kind == "diagonal" else task
    x, y = tasks.support_x, tasks.support_y
    assert z_of_mean(x[:, 0], np.zeros(p)) < 4
    assert z_of_mean(x[:, 0, :, None] * x[:, 0, None, :], sigma_x) < 4
    assert z_of_mean(x[:, 0] * y[:, :1], sigma_x @ w0) < 4
    second = np.einsum("ij,ji->", sigma_x, np.outer(w0, w0) + sigma_w)
    assert z_of_mean(y[:, 0] ** 2, second + 0.7**2) < 4
    # Two rows of one task share w: that is what makes it a task.
    product = x[:, 0][:, None] @ (np.outer(w0, w0) + sigma_w) @ x[:, 1, :, None]
    assert z_of_mean(y[:, 0] * y[:, 1] - product[:, 0, 0], 0.0) < 4
    assert problem.task_std**2 == pytest.approx(np.trace(sigma_w))


def test_a_seed_fixes_the_draw_and_a_generator_goes_on():
    problem, design = ut.MixedLinearRegression(3), ut.Design(2, 3, 4)
    a, b = problem.sample(design, 5), problem.sample(design, 5)
    assert all(np.array_equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))
    generator = np.random.default_rng(5)
    assert np.array_equal(problem.sample(design, generator).query_y, a.query_y)
    assert not np.array_equal(problem.sample(design, generator).query_y, a.query_y)
    assert problem.sample(design, 5, dtype=np.float32).support_x.dtype == np.float32
    assert (NumpySource(0).uniform(2.0, 3.0, (50,)) >= 2).all()


def test_shapes_of_a_design():
    design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    tasks = ut.MixedLinearRegression(60, 1.0, 0.5).sample(design)
    assert [a.shape for a in tasks[:4]] == [(3, 30, 60), (3, 30), (3, 2, 60), (3, 2)]
    assert design.n_query_rows == tasks.n_query_rows == 6
    assert ut.Design(3, 30, 2).n_adapt == 30
    assert design.new_tasks(100, 50) == ut.Design(100, 20, 50, 20)
    assert len(tasks.select([0, 2]).support_y) == 2


def test_problems_are_values():
    a, b = (ut.MixedLinearRegression(3, input_covariance=[1.0, 2.0, 3.0]) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != ut.MixedLinearRegression(3)
    with pytest.raises(ValueError, match="read-only"):
        a.input_covariance[0] = 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_features": 0}, "n_features=0"),
        ({"noise_std": -1.0}, "noise_std=-1.0: it must be at least 0"),
        ({"task_std": float("nan")}, "task_std=nan"),
        ({"mean_weights": [1.0]}, r"mean_weights has shape \(1,\)"),
        ({"input_covariance": [1.0, -1.0, 1.0]}, "negative eigenvalue, -1"),
        ({"input_covariance": np.eye(2)}, r"\(3, 3\), or \(3,\)"),
        ({"task_covariance": [[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]}, "not symmetric"),
        ({"task_covariance": np.eye(3), "task_std": 1.0}, "task_std=1.0: it contradicts task_covariance"),
    ],
)
def test_impossible_problems_are_refused(arguments, words):
    with pytest.raises(ut.InputError, match=words):
        ut.MixedLinearRegression(**{"n_features": 3, **arguments})


def test_impossible_designs_are_refused():
    with pytest.raises(ut.InputError, match="n_query=0: it must be a whole number"):
        ut.Design(1, 1, 0)
    with pytest.raises(ut.InputError, match="float64 or float32"):
        ut.MixedLinearRegression(3).sample(ut.Design(1, 1, 1), dtype=np.int64)


@pytest.mark.wrong_type
def test_what_is_no_seed_design_or_vector_is_refused():
    problem = ut.MixedLinearRegression(3)
    with pytest.raises(ut.InputError, match="seed=-1"):
        problem.sample(ut.Design(1, 1, 1), -1)
    with pytest.raises(ut.InputError, match="seed='a'"):
        problem.sample(ut.Design(1, 1, 1), "a")
    with pytest.raises(ut.InputError, match="design=3"):
        problem.sample(3)
    with pytest.raises(ut.InputError, match="dtype='foo'"):
        problem.sample(ut.Design(1, 1, 1), dtype="foo")
    for arguments in ({"mean_weights": "ab"}, {"input_covariance": [[1], [1, 2]]}, {"task_std": "a"}):
        with pytest.raises(ut.InputError, match=next(iter(arguments))):
            ut.MixedLinearRegression(3, **arguments)
    with pytest.raises(ut.InputError, match="task_std=1: it contradicts"):
        ut.MixedLinearRegression(3, task_std=1, task_covariance=np.zeros(3))


@pytest.mark.wrong_type
def test_half_a_task_is_refused():
    with pytest.raises(ut.InputError, match=r"n_tasks=2.5"):
        ut.Design(2.5, 1, 1)
    with pytest.raises(ut.InputError, match="n_support=True"):
        ut.Design(2, True, 1)


def test_public_names_are_there():
    for name in ut.__all__:
        assert getattr(ut, name) is not None
    assert set(dir(ut)) >= set(ut.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ut.nonsense
