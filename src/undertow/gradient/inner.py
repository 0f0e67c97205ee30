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
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.gradient.inner_loop import ONE_STEP, Explicit, Implicit, InnerLoop, Reptile, check_inner, turned, turns
from undertow.gradient.leaves import Tree, join, part, split, unwrap, warn_of_ties, wrap
from undertow.gradient.losses import LossFn, key_of, task_loss
from undertow.gradient.masks import check_rows, without_full_masks
from undertow.gradient.rates import align

_HALVINGS = 8


class Adapted(NamedTuple):
    """What the inner problem of one task returns."""

    trained: Tree
    """adapted weights, as ``split`` gives them"""
    loss_before: jax.Array
    """mean support loss at the starting point"""
    gradient_sum: Tree
    """sum of the gradients along the steps, for the leaves that move; None but for Reptile"""
    residual: Any
    """|theta - omega + rate grad L(theta)| / |theta - omega|, infinite where there is no minimum; None but for
    Implicit"""


def adapt(loss_fn: LossFn, params: Tree, support: tuple[Any, ...], rate: Any, inner: InnerLoop = ONE_STEP) -> Tree:
    """Return the parameters adapted to one task, theta = params - rate * gradient of the support loss (k times).

    Parameters
    ----------
    loss_fn
        loss_fn(params, x, y) -> scalar, a mean over rows; also with_key(loss_fn, key). More in ``meta_loss``.
    params
        any pytree, or Stateful. Its arrays of floating point numbers adapt; everything else is kept.
    support
        (x, y), or (x, y, mask) with mask (n,) True where a row is real.
    rate
        one number of either sign (a positive one goes down the support loss, a negative one up), a tree of rates,
        or PerStep. It is a traced value.
    inner
        the inner loop; one explicit step of all leaves where it is left out.

    Returns
    -------
    Tree
        a pytree like params.

    Raises
    ------
    InputError
        when rate, inner or support do not fit.

    References
    ----------
    Finn et al., "Model-agnostic meta-learning", ICML 2017, arXiv:1703.03400; Bernacchia, "Meta-learning with negative
    learning rates", ICLR 2021, arXiv:2102.00940.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> def loss_fn(w, x, y):
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> x, y = jnp.array([[1.0], [2.0]]), jnp.array([1.0, 2.0])
    >>> for rate in (-0.1, 0.1):
    ...     theta = ug.adapt(loss_fn, jnp.zeros(1), (x, y), rate)
    ...     print(rate, round(float(loss_fn(theta, x, y)), 3))
    -0.1 1.953
    0.1 0.703
    """
    if not isinstance(support, tuple | list):
        raise InputError("support", rule=f"it must be (x, y) or (x, y, mask), and is of type {type(support).__name__}.")
    if len(support) not in (2, 3):
        raise InputError("support", rule=f"it must be (x, y) or (x, y, mask), and has {len(support)} parts.")
    if len(support) == 3 and support[2] is not None and _is_empty(support[2]):
        raise InputError("support", rule="it has no real row (its mask is False everywhere).", way_out="Give a row.")
    check_inner(inner, rate)
    warn_of_ties(params)
    params, state = unwrap(params)
    trained, rest = split(params)
    support = one_support(loss_fn, params, support)
    loss_fn, keyed = key_of(loss_fn)
    key = None if keyed is None else keyed.of_tasks(1)[0]

    def loss(weights: Tree, step: Any) -> jax.Array:
        noise = None if key is None else jax.random.fold_in(key, step)
        return task_loss(loss_fn, join(weights, rest), *support, key=noise, state=state)[0]

    found = solve(loss, trained, rate, inner)
    limit = inner.max_residual
    if limit is not None and not isinstance(found.residual, jax.core.Tracer) and not float(found.residual) <= limit:
        raise InputError(
            "rate",
            rate,
            f"the implicit inner problem is not solved: {unsolved(float(found.residual), limit)}.",
            "It may have no solution at this rate. Use one nearer to 0, or more steps.",
        )
    return wrap(join(found.trained, rest), state)


