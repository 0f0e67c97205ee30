r"""The inner problem: from the starting point omega to the adapted weights theta of one task.

Two rules, with L the mean loss on the support rows and a signed rate alpha:

    Explicit (k gradient steps)   theta_0 = omega,  theta_{j+1} = theta_j - alpha grad L(theta_j)
    Implicit (proximal)           theta = omega - alpha grad L(theta)

The implicit one is a stationary point of L(theta) + |theta - omega|^2 / (2 alpha): the proximal inner problem of iMAML
(Rajeswaran et al., NeurIPS 2019, arXiv:1909.04630) with strength lambda = 1 / alpha. To first order in alpha both are
the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from undertow import _check
from undertow._check import InputError
from undertow.gradient.leaves import Tree, join, part, split
from undertow.gradient.losses import LossFn, task_loss
from undertow.gradient.rates import align, check_finite, is_scalar

_HALVINGS = 8


@dataclass(frozen=True)
class Explicit:
    """The rule of MAML: ``steps`` gradient steps. Needs no options."""


@dataclass(frozen=True)
class Reptile:
    """The inner steps of ``Explicit`` with Reptile's outer gradient: the sum of the gradients along the steps.

    With one rate alpha that is (omega - theta) / alpha, which also has a value at alpha = 0. An outer gradient step of
    size eps * alpha is the update omega + eps (theta - omega) of Nichol et al., "On first-order meta-learning
    algorithms", 2018, arXiv:1803.02999. The query rows are used for the reported loss only.
    """


@dataclass(frozen=True)
class Implicit:
    """The rule of iMAML: theta = omega - rate * grad L(theta), solved by ``steps`` Newton steps.

    Each Newton step, and the meta-gradient through the implicit function theorem, solves a system with the matrix
    I + rate * Hessian by conjugate gradients: nothing of the inner iteration is kept for the meta-gradient. The
    solution is a minimum of rate * L(theta) + |theta - omega|^2 / 2, where that matrix is positive definite. With a
    convex loss there is one for every positive rate, and for a negative one above -1 / lambda_max of the Hessian.
    ``MetaInfo.residual`` says how well the inner problem was solved. The rate must be one number.
    """

    cg_iterations: int = 50
    """at most so many iterations of conjugate gradients"""
    tolerance: float = 1e-6
    """relative size of the residual at which they stop"""

    def __post_init__(self) -> None:
        _check.positive_int(self.cg_iterations, "cg_iterations")
        _check.real(self.tolerance, "tolerance", minimum=0.0)


Rule = Explicit | Implicit | Reptile


class Adapted(NamedTuple):
    """What the inner problem of one task returns."""

    trained: Tree
    """adapted weights, as ``split`` gives them"""
    loss_before: jax.Array
    """mean support loss at the starting point"""
    gradient_sum: Tree
    """sum of the gradients along the steps, for the leaves that move; None but for Reptile"""
    residual: Any
    """|theta - omega + rate grad L(theta)| / |theta - omega|; None but for Implicit"""


def adapt(
    loss_fn: LossFn,
    params: Tree,
    support: tuple[Any, ...],
    rate: Any = -0.1,
    steps: int = 1,
    *,
    first_order: bool = False,
    rule: Rule | None = None,
    adapts: Tree = True,
    remat: bool = False,
) -> Tree:
    """Return the parameters adapted to one task, theta = params - rate * gradient of the support loss (k times).

    loss_fn: loss_fn(params, x, y) -> scalar, a mean over rows.
    params: any pytree. Its arrays of floating point numbers adapt; everything else is kept.
    support: (x, y), or (x, y, mask) with mask (n,) True where a row is real.
    rate: one number of either sign, a tree of rates, or PerStep. It is a traced value.
    steps: number k of steps, scanned; 0 returns params.
    first_order: treat the gradient of the inner step as a constant when differentiating through this function.
    rule: Explicit() (None means this), Implicit(...) or Reptile(), whose inner steps are those of Explicit.
    adapts: one boolean or a tree of booleans: which leaves move (``last_layer``, ``all_but_last``, ``leaves``).
    remat: recompute each step in the backward pass instead of storing it: memory no longer grows with the step's
        activations.

    Returns a pytree like params. Raises InputError when rate, adapts or support do not fit.
    Source: Finn et al., "Model-agnostic meta-learning", ICML 2017, arXiv:1703.03400; Bernacchia, "Meta-learning with
    negative learning rates", ICLR 2021, arXiv:2102.00940.
    """
    if not isinstance(support, tuple | list):
        raise InputError(f"support is of type {type(support).__name__}: it must be (x, y) or (x, y, mask).")
    if len(support) not in (2, 3):
        raise InputError(f"support has {len(support)} parts: it must be (x, y) or (x, y, mask).")
    support = tuple(jnp.asarray(part) if isinstance(part, list) else part for part in support)
    if len(support) == 3 and support[2] is not None and _is_empty(support[2]):
        raise InputError("support has no real row (its mask is False everywhere): a step needs at least one.")
    check_finite(rate, "rate")
    trained, rest = split(params)
    loss = lambda t: task_loss(loss_fn, join(t, rest), *support)  # noqa: E731
    adapted = solve(loss, trained, rate, steps, first_order=first_order, rule=rule, adapts=adapts, remat=remat)
    return join(adapted.trained, rest)


def _is_empty(mask: Any) -> bool:
    """Whether no row is real; False where the mask is traced, and so not known yet."""
    try:
        return not np.asarray(mask).any()
    except jax.errors.TracerArrayConversionError:
        return False


def solve(
    loss: Callable[[Tree], jax.Array],
    trained: Tree,
    rate: Any,
    steps: int,
    *,
    first_order: bool,
    rule: Rule | None,
    adapts: Tree,
    remat: bool,
    name: str = "rate",
) -> Adapted:
    """Solve the inner problem of one task for ``loss``, a function of the trained leaves."""
    steps = _check.positive_int(steps, "steps", minimum=0)
    rule = check_rule(rule, rate, name)
    moving, still = part(trained, adapts)
    aligned, stepwise = align(rate, trained, adapts, steps, name)
    objective = lambda m: loss(join(m, still))  # noqa: E731
    if steps == 0:
        return Adapted(trained, objective(moving), jax.tree.map(jnp.zeros_like, moving), None)
    if isinstance(rule, Implicit):
        theta, residual = _implicit(loss, moving, still, rate, steps, rule)
        before = objective(moving)
        if first_order:
            theta = jax.tree.map(lambda t, w: w + jax.lax.stop_gradient(t - w), theta, moving)
        return Adapted(join(theta, still), before, None, residual)
    wanted = isinstance(rule, Reptile)
    theta, before, total = _explicit(objective, moving, aligned, stepwise, steps, first_order or wanted, remat, wanted)
    return Adapted(join(theta, still), before, total, None)


def check_rule(rule: Any, rate: Any, name: str = "rate") -> Rule:
    """Return the rule, or raise InputError when it is none or does not go with the rate."""
    rule = Explicit() if rule is None else rule
    if not isinstance(rule, Explicit | Implicit | Reptile):
        raise InputError(f"rule={rule!r}: it must be Explicit(), Implicit(...) or Reptile(). First order is an option.")
    if isinstance(rule, Implicit) and not is_scalar(rate):
        raise InputError(
            f"{name} is not one number: with rule=Implicit it must be, so that the matrix I + rate * Hessian is "
            "symmetric. Use Explicit() for rates per leaf or per step."
        )
    return rule


def _explicit(
    objective: Callable[[Tree], jax.Array],
    start: Tree,
    rates: Tree,
    stepwise: bool,
    steps: int,
    first_order: bool,
    remat: bool,
    keep_sum: bool,
) -> tuple[Tree, jax.Array, Tree]:
    def step(carry: Any, rate: Any) -> Any:
        theta, total = carry
        loss, gradient = jax.value_and_grad(objective)(theta)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        rate = rate if stepwise else rates
        theta = jax.tree.map(lambda t, g, r: (t - r * g).astype(t.dtype), theta, gradient, rate)
        total = jax.tree.map(jnp.add, total, gradient) if keep_sum else None
        return (theta, total), loss

    if remat:
        step = jax.checkpoint(step)
    carry = (start, jax.tree.map(jnp.zeros_like, start) if keep_sum else None)
    if steps == 1:
        (theta, total), loss = step(carry, jax.tree.map(lambda r: r[0], rates) if stepwise else None)
        return theta, loss, total
    (theta, total), losses = jax.lax.scan(step, carry, rates if stepwise else None, length=steps)
    return theta, losses[0], total


def _implicit(
    loss: Callable[[Tree], jax.Array], start: Tree, still: Tree, rate: Any, steps: int, rule: Implicit
) -> tuple[Tree, jax.Array]:
    origin, back = ravel_pytree(start)
    constant = lambda tree: jax.tree.map(jax.lax.stop_gradient, tree)  # noqa: E731
    cg = lambda matrix, right: conjugate_gradients(matrix, right, rule.tolerance, rule.cg_iterations)  # noqa: E731

    def residual(theta: jax.Array, origin: jax.Array, still: Tree, rate: Any) -> jax.Array:
        gradient = jax.grad(lambda t: loss(join(back(t), still)))(theta)
        return (theta - origin + rate * gradient).astype(theta.dtype)

    frozen = (constant(origin), constant(still), constant(rate))
    function = lambda theta: residual(theta, *frozen)  # noqa: E731

    def merit(theta: jax.Array) -> jax.Array:
        # Its gradient is the residual, whatever the sign of the rate.
        return frozen[2] * loss(join(back(theta), frozen[1])) + 0.5 * jnp.sum((theta - frozen[0]) ** 2)

    def newton(theta: jax.Array, _: None) -> tuple[jax.Array, None]:
        value, matrix = jax.linearize(function, theta)
        change = cg(matrix, value)
        # Near the solution the full step is right, and the merit too flat to say so; far from it a shorter one may be.
        sizes = 0.5 ** jnp.arange(_HALVINGS)
        merits = jax.lax.map(lambda size: merit(theta - size * change), sizes)
        best = sizes[jnp.argmin(jnp.where(jnp.isnan(merits), jnp.inf, merits))]
        good = jnp.linalg.norm(function(theta - change)) < 0.5 * jnp.linalg.norm(value)
        return (theta - jnp.where(good, 1.0, best) * change).astype(theta.dtype), None

    found = constant(jax.lax.scan(newton, frozen[0], None, length=steps)[0])
    value, matrix = jax.linearize(function, found)
    moved = jnp.linalg.norm(found - frozen[0])
    relative = jnp.linalg.norm(value) / jnp.maximum(moved, jnp.finfo(moved.dtype).tiny)
    # The residual is nearly zero, but its derivative is not: one more Newton step carries the implicit derivative
    # d theta = (I + rate H)^{-1} (d omega - grad L d rate), with the matrix held fixed.
    change = jax.lax.custom_linear_solve(matrix, residual(found, origin, still, rate), cg, symmetric=True)
    return back((found - change).astype(found.dtype)), relative


def conjugate_gradients(
    matrix: Callable[[jax.Array], jax.Array], right: jax.Array, tolerance: float, iterations: int
) -> jax.Array:
    """Solve matrix(x) = right (n,) for a symmetric positive definite matrix.

    Stops early at a direction of no positive curvature, with what was found until then (the right side itself if
    nothing was): a direction along which right . x > 0 in any case.
    """
    limit = tolerance**2 * (right @ right)

    def step(loop: Any) -> Any:
        i, x, left, direction, size, _ = loop
        image = matrix(direction)
        curvature = direction @ image
        convex = curvature > 0
        length = jnp.where(convex, size / jnp.where(convex, curvature, 1), jnp.where(i == 0, 1, 0)).astype(x.dtype)
        left = left - length * image
        new = left @ left
        direction = left + (new / size).astype(x.dtype) * direction
        return i + 1, x + length * loop[3], left, direction, new, convex

    going = lambda loop: (loop[0] < iterations) & (loop[4] > limit) & loop[5]  # noqa: E731
    start = (0, jnp.zeros_like(right), right, right, right @ right, jnp.asarray(True))
    return jax.lax.while_loop(going, step, start)[1]


def norm(tree: Tree) -> jax.Array:
    """Euclidean norm of all numbers in a tree."""
    return jnp.sqrt(sum(jnp.sum(jnp.abs(leaf) ** 2) for leaf in jax.tree.leaves(tree)))
