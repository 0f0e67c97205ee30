"""Between which rates an inner step does not blow up: the largest curvature of the support loss, by Lanczos."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from undertow import _check
from undertow.gradient.inner import one_support
from undertow.gradient.leaves import Tree, join, part, split, unwrap
from undertow.gradient.losses import LossFn, key_of, task_loss


def curvatures(
    loss_fn: LossFn, params: Tree, support: tuple[Any, ...], *, adapts: Tree = True, iterations: int = 30
) -> tuple[jax.Array, jax.Array]:
    """Return (smallest, largest) eigenvalue of the Hessian of one task's support loss, by Lanczos.

    Parameters
    ----------
    loss_fn, params
        as in ``adapt``.
    support
        (x, y) or (x, y, mask).
    adapts
        which leaves move; the Hessian is taken with respect to these.
    iterations
        number of products of the Hessian and a vector. Both ends converge from inside the spectrum.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> def loss_fn(w, x, y):
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> x, y = jnp.diag(jnp.array([1.0, 2.0])), jnp.zeros(2)
    >>> [round(float(one), 3) for one in ug.curvatures(loss_fn, jnp.ones(2), (x, y))]  # of x^T x / n
    [0.5, 2.0]
    """
    iterations = _check.whole_number(iterations, "iterations")
    params, state = unwrap(params)
    support = one_support(loss_fn, params, support)
    bare, keyed = key_of(loss_fn)
    key = None if keyed is None else jax.random.fold_in(keyed.of_tasks(1)[0], 0)
    loss = lambda p: task_loss(bare, p, *support, key=key, state=state)[0]  # noqa: E731
    trained, rest = split(params)
    moving, still = part(trained, adapts)
    flat, back = ravel_pytree(moving)
    gradient = jax.grad(lambda v: loss(join(join(back(v), still), rest)))
    # Half precision has no eigenvalue routine, and would lose the orthogonal basis.
    real = jnp.promote_types(flat.dtype, jnp.float32)
    product = lambda v: jax.jvp(gradient, (flat,), (v.astype(flat.dtype),))[1].astype(real)  # noqa: E731
    n = min(iterations, flat.size)
    start = jax.random.normal(jax.random.key(0, impl="threefry2x32"), flat.shape, real)

    def step(carry: Any, j: Any) -> Any:
        basis, vector = carry
        basis = basis.at[j].set(vector)
        image = product(vector)
        diagonal = image @ vector
        # Twice is enough: rounding errors of the first pass would bring copies of an eigenvalue.
        for _ in range(2):
            image = image - basis.T @ (basis @ image)
        length = jnp.linalg.norm(image)
        tiny = jnp.finfo(real).eps * (jnp.abs(diagonal) + 1e-30)
        vector = jnp.where(length > tiny, image / jnp.maximum(length, tiny), 0)
        return (basis, vector), (diagonal, jnp.where(length > tiny, length, 0))

    carry = (jnp.zeros((n, flat.size), real), start / jnp.linalg.norm(start))
    _, (diagonal, beside) = jax.lax.scan(step, carry, jnp.arange(n))
    # Once the vector is 0 nothing is left to find, and 0 is no eigenvalue: the first entry lies among those found.
    found = jnp.cumprod(jnp.append(1, beside[:-1] > 0)) > 0
    diagonal = jnp.where(found, diagonal, diagonal[0])
    values = jnp.linalg.eigvalsh(jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1))
    return values[0], values[-1]


def stable_interval(
    loss_fn: LossFn, params: Tree, support: tuple[Any, ...], *, adapts: Tree = True, iterations: int = 30
) -> tuple[float, float]:
    """Return (0, 2 / lambda_max): the rates at which repeated inner steps on this task do not grow along any direction.

    lambda_max is the largest eigenvalue of the Hessian of the support loss at params. A step at rate alpha multiplies
    the distance along an eigenvector by 1 - alpha lambda: outside of the interval, which includes every negative rate,
    it grows. One or a few growing steps are no fault (that is what a negative rate does); many of them overflow.
    Where no curvature is positive the upper end is infinite.

    Parameters
    ----------
    loss_fn, params, support
        as in ``adapt``.
    adapts, iterations
        as in ``curvatures``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import undertow as ut
    >>> from undertow import gradient as ug
    >>> def loss_fn(w, x, y):
    ...     return 0.5 * jnp.mean((x @ w - y) ** 2)
    >>> x, y = jnp.diag(jnp.array([1.0, 2.0])), jnp.zeros(2)
    >>> low, high = ug.stable_interval(loss_fn, jnp.ones(2), (x, y))
    >>> low, round(high, 3)
    (0.0, 1.0)
    """
    _, top = curvatures(loss_fn, params, support, adapts=adapts, iterations=iterations)
    top = float(top)
    return 0.0, (2.0 / top if top > 0 else float("inf") if top <= 0 else float("nan"))
