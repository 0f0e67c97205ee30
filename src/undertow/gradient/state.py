"""What training returns: a state, a history, and an error that says where it blew up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

# Series that hold what the loss returns beside its value.
AUX = "aux "


class TrainState(NamedTuple):
    """Where training stands. A value: nothing in it changes later.

    Examples
    --------
    >>> from undertow import gradient as ug
    >>> ug.TrainState._fields[:5]
    ('params', 'rate', 'optimizer_state', 'iteration', 'stopped')
    """

    params: Any
    """the trained pytree, omega"""
    rate: Any
    """the train rate; with learn_rate=True the learned one"""
    optimizer_state: Any
    """state of the Optax optimiser"""
    iteration: int
    """number of updates made"""
    stopped: str
    """why it stopped: "iterations", "target_loss", "tolerance", "patience" or "callback" ("non_finite" in an
    error's state)"""
    best_params: Any = None
    """params at the least validation loss; None without validation tasks"""
    best_rate: Any = None
    """the rate at that point"""
    best_loss: float = float("inf")
    """the least validation loss"""
    best_iteration: int = 0
    """number of updates made at that point"""


_SERIES = ("meta_loss", "support_before", "support_after", "gradient_norm")


@dataclass(frozen=True)
class History:
    """What was seen at each iteration, before its update. t iterations, v validations, l leaves of a learned rate.

    Examples
    --------
    >>> import optax, undertow as ut
    >>> from undertow import gradient as ug
    >>> params, apply = ug.mlp((1, 10, 1), key=0)
    >>> waves = ug.Source(ut.Sinusoid(), ut.Design(n_tasks=5, n_support=5, n_query=5))
    >>> state, history = ug.train(ug.squared_loss(apply), params, waves, optax.adam(1e-3), -0.01, iterations=3)
    >>> history.table().num_rows, history.meta_loss.shape
    (3, (3,))
    """

    meta_loss: np.ndarray
    """(t,) mean query loss after the inner step"""
    support_before: np.ndarray
    """(t,) mean support loss before the inner step"""
    support_after: np.ndarray
    """(t,) mean support loss after it: larger than before where the inner step goes uphill"""
    gradient_norm: np.ndarray
    """(t,) Euclidean norm of the meta-gradient (of the learned rate too)"""
    rate_mean: np.ndarray
    """(t, l) mean of each leaf of a learned rate; l = 0 for a fixed one"""
    rate_negative: np.ndarray
    """(t, l) share of negative numbers in each leaf of a learned rate"""
    rate_names: tuple[str, ...] = ()
    """names of these leaves"""
    residual: np.ndarray | None = None
    """(t,) the largest ``MetaInfo.residual`` of the tasks; None but for the rule Implicit"""
    aux: dict[str, np.ndarray] = field(default_factory=dict)
    """(t, ...) what the loss returns beside its value, averaged over tasks, by the path of each leaf"""
    validation_iteration: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    """(v,) number of updates made when the validation tasks were evaluated"""
    validation_loss: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(v,) mean query loss of the validation tasks after adaptation"""

    def table(self) -> pa.Table:
        """Return one row per iteration: the series, each learned rate's mean and share of negative numbers, and the
        validation loss, which is null where it was not evaluated."""
        n = len(self.meta_loss)
        columns: dict[str, Any] = {"iteration": np.arange(n)} | {name: getattr(self, name) for name in _SERIES}
        if self.residual is not None:
            columns["residual"] = self.residual
        columns |= {f"aux {name}": values for name, values in self.aux.items() if values.ndim == 1}
        for j, name in enumerate(self.rate_names):
            columns[f"rate_mean {name}"] = self.rate_mean[:, j]
            columns[f"rate_negative {name}"] = self.rate_negative[:, j]
        at = dict(zip(self.validation_iteration.tolist(), self.validation_loss.tolist(), strict=True))
        if at:
            columns["validation_loss"] = pa.array([at.get(i + 1) for i in range(n)], pa.float64())
        return pa.table(columns)


class NonFiniteError(ArithmeticError):
    """Training met a loss or a gradient that is not finite or stands for no solution, and stopped before using it.

    Examples
    --------
    >>> import jax.numpy as jnp, optax, undertow as ut
    >>> from undertow import gradient as ug
    >>> tasks = ut.MixedLinearRegression(n_features=3).sample(ut.Design(5, 10, 5), seed=0, dtype="float32")
    >>> try:
    ...     ug.train(
    ...         lambda w, x, y: jnp.mean((x @ w - y) ** 2), jnp.zeros(3), tasks, optax.sgd(0.1), train_rate=-40.0,
    ...         inner=ug.InnerLoop(steps=30), iterations=100,
    ...     )
    ... except ug.NonFiniteError as error:
    ...     print(error.iteration, error.cause)
    0 rate
    """

    def __init__(
        self,
        message: str,
        *,
        iteration: int,
        task: int,
        cause: str,
        rate: Any,
        stable_interval: tuple[float, float],
        state: TrainState,
        history: History,
    ) -> None:
        super().__init__(message)
        self.iteration = iteration
        """iteration, counted from 0"""
        self.task = task
        """position of the first such task in that iteration's batch (in the TaskBatch, if it is the source)"""
        self.cause = cause
        """what is to blame: "rate" (the inner steps grew), "unsolved" (an implicit inner problem without solution),
        "start" (a loss before any step), "derivative" or "second_derivative" (the loss has none there), "data",
        "params" (not finite after the update before), or "sum" (each task is finite, their mean is not)"""
        self.rate = rate
        """train rate"""
        self.stable_interval = stable_interval
        """rates between which repeated inner steps on that task do not grow, at the parameters before the step; the
        upper end is NaN where the loss has no finite second derivative"""
        self.state = state
        """the state before that iteration: its parameters are finite"""
        self.history = history
        """history up to and including that iteration"""


class Records:
    """Histories of chunks, put together at the end."""

    def __init__(self, rate_names: tuple[str, ...]) -> None:
        self.rate_names = rate_names
        self.chunks: list[dict[str, np.ndarray]] = []
        self.validation: list[tuple[int, float]] = []

    def add(self, chunk: dict[str, Any], count: int) -> None:
        """Keep the first ``count`` rows of a chunk."""
        self.chunks.append({name: np.asarray(values)[:count] for name, values in chunk.items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """All series, and the validations, as arrays."""
        if len(self.chunks) > 1:
            self.chunks = [{name: np.concatenate([c[name] for c in self.chunks]) for name in self.chunks[0]}]
        empty = {name: np.zeros(0) for name in _SERIES}
        empty |= {name: np.zeros((0, len(self.rate_names))) for name in ("rate_mean", "rate_negative")}
        return (self.chunks[0] if self.chunks else empty) | {
            "validation_iteration": np.array([i for i, _ in self.validation], dtype=np.int64),
            "validation_loss": np.array([loss for _, loss in self.validation], dtype=np.float64),
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what ``arrays`` gave."""
        pairs = zip(arrays["validation_iteration"].tolist(), arrays["validation_loss"].tolist(), strict=True)
        self.validation = list(pairs)
        self.chunks = [{name: values for name, values in arrays.items() if not name.startswith("validation")}]

    def history(self) -> History:
        """Return what was recorded."""
        arrays = self.arrays()
        aux = {name.removeprefix(AUX): arrays.pop(name) for name in list(arrays) if name.startswith(AUX)}
        return History(rate_names=self.rate_names, aux=aux, **arrays)
