"""Generative models of tasks, as frozen records, and the sizes of an experiment.

A model's ``draw`` uses only operators and a random source with ``normal(shape)`` and ``uniform(low, high, shape)``.
So it is written once: NumPy's generator is wrapped here, and any other array library can be wrapped likewise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError


@runtime_checkable
class RandomSource(Protocol):
    """What a generative model may ask of its randomness."""

    def normal(self, shape: tuple[int, ...]) -> Any:
        """Independent standard normal numbers."""
        ...

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Any:
        """Independent numbers, uniform on [low, high)."""
        ...


class NumpySource:
    """A NumPy generator as a RandomSource. ``seed`` is anything that ``numpy.random.default_rng`` takes."""

    def __init__(self, seed: Any = None, dtype: Any = np.float64) -> None:
        try:
            self.generator = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            raise InputError(f"seed={seed!r}: {error}. Give a whole number, a SeedSequence or a Generator.") from None
        self.dtype = np.dtype(dtype)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Independent standard normal numbers."""
        return self.generator.standard_normal(shape, dtype=self.dtype)  # type: ignore[arg-type]

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        """Independent numbers, uniform on [low, high)."""
        return low + (high - low) * self.generator.random(shape, dtype=self.dtype)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Design:
    """The sizes of one meta-learning experiment.

    ``n_tasks`` m, ``n_support`` n_t rows for the inner step and ``n_query`` n_v rows for the outer loss while
    meta-training; ``n_adapt`` n_r rows for the step on a new task (None: as many as ``n_support``).
    """

    n_tasks: int
    n_support: int
    n_query: int
    n_adapt: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "n_adapt" and value is None:
                value = self.n_support
            object.__setattr__(self, field.name, _check.positive_int(value, field.name))

    @property
    def n_query_rows(self) -> int:
        """N = n_v m, the number of rows of the outer problem."""
        return self.n_query * self.n_tasks

    def new_tasks(self, n_tasks: int, n_query: int) -> Design:
        """Return the design of ``n_tasks`` new tasks: n_adapt rows to adapt on and ``n_query`` rows to test on."""
        assert self.n_adapt is not None  # set in __post_init__
        return Design(n_tasks, self.n_adapt, n_query, self.n_adapt)


