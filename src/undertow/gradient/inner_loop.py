"""The inner loop as a value: how many steps, by which rule, of which leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from undertow import _check
from undertow._check import InputError, Setting
from undertow.gradient.fingerprints import identify_transform
from undertow.gradient.leaves import Tree, join, part, split
from undertow.gradient.rates import check_finite, is_scalar


@dataclass(frozen=True)
class Explicit:
    """The rule of MAML: ``steps`` steps theta - rate * d, with d the gradient of the support loss.

    Raises
    ------
    InputError
        where ``direction`` turns the sign, as an optimiser with a learning rate of its own does.

    Examples
    --------
    >>> import optax
    >>> from undertow import gradient as ug
    >>> ug.InnerLoop(steps=3, rule=ug.Explicit(optax.trace(0.9))).steps
    3
    """

    direction: optax.GradientTransformation | None = None
    """what makes d of the gradient: an Optax transformation that scales and keeps its sign, such as
    ``optax.scale_by_adam(eps_root=1e-8)``, ``optax.trace(0.9)`` (momentum), ``optax.clip_by_global_norm(1.0)`` or an
    ``optax.chain`` of them. Each task starts it anew, and its state goes from step to step. The signed rate stays
    outside of it"""

    def __post_init__(self) -> None:
        if self.direction is None:
            return
        if not isinstance(self.direction, optax.GradientTransformation):
            raise InputError(
                "direction", self.direction, "it must be an Optax transformation, such as optax.trace(0.9)."
            )
        try:
            found = turns(self.direction, jnp.ones(1))
        except Exception:  # whatever a transformation raises that expects another tree; ``adapt`` looks again
            return
        if found:
            raise turned()


@dataclass(frozen=True)
class Reptile:
    """The inner steps of ``Explicit`` with Reptile's outer gradient: the sum of the gradients along the steps.

    With one rate alpha that is (omega - theta) / alpha, which also has a value at alpha = 0. An outer gradient step of
    size eps * alpha is the update omega + eps (theta - omega) of Nichol et al., "On first-order meta-learning
    algorithms", 2018, arXiv:1803.02999. The query rows are used for the reported loss only.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> ug.InnerLoop(steps=5, rule=ug.Reptile()).rule
    Reptile()
    """


@dataclass(frozen=True)
class Implicit:
    """The rule of iMAML: theta = omega - rate * grad L(theta), solved by ``steps`` Newton steps.

    Each Newton step, and the meta-gradient through the implicit function theorem, solves a system with the matrix
    I + rate * Hessian by conjugate gradients: nothing of the inner iteration is kept for the meta-gradient. The
    solution is a minimum of rate * L(theta) + |theta - omega|^2 / 2, where that matrix is positive definite. With a
    convex loss there is one for every positive rate, and for a negative one above -1 / lambda_max of the Hessian.
    ``MetaInfo.residual`` says how well the inner problem was solved. The rate must be one number.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> ug.InnerLoop(steps=5, rule=ug.Implicit(tolerance=1e-8)).rule.tolerance
    1e-08
    """

    cg_iterations: int = 50
    """at most so many iterations of conjugate gradients"""
    tolerance: float = 1e-6
    """relative size of the residual at which they stop"""
    max_residual: float | None = 1.0
    """``train`` and ``sweep`` stop, and ``adapt`` raises, where |theta - omega + rate grad L(theta)| is more than so
    many times |theta - omega|, since theta then solves nothing, or where no minimum lies between; None means never"""

    def __post_init__(self) -> None:
        _check.whole_number(self.cg_iterations, "cg_iterations")
        _check.real(self.tolerance, "tolerance", minimum=0.0)
        if self.max_residual is not None:
            _check.real(self.max_residual, "max_residual", minimum=0.0)


def turns(direction: optax.GradientTransformation, tree: Tree) -> bool:
    """Whether a transformation turns the sign of a gradient of ones somewhere in a tree of these shapes."""
    with jax.ensure_compile_time_eval():
        ones = jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), jnp.result_type(leaf)), tree)
        moved, _ = direction.update(ones, direction.init(ones), ones)
        return any(float(jnp.sum(leaf).real) < 0 for leaf in jax.tree.leaves(moved))


def turned() -> InputError:
    """What is said of a direction that turns the sign."""
    return InputError(
        "direction",
        rule="it turns the sign of the gradient, as an optimiser with a learning rate does; the sign is that "
        "of the rate alone.",
        way_out="Leave its learning rate out: optax.scale_by_adam() for optax.adam, optax.trace(0.9) for "
        "optax.sgd with momentum.",
    )


Rule = Explicit | Implicit | Reptile
_EXPLICIT = Explicit()


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class InnerLoop:
    """How a task's weights are found from the starting point; without arguments MAML with one step.

    A value without arrays: equal ones are equal to the compiler too, so a new record with the same entries compiles
    nothing anew.

    Raises
    ------
    InputError
        when an entry does not fit, or would do nothing with this rule.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> ug.InnerLoop(steps=3, first_order=True) == ug.InnerLoop(first_order=True, steps=3)
    True
    """

    steps: int = 1
    """number k of steps, scanned; 0 leaves the weights as they are"""
    rule: Rule = _EXPLICIT
    """Explicit(), Implicit(...), or Reptile(), whose inner steps are those of Explicit"""
    first_order: bool = False
    """treat the gradient of the inner step as a constant when differentiating through the loop"""
    adapts: Tree = True
    """one boolean, or a tree of booleans shaped as the parameters (or as their upper levels): which leaves the inner
    step moves (``last_layer``, ``all_but_last``, ``leaves``). The outer optimiser moves the others all the same"""
    trains: Tree = True
    """the same for the outer problem: the leaves that are False have no meta-gradient, and ``train`` and ``sweep``
    leave them as they are. The inner step may still move them"""
    remat: bool = False
    """recompute each step in the backward pass instead of storing it: memory no longer grows with the step's
    activations"""

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise InputError("rule", self.rule, "it must be Explicit(), Implicit(...) or Reptile().")
        for name in ("adapts", "trains"):
            strange = [flag for flag in jax.tree.leaves(getattr(self, name)) if not isinstance(flag, bool | np.bool_)]
            if strange:
                kind = type(strange[0]).__name__
                raise InputError(name, rule=f"it must be one boolean or a tree of booleans, and holds a {kind}.")
        for rule, name, why in (
            (Reptile, "first_order", "no gradient passes through the inner steps"),
            (Implicit, "remat", "no step is stored"),
        ):
            if isinstance(self.rule, rule) and getattr(self, name):
                does = ("with ", Setting("rule", self.rule), f" it does nothing, since {why}.")
                raise InputError(name, True, does, "Leave it out.")
        plain = {"steps": _check.whole_number(self.steps, "steps", minimum=0)}
        plain |= {"first_order": bool(self.first_order), "remat": bool(self.remat)}
        # A copy of the tree: whoever made it may change it later.
        trees = {name: jax.tree.map(bool, getattr(self, name)) for name in ("adapts", "trains")}
        for name, value in (plain | trees).items():
            object.__setattr__(self, name, value)

    @cached_property
    def _identity(self) -> tuple[Any, ...]:
        flags, structure = jax.tree.flatten((self.adapts, self.trains))
        return self.steps, self.rule, self.first_order, self.remat, tuple(flags), structure

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InnerLoop) and self._identity == other._identity

    def _rule(self, trained: Tree) -> str:
        if isinstance(self.rule, Explicit) and self.rule.direction is not None:
            return f"Explicit {identify_transform(self.rule.direction, part(split(trained)[0], self.adapts)[0])}"
        return repr(self.rule)

    @property
    def max_residual(self) -> float | None:
        """Residual above which an inner problem counts as not solved; None where there is no such limit."""
        return self.rule.max_residual if isinstance(self.rule, Implicit) and self.steps else None

    def with_first_order(self) -> InnerLoop:
        """Return the same loop without second derivatives."""
        return self if isinstance(self.rule, Reptile) else replace(self, first_order=True)

    def forward(self, steps: int) -> InnerLoop:
        """Return the same loop with another number of steps, where nothing is differentiated through it."""
        return replace(self, steps=steps, first_order=False, remat=False)

    def settings(self, trained: Tree) -> dict[str, Any]:
        """Return what must be the same for a stored run to be gone on with, as JSON; for these trained leaves."""
        trees = {name: jax.tree.leaves(getattr(self, name)) for name in ("adapts", "trains")}
        return {"steps": self.steps, "first_order": self.first_order, "rule": self._rule(trained), **trees}


ONE_STEP = InnerLoop()


def split_outer(params: Tree, inner: InnerLoop) -> tuple[Tree, Tree]:
    """Return (leaves that the outer optimiser moves, all others)."""
    trained, rest = split(params)
    moved, fixed = part(trained, inner.trains, "trains")
    return moved, join(fixed, rest)


def check_inner(inner: Any, rate: Any, name: str = "rate") -> None:
    """Raise InputError unless ``inner`` is an InnerLoop and the rate, called ``name``, is finite and goes with it."""
    if not isinstance(inner, InnerLoop):
        raise InputError("inner", inner, "it must be an InnerLoop, as in InnerLoop(steps=3).")
    check_finite(rate, name)
    if isinstance(inner.rule, Implicit) and not is_scalar(rate):
        raise InputError(
            name,
            rule="with rule=Implicit it must be one number, so that the matrix I + rate * Hessian is symmetric.",
            way_out="Use Explicit() for rates per leaf or per step.",
        )
