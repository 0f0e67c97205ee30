"""E|omega* - w_0|^2 against Monte Carlo on both sides of N = p, and the slopes at rate 0."""

import numpy as np
import pytest
from oracle import distance_samples, estimate, meta_train

import undertow as ut
from undertow.theory import (
    drawn,
    equivalent,
    exact,
    free_sum,
    methods,
    overparameterized,
    underparameterized,
    wishart,
)

RATES = np.array([-1.0, -0.3, 0.0, 0.2, 1.0])


def general_task_root(p, seed=0):
    """R with tr R R' = 1 and nothing isotropic about it."""
    root = np.random.default_rng(seed).standard_normal((p, p)) * np.linspace(0.05, 1, p)
    return root / np.linalg.norm(root)


def unit(p, seed=1):
    v = np.random.default_rng(seed).standard_normal(p)
    return v / np.linalg.norm(v)


def parts(p, design, rates, method, steps=1):
    problem = ut.MixedLinearRegression(p)
    return np.stack(methods.coefficients(problem, design, rates, method, steps), axis=1)


def z_scores(value, mc, stated=0.0):
    """Distances in standard errors; parts that are the same in each draw must agree to rounding."""
    fixed = mc.error < 1e-12
    assert value[fixed] == pytest.approx(mc.mean[fixed], abs=1e-10)
    error = np.hypot(mc.error, stated / 3 * np.abs(mc.mean))
    return np.abs((value - mc.mean)[~fixed] / error[~fixed])


@pytest.mark.parametrize(
    ("p", "n_t", "n_v", "m", "steps"),
    [
        (10, 3, 2, 3, 1),
        (12, 3, 5, 1, 1),  # fewer support than query rows, a single task
        (10, 4, 1, 6, 1),  # one query row each; p - N = 4, near the threshold with a finite variance
        (14, 20, 2, 5, 1),
        (10, 3, 2, 3, 2),
        (12, 4, 2, 4, 3),
    ],
)
def test_exact_with_fewer_query_rows_than_features(p, n_t, n_v, m, steps):
    design = ut.Design(m, n_t, n_v)
    mc = estimate(
        distance_samples(
            p, design, RATES, runs=5_000, seed=p + m, steps=steps, offset=unit(p), task_root=general_task_root(p)
        )
    )
    if steps == 1:  # fewer draws than method="exact", and a stated error all the same
        psi = exact.psi(n_t, n_v, p, exact.QUICK)
        value = np.stack(overparameterized.coefficients(p, design, psi(RATES)), axis=1)
        stated = psi.relative_error
    else:
        value = np.stack(drawn.coefficients(p, design, RATES, steps), axis=1)
        stated = drawn.relative_error(p, design, RATES, steps, (0.0, 1.0))
    assert z_scores(value[:, :2], estimate_part(mc, 2)).max(initial=0) < 4
    assert z_scores(value, mc, stated).max() < 4


def estimate_part(mc, n):
    return type(mc)(mc.mean[:, :n], mc.error[:, :n])


@pytest.mark.parametrize(("p", "n_v", "m"), [(8, 3, 5), (10, 1, 20), (6, 9, 1), (11, 3, 3)])
def test_exact_at_rate_zero_on_both_sides(p, n_v, m):
    design, zero = ut.Design(m, 4, n_v), np.zeros(1)
    mc = estimate(distance_samples(p, design, zero, runs=8_000, seed=7, task_root=general_task_root(p)))
    for method in ("exact", "auto", "equivalent"):
        assert z_scores(parts(p, design, zero, method), mc).max() < 4


@pytest.mark.parametrize(
    ("p", "n_t", "n_v", "m", "steps"),
    [
        (20, 10, 4, 7, 1),  # N = 28, near the threshold
        (20, 10, 4, 20, 1),
        (20, 5, 25, 2, 1),
        (10, 20, 1, 20, 1),
        (8, 8, 12, 2, 1),
        (20, 10, 4, 8, 2),
    ],
)
@pytest.mark.long
def test_equivalent_with_more_query_rows_than_features(p, n_t, n_v, m, steps):
    # Approximate: it must be within its stated error of Monte Carlo, up to 4 standard errors.
    design, problem = ut.Design(m, n_t, n_v), ut.MixedLinearRegression(p)
    mc = estimate(distance_samples(p, design, RATES, runs=2000, seed=3, steps=steps, task_root=general_task_root(p)))
    value = parts(p, design, RATES, "equivalent", steps)
    for k, rate in enumerate(RATES):
        choice = methods.choose(problem, design, RATES[k : k + 1], steps)
        miss = np.abs(value[k, 1:] - mc.mean[k, 1:]) - 4 * mc.error[k, 1:]
        assert (miss < choice.expected_relative_error * mc.mean[k, 1:]).all(), (rate, value[k], mc)