@dataclass(frozen=True, eq=False)
class MixedLinearRegression:
    """Mixed linear regression: y = x.w + z with one w per task.

    x ~ N(0, Sigma_x), w ~ N(w_0, Sigma_w), z ~ N(0, sigma^2).

    n_features: p.
    noise_std: sigma >= 0.
    task_std: nu >= 0 with nu^2 = E|w - w_0|^2 = tr Sigma_w, a trace and not a per-feature variance. None means 0.5,
        or the square root of the trace of ``task_covariance`` where that is given.
    mean_weights: w_0, (p,); None means zeros.
    task_covariance: Sigma_w, (p, p), or (p,) for a diagonal one; None means nu^2 / p times the identity.
    input_covariance: Sigma_x, (p, p), or (p,) for a diagonal one; None means the identity.

    Raises InputError for a size, a covariance or a scale that cannot be one.
    """

    n_features: int
    noise_std: float = 1.0
    task_std: float | None = None
    mean_weights: Any = None
    task_covariance: Any = None
    input_covariance: Any = None

    def __post_init__(self) -> None:
        p = _check.positive_int(self.n_features, "n_features")
        store = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (frozen record)
        store("n_features", p)
        store("noise_std", _check.real(self.noise_std, "noise_std", minimum=0.0))
        store("task_covariance", _covariance(self.task_covariance, "task_covariance", p))
        store("input_covariance", _covariance(self.input_covariance, "input_covariance", p))
        store("mean_weights", _vector(self.mean_weights, "mean_weights", p))
        store("task_std", self._task_std())

    def _task_std(self) -> float:
        if self.task_covariance is None:
            return 0.5 if self.task_std is None else _check.real(self.task_std, "task_std", minimum=0.0)
        implied = math.sqrt(float(trace(self.task_covariance)))
        given = implied if self.task_std is None else _check.real(self.task_std, "task_std", minimum=0.0)
        if not math.isclose(given, implied, rel_tol=1e-9, abs_tol=1e-12):
            raise InputError(
                f"task_std={self.task_std!r} contradicts task_covariance, whose trace is {implied**2:g}: task_std^2 is "
                "that trace. Leave task_std out, or scale the covariance."
            )
        return implied

    def draw(self, source: RandomSource, design: Design) -> TaskBatch:
        """Draw one TaskBatch of the design's sizes from any RandomSource."""
        m, p = design.n_tasks, self.n_features
        scale = self.task_std / math.sqrt(p) if self.task_covariance is None else None  # type: ignore[operator]
        weights = self.mean_weights + _colour(source.normal((m, p)), self.task_covariance, scale)

        def rows(n: int) -> tuple[Any, Any]:
            x = _colour(source.normal((m, n, p)), self.input_covariance)
            return x, (x @ weights[:, :, None])[..., 0] + self.noise_std * source.normal((m, n))

        return TaskBatch(*rows(design.n_support), *rows(design.n_query))

    def sample(self, design: Design, seed: Any = 0, dtype: Any = np.float64) -> TaskBatch:
        """Draw a TaskBatch with NumPy: support_x (m, n_t, p), support_y (m, n_t), query_x, query_y likewise.

        ``seed`` is an int, a SeedSequence or a Generator (which then advances); ``dtype`` is float64 or float32.
        """
        try:
            kind = np.dtype(dtype)
        except TypeError:
            kind = np.dtype(object)
        if kind not in (np.float64, np.float32):
            raise InputError(f"dtype={dtype!r}: it must be float64 or float32.")
        if not isinstance(design, Design):
            raise InputError(f"design={design!r}: give the sizes as Design(n_tasks, n_support, n_query).")
        dtype = kind
        batch = self.draw(NumpySource(seed, dtype), design)
        return TaskBatch(*(None if a is None else a.astype(dtype, copy=False) for a in batch))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MixedLinearRegression):
            return NotImplemented
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))

    def __hash__(self) -> int:
        return hash((self.n_features, self.noise_std, self.task_std, self.mean_weights.tobytes()))


def trace(covariance: np.ndarray) -> float:
    """Trace of a covariance given as (p, p), or as (p,) for a diagonal one."""
    return float(covariance.sum() if covariance.ndim == 1 else np.trace(covariance))


def _vector(value: Any, name: str, p: int) -> np.ndarray:
    return _frozen(np.zeros(p) if value is None else _check.vector(value, name, p))


def _covariance(value: Any, name: str, p: int) -> np.ndarray | None:
    if value is None:
        return None
    array = _check.numbers(value, name)
    if array.shape not in ((p,), (p, p)):
        raise InputError(
            f"{name} has shape {array.shape}: with n_features={p} it must be ({p}, {p}), or ({p},) for a diagonal one."
        )
    if array.ndim == 2 and not np.allclose(array, array.T, rtol=1e-10, atol=1e-12 * abs(array).max()):
        raise InputError(f"{name} is not symmetric: a covariance must be. Use (C + C.T) / 2 if that is what is meant.")
    lowest = float(array.min() if array.ndim == 1 else np.linalg.eigvalsh(array)[0])
    if lowest < -1e-10 * max(abs(array).max(), 1e-300):
        raise InputError(f"{name} has a negative eigenvalue, {lowest:g}: a covariance cannot.")
    return _frozen(array)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _colour(white: Any, covariance: np.ndarray | None, scale: float | None = None) -> Any:
    """Give white noise (..., p) the covariance."""
    if covariance is None:
        return white if scale is None else white * scale
    if covariance.ndim == 1:
        return white * np.sqrt(covariance)
    # The symmetric root also serves a singular covariance, which Cholesky would refuse.
    values, vectors = np.linalg.eigh(covariance)
    return white @ ((vectors * np.sqrt(values.clip(0))) @ vectors.T)
