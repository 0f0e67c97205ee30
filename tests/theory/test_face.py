"""The face: shapes, messages, infinities, and which method is used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undertow as ut
from undertow import InputError
from undertow.theory import expected_distance, expected_loss, method_for, optimal_train_rate

UNDER, OVER = ut.Design(20, 10, 4), ut.Design(3, 10, 2, 8)
PROBLEM = ut.MixedLinearRegression(30, 1.0, 0.5)


@pytest.mark.parametrize("method", ["exact", "leading", "next_order", "equivalent", "auto"])
def test_shapes_follow_the_rates(method):
    rates = np.array([-1.0, 0.0, 0.3, np.inf])
    one = expected_loss(PROBLEM, OVER, -1.0, 0.2, method=method)
    many = expected_loss(PROBLEM, OVER, rates, 0.2, method=method)
    pairs = expected_loss(PROBLEM, OVER, rates, np.array([0.2, 0.1, 0.0, -0.1]), method=method)
    adapted = expected_loss(PROBLEM, OVER, -1.0, [0.2, 0.3], method=method)
    assert isinstance(one, float)
    assert many.shape == pairs.shape == (4,)
    assert [many[0], pairs[0], adapted[0]] == pytest.approx([one] * 3, rel=1e-12)
    q = expected_distance(PROBLEM, OVER, rates, method=method)
    h = 0.8**2 + 0.2**2 * 31 / 8
    assert many == pytest.approx((1 + 0.2**2 * 30 / 8) / 2 + h / 2 * (0.25 + q))


def test_the_published_curve():
    design, problem = ut.Design(3, 30, 2, 20), ut.MixedLinearRegression(60, 1.0, 0.5)
    assert expected_loss(problem, design, [-1, 0.2], 0.2) == pytest.approx([0.6871, 0.7308], abs=2e-4)


@pytest.mark.parametrize("method", ["exact", "leading", "next_order", "equivalent", "auto"])
@pytest.mark.parametrize("steps", [1, 2])
def test_both_infinities_are_one_point_and_curves_close_there(method, steps):
    if steps == 2 and method in ("next_order", "exact"):
        return
    designs = [OVER] if method in ("exact", "next_order") else [OVER, UNDER, ut.Design(3, 4, 9), ut.Design(4, 3, 4)]
    for design in designs:
        rates = np.array([-np.inf, -1e8, 1e8, np.inf])
        q = expected_distance(PROBLEM, design, rates, method=method, steps=steps)
        assert q[0] == q[3]
        assert q == pytest.approx(q[0], rel=1e-5)


def test_init_is_a_vector_or_a_distance():
    problem = ut.MixedLinearRegression(30, 1.0, 0.5, mean_weights=np.arange(30.0))
    init = np.arange(30.0)
    init[3] += 3
    init[5] -= 4
    by_vector = expected_distance(problem, OVER, 0.1, init=init)
    assert by_vector == pytest.approx(expected_distance(problem, OVER, 0.1, 5.0), rel=1e-14)
    assert by_vector == pytest.approx(expected_distance(problem, OVER, 0.1) + 25 * (1 - 6 / 30))
    assert expected_distance(problem, UNDER, 0.1, 5.0) == expected_distance(problem, UNDER, 0.1)


def test_only_the_trace_of_the_task_covariance_enters():
    root = np.random.default_rng(0).standard_normal((30, 30))
    covariance = 0.25 * root @ root.T / np.trace(root @ root.T)
    general = ut.MixedLinearRegression(30, 1.0, task_covariance=covariance)
    for design in (OVER, UNDER):
        assert expected_loss(general, design, [-1.0, 0.2], 0.1) == pytest.approx(
            expected_loss(PROBLEM, design, [-1.0, 0.2], 0.1), rel=1e-12
        )


@pytest.mark.parametrize("method", ["exact", "leading", "equivalent", "auto", "next_order"])
@pytest.mark.parametrize("n_tasks", [29, 30, 31])
def test_the_mean_is_infinite_within_one_of_the_threshold(method, n_tasks):
    design = ut.Design(n_tasks, 10, 1)
    if method == "next_order" and n_tasks >= 30:
        with pytest.raises(InputError, match="next_order"):
            expected_loss(PROBLEM, design, 0.1, 0.1, method=method)
        return
    assert np.isinf(expected_loss(PROBLEM, design, [0.0, 0.1], 0.1, method=method)).all()
    assert expected_loss(PROBLEM, design, 0.1, 0.1, method=method) == np.inf
    # Either source of randomness alone is enough.
    for noise, task in ((1.0, 0.0), (0.0, 0.5)):
        assert expected_distance(ut.MixedLinearRegression(30, noise, task), design, 0.1, method=method) == np.inf


def test_what_stays_finite_at_the_threshold():
    nothing = ut.MixedLinearRegression(30, 0.0, 0.0)
    assert expected_distance(nothing, ut.Design(29, 10, 1), 0.1, 2.0) == pytest.approx(4 / 30)
    assert expected_distance(nothing, ut.Design(31, 10, 1), 0.1, 2.0) == 0
    # One task without noise: omega* - w_0 is the projection of its own u.
    alone = ut.MixedLinearRegression(30, 0.0, 0.5)
    assert expected_distance(alone, ut.Design(1, 10, 29), 0.1) == pytest.approx(0.25 * 29 / 30)
    assert expected_distance(alone, ut.Design(1, 10, 31), 0.1) == pytest.approx(0.25)
    assert expected_distance(PROBLEM, ut.Design(1, 10, 31), -0.1) == np.inf


def test_infinite_limits_at_infinite_rate():
    # N > p, but only n_t rows of each task are left at infinite rate: 3 x 10 = p of them.
    assert expected_distance(PROBLEM, ut.Design(3, 10, 20), [-1.0, np.inf])[1] == np.inf
    assert np.isfinite(expected_distance(PROBLEM, ut.Design(5, 10, 20), [-1.0, np.inf])).all()


def test_method_for_says_what_auto_uses():
    cases = [
        (OVER, -1.0, "exact"),
        (ut.Design(2, 20, 12), -1.0, "equivalent"),
        (UNDER, -1.0, "equivalent"),
        (UNDER, 0.0, "exact"),
        (ut.Design(1, 10, 40), -1.0, "exact"),
        (ut.Design(31, 10, 1), -1.0, "exact"),
    ]
    for design, rate, method in cases:
        choice = method_for(PROBLEM, design, rate)
        assert choice.method == method
        assert 0 <= choice.expected_relative_error < 0.1
        assert choice.reason.endswith(".")
        auto = expected_distance(PROBLEM, design, rate)
        assert auto == pytest.approx(expected_distance(PROBLEM, design, rate, method=method), rel=1e-9)
    small, large = (method_for(PROBLEM, UNDER, rate).expected_relative_error for rate in (-0.01, -1.0))
    assert 0 < small < large
    assert method_for(PROBLEM, OVER, -1.0, steps=2).method == "exact"
    assert method_for(PROBLEM, UNDER, -1.0, steps=2).method == "drawn"
    silent = ut.MixedLinearRegression(30, 0.0, 0.5)
    assert method_for(silent, OVER, -1.0).method == "exact"
    assert expected_distance(silent, OVER, -1.0, method="exact") == expected_distance(silent, OVER, 0.0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "best"}, "method='best'.*'exact'.*'auto'"),
        ({"method": "exact", "design": UNDER}, "N = 80, p = 30.*'equivalent', 'leading' or 'auto'"),
        ({"method": "next_order", "design": UNDER}, "next_order.*'equivalent'"),
        ({"method": "next_order", "steps": 2}, "steps = 2.*'exact'"),
        ({"train_rate": np.nan}, "train_rate=nan"),
        ({"adapt_rate": np.inf}, "adapt_rate=inf"),
        ({"train_rate": [1.0, 2.0], "adapt_rate": [1.0, 2.0, 3.0]}, "broadcast"),
        ({"init_distance": -1.0}, "init_distance=-1"),
        ({"init": np.zeros(7)}, r"init has shape \(7,\)"),
        ({"init": np.full(30, np.nan)}, "init"),
        ({"steps": 0}, "steps=0"),
        ({"adapt_steps": 0}, "adapt_steps=0"),
        ({"method": "exact", "design": ut.Design(1, 4, 27), "train_rate": 0.5}, "n_query <= n_features - 4"),
    ],
)
def test_errors_say_what_to_do(arguments, match):
    base = {"design": OVER, "train_rate": 0.1, "adapt_rate": 0.1}
    with pytest.raises(InputError, match=match):
        expected_loss(PROBLEM, **{**base, **arguments})


@settings(max_examples=20, deadline=None)
@given(st.floats(-1e3, 1e3), st.integers(1, 6), st.floats(0, 2), st.floats(0, 2))
def test_loss_grows_with_every_source(rate, m, noise, task):
    design = ut.Design(m, 10, 2)
    value = expected_loss(ut.MixedLinearRegression(30, noise, task), design, rate, 0.2)
    more = expected_loss(ut.MixedLinearRegression(30, noise + 0.1, task + 0.1), design, rate, 0.2)
    assert 0 <= value < more


def test_steps_of_the_adaptation():
    one = expected_loss(PROBLEM, OVER, 0.1, 0.1)
    two = expected_loss(PROBLEM, OVER, 0.1, 0.1, adapt_steps=2)
    assert two != one
    # Two small steps are one step of twice the rate, to first order.
    small = expected_loss(PROBLEM, OVER, 0.1, [0.0, 1e-4])
    twice = expected_loss(PROBLEM, OVER, 0.1, [0.0, 1e-4], adapt_steps=2)
    assert np.diff(twice) == pytest.approx(2 * np.diff(small), rel=1e-3)


class TestGeneralCovariance:
    inputs = np.linspace(0.4, 1.6, 30)
    problem = ut.MixedLinearRegression(30, 1.0, 0.5, input_covariance=inputs)

    def test_best_adapt_rate_is_the_minimum_of_the_loss(self):
        rates = np.array([-0.5, 0.0, 0.3])
        best = ut.theory.optimal_adapt_rate(self.problem, OVER, rates)
        loss = lambda r: expected_loss(self.problem, OVER, rates, r)  # noqa: E731
        assert (best > 0).all()
        assert (loss(best) < np.minimum(loss(best + 1e-3), loss(best - 1e-3))).all()

    def test_best_train_rate_with_a_fixed_and_with_the_best_adapt_rate(self):
        fixed = optimal_train_rate(self.problem, OVER, adapt_rate=0.1)
        joint = optimal_train_rate(self.problem, OVER)
        around = np.concatenate([float(fixed) * np.array([0.98, 1, 1.02]), [0.0, np.inf]])
        losses = expected_loss(self.problem, OVER, around, 0.1)
        assert losses.argmin() == 1
        assert fixed.relative_gain == pytest.approx(1 - losses[1] / losses[3], abs=1e-6)
        best = [
            expected_loss(self.problem, OVER, float(a), ut.theory.optimal_adapt_rate(self.problem, OVER, float(a)))
            for a in (joint, fixed)
        ]
        assert best[0] <= best[1] * (1 + 1e-9)
        assert joint.distance == expected_distance(self.problem, OVER, float(joint))

    def test_the_direction_of_the_start_matters(self):
        with pytest.raises(InputError, match="Give the vector omega_0 as init") as refused:
            expected_loss(self.problem, OVER, 0.1, 0.1, 1.0)
        assert (refused.value.argument, refused.value.value) == ("init_distance", 1.0)
        shift = np.eye(30)
        near, far = (expected_distance(self.problem, OVER, 0.1, init=shift[j]) for j in (0, 29))
        assert near < far

    @pytest.mark.parametrize(("name", "value"), [("steps", 2), ("adapt_steps", 2)])
    def test_one_step_only(self, name, value):
        with pytest.raises(InputError, match=f"{name}=2"):
            expected_loss(self.problem, OVER, 0.1, 0.1, **{name: value})

    def test_an_infinite_mean(self):
        design = ut.Design(30, 10, 1)
        assert expected_loss(self.problem, design, 0.1, [0.0, 0.1]).tolist() == [np.inf, np.inf]
        assert np.isnan(ut.theory.optimal_adapt_rate(self.problem, design, 0.1))

    def test_its_method(self):
        assert method_for(self.problem, OVER, 0.1).method == "equivalent"
        with pytest.raises(InputError, match="steps=2"):
            method_for(self.problem, OVER, 0.1, steps=2)