@pytest.mark.parametrize(("n_t", "n_v", "p", "m"), [(30, 20, 60, 2), (30, 50, 60, 1), (10, 8, 30, 3), (10, 10, 60, 2)])
def test_equivalent_with_fewer_query_rows_than_features(n_t, n_v, p, m):
    design, problem = ut.Design(m, n_t, n_v), ut.MixedLinearRegression(p)
    mc = estimate(distance_samples(p, design, RATES, runs=600, seed=3))
    value = parts(p, design, RATES, "equivalent")
    for k in range(len(RATES)):
        choice = methods.choose(problem, design, RATES[k : k + 1], 1)
        assert choice.method == ("exact" if RATES[k] == 0 else "equivalent")
        miss = np.abs(value[k, 2] - mc.mean[k, 2]) - 4 * mc.error[k, 2]
        assert miss < choice.expected_relative_error * mc.mean[k, 2]
    assert z_scores(value[:, :2], estimate_part(mc, 2)).max() < 4  # exact


def test_a_single_task_with_more_query_rows_than_features():
    p, design, rates = 6, ut.Design(1, 14, 11), np.array([-2.0, -0.4, 0.0])
    mc = estimate(distance_samples(p, design, rates, runs=8_000, seed=5, task_root=general_task_root(p)))
    value = parts(p, design, rates, "exact")
    assert z_scores(value, mc, stated=2e-3).max() < 4
    assert np.isinf(parts(p, design, np.array([0.1, 3.0]), "exact")[:, 2]).all()
    assert np.isinf(parts(p, design, np.array([0.1, 3.0]), "leading")[:, 2]).all()
    assert np.isfinite(parts(p, design, np.array([np.inf, -np.inf]), "exact")).all()


def test_single_task_of_several_steps():
    p, design, rates = 5, ut.Design(1, 9, 9), np.array([-1.0, -0.2])
    mc = estimate(distance_samples(p, design, rates, runs=8_000, seed=6, steps=2))
    assert z_scores(parts(p, design, rates, "exact", 2), mc, stated=2e-3).max() < 4


def test_leading_order_is_the_limit_of_many_tasks():
    # The relative error is c/m: four times the tasks, a fourth of the error.
    p, n_t, n_v, rates, miss = 6, 5, 4, np.array([-0.6, 0.3]), []
    for m, runs in ((15, 6000), (60, 3000)):
        design = ut.Design(m, n_t, n_v)
        mc = estimate(distance_samples(p, design, rates, runs=runs, seed=4))
        miss.append(np.abs(parts(p, design, rates, "leading")[:, 1:] / mc.mean[:, 1:] - 1).sum())
    assert 0.15 * miss[0] < miss[1] < 0.4 * miss[0]


@pytest.mark.parametrize("steps", [1, 2])
def test_leading_coefficient_of_one_over_m_is_exact(steps):
    """m Q -> (1/h^2) {...}: score covariance of a single task, sampled by its definition."""
    p, n_t, n_v, rates, draws = 5, 6, 3, np.array([-0.7, 0.4]), 20_000
    generator = np.random.default_rng(11)
    xt, xv = generator.standard_normal((draws, n_t, p)), generator.standard_normal((draws, n_v, p))
    s = xt.swapaxes(1, 2) @ xt / n_t
    value = underparameterized.leading(p, ut.Design(1, n_t, n_v), rates, steps)
    for k, a in enumerate(rates):
        power, growth = np.broadcast_to(np.eye(p), s.shape), np.zeros_like(s)
        for _ in range(steps):
            growth, power = growth + power, power @ (np.eye(p) - a * s)
        b, j = xv @ power, (a / n_t) * xv @ growth @ xt.swapaxes(1, 2)
        h = wishart.inner_step(rates[k : k + 1], steps, p, n_t).square[0]
        score = b.swapaxes(1, 2) / n_v
        task = ((score @ b) ** 2).sum(axis=(1, 2)) / p
        noise = (score**2).sum(axis=(1, 2)) + ((score @ j) ** 2).sum(axis=(1, 2))
        mc = estimate(np.stack([task, noise], axis=1) / h**2)
        assert np.abs(mc.z([value.task[k], value.noise[k]])).max() < 4