def one_support(loss_fn: LossFn, params: Tree, support: tuple[Any, ...]) -> tuple[Any, ...]:
    """The rows (x, y, mask) of one task as arrays, without a mask that is True everywhere; see ``check_rows``.

    Raises InputError for what is no array, and where they do not have the same number of rows.
    """
    try:
        # A list of lists is one array.
        x, y, mask = jax.tree.map(jnp.asarray, (*support, None)[:3], is_leaf=lambda node: isinstance(node, list))
    except (TypeError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise InputError("support", rule=f"it must hold arrays of numbers ({what}).") from None
    shapes = {name: [leaf.shape for leaf in jax.tree.leaves(one)] for name, one in (("x", x), ("y", y), ("mask", mask))}
    rows = {shape[:1] for found in shapes.values() for shape in found}
    if not shapes["x"] or not shapes["y"] or len(rows) > 1 or rows & {(), (0,)}:
        raise InputError(
            "support",
            rule="its arrays must have the same number of rows, at least 1, and their shapes are "
            f"{', '.join(f'{name} {found}' for name, found in shapes.items() if found) or 'none'}.",
        )
    tasks = TaskBatch(*jax.tree.map(lambda a: a[None], (x, y, x, y, mask)))
    tasks = without_full_masks(tasks)
    check_rows(loss_fn, params, tasks)
    return x, y, None if tasks.support_mask is None else mask


def unsolved(residual: float, limit: float) -> str:
    """In which way an implicit inner problem is not solved, as part of a sentence."""
    if np.isinf(residual):
        return "no minimum lies on the way that was taken from the start"
    return f"its residual is {residual:.3g} times the way from the start, more than max_residual={limit:g}"


def _is_empty(mask: Any) -> bool:
    """Whether no row is real; False where the mask is traced, and so not known yet."""
    try:
        return not np.asarray(mask).any()
    except jax.errors.TracerArrayConversionError:
        return False


def solve(
    loss: Callable[[Tree, Any], jax.Array], trained: Tree, rate: Any, inner: InnerLoop, name: str = "rate"
) -> Adapted:
    """Solve the inner problem of one task for ``loss``, a function of the trained leaves and the number of the step.

    The rate goes with the loop (``check_inner``); ``name`` is what the caller calls it.
    """
    moving, still = part(trained, inner.adapts)
    aligned, stepwise = align(rate, trained, inner.adapts, inner.steps, name)
    objective = lambda m, step: loss(join(m, still), step)  # noqa: E731
    if inner.steps == 0:
        return Adapted(trained, objective(moving, 0), jax.tree.map(jnp.zeros_like, moving), None)
    if isinstance(inner.rule, Implicit):
        # One objective for all Newton steps: its random numbers, if it has any, stay the same.
        theta, residual = _implicit(lambda t: loss(t, 0), moving, still, rate, inner.steps, inner.rule)
        before = objective(moving, 0)
        if inner.first_order:
            theta = jax.tree.map(lambda t, w: w + jax.lax.stop_gradient(t - w), theta, moving)
        return Adapted(join(theta, still), before, None, residual)
    theta, before, total = _explicit(objective, moving, aligned, stepwise, inner)
    return Adapted(join(theta, still), before, total, None)


def _explicit(
    objective: Callable[[Tree, Any], jax.Array], start: Tree, rates: Tree, stepwise: bool, inner: InnerLoop
) -> tuple[Tree, jax.Array, Tree]:
    keep_sum = isinstance(inner.rule, Reptile)
    first_order, steps = inner.first_order or keep_sum, inner.steps
    direction = inner.rule.direction if isinstance(inner.rule, Explicit) else None

    def step(carry: Any, at: Any) -> Any:
        theta, total, state = carry
        rate, number = at
        loss, gradient = jax.value_and_grad(objective)(theta, number)
        if first_order:
            gradient = jax.lax.stop_gradient(gradient)
        rate = rate if stepwise else rates
        if direction is not None:
            gradient, state = direction.update(gradient, state, theta)
        theta = jax.tree.map(lambda t, g, r: (t - r * g).astype(t.dtype), theta, gradient, rate)
        total = jax.tree.map(jnp.add, total, gradient) if keep_sum else None
        return (theta, total, state), loss

    if inner.remat:
        step = jax.checkpoint(step)
    total = jax.tree.map(jnp.zeros_like, start) if keep_sum else None
    carry = (start, total, None if direction is None else _state_of(direction, start))
    if steps == 1:
        (theta, total, _), loss = step(carry, (jax.tree.map(lambda r: r[0], rates) if stepwise else None, 0))
        return theta, loss, total
    (theta, total, _), losses = jax.lax.scan(step, carry, (rates if stepwise else None, jnp.arange(steps)))
    return theta, losses[0], total


def _state_of(direction: Any, start: Tree) -> Any:
    """State of a direction at first. Raises InputError where it makes no direction of a gradient, or turns its sign."""
    try:
        wrong = turns(direction, start)
        state = direction.init(start)
        after = jax.eval_shape(lambda g, s: direction.update(g, s, g), start, state)
    except Exception as error:  # whatever a transformation raises that expects another tree or more arguments
        rule = f"it cannot be used in the inner loop ({type(error).__name__}: {error})."
        raise InputError("direction", rule=rule, way_out="Take one that needs the gradient alone.") from None
    if wrong:
        raise turned()
    if jax.tree.structure(after) != jax.tree.structure((start, state)):
        raise InputError("direction", rule="its update changes the structure of the gradient or of its own state.")
    return state


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
    # Where theta runs away the residual may stay below |theta - omega|; but then no minimum lies on the way.
    way = found - frozen[0]
    relative = jnp.where(way @ matrix(way) < 0, jnp.inf, relative)
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