def test_equivalent_tends_to_the_leading_order_for_many_tasks_and_large_sizes():
    p, n_t, n_v = 400, 200, 40
    for m, bound in ((400, 0.06), (4000, 0.012)):
        design = ut.Design(m, n_t, n_v)
        a, b = parts(p, design, RATES, "equivalent"), parts(p, design, RATES, "leading")
        assert np.abs(a[:, 1:] / b[:, 1:] - 1).max() < bound


def test_next_order_quarters_its_error_when_features_double():
    errors = []
    for p in (60, 120, 240):
        design = ut.Design(3, p // 2, 2)
        rates = np.array([-1.0, 0.2])
        exact_parts = overparameterized.coefficients(p, design, exact.psi(p // 2, 2, p)(rates))
        next_parts = overparameterized.next_order(p, design, rates)
        lead = overparameterized.leading(p, design, rates)
        # With nu = 0.5, sigma = 1, as a relative error of Q.
        total = lambda c: c.distance(0.0, 0.25, 1.0)  # noqa: E731
        errors.append([total(x) / total(exact_parts) - 1 for x in (lead, next_parts)])
    leading, following = np.abs(np.array(errors)).transpose(1, 0, 2)
    assert leading[0] == pytest.approx([0.102, 0.117], abs=0.001)
    assert leading[1] / leading[0] == pytest.approx(0.5, abs=0.03)
    assert following[0] == pytest.approx([0.0011, 0.0028], abs=0.0006)
    assert (following[1] < 0.4 * following[0] + 2e-4).all()


def test_leading_error_does_not_vanish_when_all_sizes_grow():
    errors = []
    for scale in (1, 2, 4):
        p, design = 60 * scale, ut.Design(3, 30 * scale, 2 * scale)
        problem = ut.MixedLinearRegression(p, 1.0, 0.5)
        rates = [-1.0, 0.2]
        q = [ut.theory.expected_distance(problem, design, rates, method=x) for x in ("leading", "auto")]
        errors.append(q[0] / q[1] - 1)
    known = np.array([[-0.102, -0.117], [-0.098, -0.110], [-0.096, -0.105]])
    assert np.array(errors) == pytest.approx(known, abs=0.002)


@pytest.mark.parametrize(("n_t", "n_v", "m"), [(4, 2, 3), (4, 2, 9), (20, 5, 6)])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.long
def test_slope_at_zero_is_positive_for_the_noise_and_zero_for_the_tasks(n_t, n_v, m, steps):
    p, e, design = 10, 0.004, ut.Design(m, n_t, n_v)
    # The same draws at both rates: the difference has a small standard error.
    out = distance_samples(p, design, np.array([-e, e]), runs=12_000, seed=m, steps=steps)
    slope = estimate((out[:, 1, 1:] - out[:, 0, 1:]) / (2 * e))
    expected = underparameterized.slope_at_zero(p, design, steps)
    assert expected > 0
    assert np.abs(slope.z([0.0, expected])).max() < 4


def test_the_whole_road_from_sampled_tasks_to_the_loss():
    """Everything sampled, nothing in closed form: tasks by MixedLinearRegression.sample, then train, adapt and test."""
    p, n_adapt = 12, 8
    problem = ut.MixedLinearRegression(p, 0.8, 0.6, mean_weights=np.linspace(-1, 1, p))
    design, init = ut.Design(3, 6, 2, n_adapt), np.full(p, 0.2)
    generator, rates = np.random.default_rng(12), np.array([-1.0, 0.0, 0.3])
    losses = np.empty((1000, len(rates)))
    for run in losses:
        tasks = problem.sample(design, generator)
        x, y, xq, yq = problem.sample(design.new_tasks(1, 30), generator)[:4]
        for k, rate in enumerate(rates):
            omega = meta_train(tasks, rate, 1, init)
            theta = omega - 0.3 * x[0].T @ (x[0] @ omega - y[0]) / n_adapt
            run[k] = ((xq[0] @ theta - yq[0]) ** 2).mean() / 2
    value = ut.theory.expected_loss(problem, design, rates, 0.3, init=init)
    assert np.abs(estimate(losses).z(value)).max() < 4


@pytest.mark.long
@pytest.mark.parametrize("n_rows", [8, 16, 24, 32, 48, 80, 160])
@pytest.mark.long
def test_threshold_curve(n_rows):
    p, n_t, n_v = 40, 20, 4
    design, rates = ut.Design(n_rows // n_v, n_t, n_v), np.array([-0.5, 0.3])
    mc = estimate(distance_samples(p, design, rates, runs=400, seed=n_rows))
    value = parts(p, design, rates, "auto")
    allowed = 0.025 + 4 * mc.error[:, 1:] / mc.mean[:, 1:]
    assert (np.abs(value[:, 1:] / mc.mean[:, 1:] - 1) < allowed).all()


def test_solution_of_the_scalar_equation():
    rule = wishart.spectrum(30, 12)
    for share in (1e-3, 0.3, 0.999):
        d = (1 - np.array([-30.0, -1.0, 0.0, 0.4, 1.0, 50.0])[:, None] * rule.nodes) ** 2
        kappa = equivalent.solve(d, rule.weights, share)
        assert (d / (d + kappa[:, None])) @ rule.weights == pytest.approx(share, rel=1e-9)


@pytest.mark.parametrize("y", [0.4, 2.5])
@pytest.mark.parametrize("rate", [-1.3, 0.2, 0.9])
def test_resolvent_agrees_with_its_closed_form(y, rate):
    """The Stieltjes transform of the Marchenko-Pastur law at z = (1 - i sqrt(kappa))/a, by its quadratic equation."""
    kappa, rule = 0.37, wishart.marchenko_pastur(y)
    z = (1 - 1j * np.sqrt(kappa)) / rate
    roots = np.roots([y * z, z + y - 1, 1])
    m = roots[np.argmax(roots.imag * z.imag)]
    d = (1 - rate * rule.nodes) ** 2
    assert rule.weights @ (1 / (d + kappa)) == pytest.approx(-m.imag / (rate * np.sqrt(kappa)), rel=1e-12)
    second = rule.weights @ (rule.nodes / (d + kappa))
    assert second == pytest.approx(-(z * m).imag / (rate * np.sqrt(kappa)), rel=1e-12)


def test_one_drawn_task_agrees_with_its_equivalent_when_sizes_are_large():
    p, design = 180, ut.Design(8, 90, 36)
    assert free_sum.applies(p, design)
    drawn = np.stack(free_sum.coefficients(p, design, RATES), axis=1)[:, 1:]
    limit = np.stack(equivalent.coefficients(p, design, RATES), axis=1)[:, 1:]
    assert drawn / limit == pytest.approx(1.0, abs=0.01)
    assert (drawn[2] == limit[2]).all()  # rate 0


@pytest.mark.long
@pytest.mark.parametrize("m", [5, 40])
def test_published_sizes_with_more_query_rows(m):
    p, rates = 30, np.array([-0.3, -0.1, 0.0, 0.1, 0.3])
    design = ut.Design(m, 5, 25)
    mc = estimate(distance_samples(p, design, rates, runs=3000 if m == 5 else 400, seed=m))
    value, lead = parts(p, design, rates, "equivalent"), parts(p, design, rates, "leading")
    allowed = 0.014 + 4 * mc.error[:, 1:] / mc.mean[:, 1:]
    assert (np.abs(value[:, 1:] / mc.mean[:, 1:] - 1) < allowed).all()
    worst = np.abs(lead[:, 1:] / mc.mean[:, 1:] - 1).max()
    assert worst == pytest.approx({5: 0.47, 40: 0.065}[m], abs=0.03)
