"""Generative models of tasks, as frozen records, and the sizes of an experiment.

A model's ``draw`` uses only operators, a random source with ``normal(shape)`` and ``uniform(low, high, shape)``, and
functions of the namespace that an array itself names (``__array_namespace__`` of the array API standard). So it is
written once: NumPy's generator is wrapped here, and any other array library can be wrapped likewise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting


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
            raise InputError("seed", seed, f"{error}.", "Give a whole number, a SeedSequence or a Generator.") from None
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

    Examples
    --------
    >>> import undertow as ut
    >>> design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
    >>> design.n_query_rows
    6
    >>> design.new_tasks(n_tasks=100, n_query=50)
    Design(n_tasks=100, n_support=20, n_query=50, n_adapt=20)
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
            object.__setattr__(self, field.name, _check.whole_number(value, field.name))

    @property
    def n_query_rows(self) -> int:
        """N = n_v m, the number of rows of the outer problem."""
        return self.n_query * self.n_tasks

    def new_tasks(self, n_tasks: int, n_query: int) -> Design:
        """Return the design of ``n_tasks`` new tasks: n_adapt rows to adapt on and ``n_query`` rows to test on."""
        assert self.n_adapt is not None  # set in __post_init__
        return Design(n_tasks, self.n_adapt, n_query, self.n_adapt)


class Problem:
    """A generative model of tasks, a value: two of one kind with equal fields are equal.

    A subclass is a dataclass with ``frozen=True, eq=False``; it writes ``draw`` and gets the rest from here.
    """

    def draw(self, source: RandomSource, design: Design) -> TaskBatch:
        """Draw one TaskBatch of the design's sizes from any RandomSource."""
        raise NotImplementedError

    def sample(self, design: Design, seed: Any = 0, dtype: Any = np.float64) -> TaskBatch:
        """Draw a TaskBatch with NumPy: support_x (m, n_t, p), support_y (m, n_t), query_x, query_y likewise.

        ``seed`` is an int, a SeedSequence or a Generator (which then advances); ``dtype`` is float64 or float32.
        """
        try:
            kind = np.dtype(dtype)
        except TypeError:
            kind = np.dtype(object)
        if kind not in (np.float64, np.float32):
            raise InputError("dtype", dtype, "it must be float64 or float32.")
        if not isinstance(design, Design):
            raise InputError(
                "design", design, "it must be a Design.", "Give the sizes as Design(n_tasks, n_support, n_query)."
            )
        dtype = kind
        batch = self.draw(NumpySource(seed, dtype), design)
        return TaskBatch(*(None if a is None else a.astype(dtype, copy=False) for a in batch))

    def _values(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Problem):
            return NotImplemented
        pairs = zip(self._values(), other._values(), strict=False)
        return type(self) is type(other) and all(np.array_equal(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((type(self), *(value for value in self._values() if not isinstance(value, np.ndarray))))

    def _store(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # frozen record


@dataclass(frozen=True, eq=False)
class MixedLinearRegression(Problem):
    """Mixed linear regression: y = x.w + z with one w per task.

    x ~ N(0, Sigma_x), w ~ N(w_0, Sigma_w), z ~ N(0, sigma^2).

    Parameters
    ----------
    n_features
        p.
    noise_std
        sigma >= 0.
    task_std
        nu >= 0 with nu^2 = E|w - w_0|^2 = tr Sigma_w, a trace and not a per-feature variance. None means 0.5, or
        the square root of the trace of ``task_covariance`` where that is given.
    mean_weights
        w_0, (p,); None means zeros.
    task_covariance
        Sigma_w, (p, p), or (p,) for a diagonal one; None means nu^2 / p times the identity.
    input_covariance
        Sigma_x, (p, p), or (p,) for a diagonal one; None means the identity.

    Raises
    ------
    InputError
        for a size, a covariance or a scale that cannot be one.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.MixedLinearRegression(n_features=3, noise_std=0.5, task_std=1.0)
    >>> problem.sample(ut.Design(n_tasks=4, n_support=5, n_query=2), seed=0).support_x.shape
    (4, 5, 3)
    """

    n_features: int
    noise_std: float = 1.0
    task_std: float | None = None
    mean_weights: Any = None
    task_covariance: Any = None
    input_covariance: Any = None

    def __post_init__(self) -> None:
        p = _check.whole_number(self.n_features, "n_features")
        self._store("n_features", p)
        self._store("noise_std", _check.real(self.noise_std, "noise_std", minimum=0.0))
        self._store("task_covariance", _covariance(self.task_covariance, "task_covariance", p))
        self._store("input_covariance", _covariance(self.input_covariance, "input_covariance", p))
        self._store("mean_weights", _vector(self.mean_weights, "mean_weights", p))
        self._store("task_std", self._task_std())

    def _task_std(self) -> float:
        if self.task_covariance is None:
            return 0.5 if self.task_std is None else _check.real(self.task_std, "task_std", minimum=0.0)
        implied = math.sqrt(float(trace(self.task_covariance)))
        given = implied if self.task_std is None else _check.real(self.task_std, "task_std", minimum=0.0)
        if not math.isclose(given, implied, rel_tol=1e-9, abs_tol=1e-12):
            raise InputError(
                "task_std",
                self.task_std,
                f"it contradicts task_covariance, whose trace is {implied**2:g}: task_std^2 is that trace.",
                ("Leave ", Setting("task_std"), " out, or scale the covariance."),
            )
        return implied

    def draw(self, source: RandomSource, design: Design) -> TaskBatch:
        """Return one TaskBatch of the design's sizes from any RandomSource."""
        m, p = design.n_tasks, self.n_features
        scale = self.task_std / math.sqrt(p) if self.task_covariance is None else None  # type: ignore[operator]
        weights = self.mean_weights + _colour(source.normal((m, p)), self.task_covariance, scale)

        def rows(n: int) -> tuple[Any, Any]:
            x = _colour(source.normal((m, n, p)), self.input_covariance)
            return x, (x @ weights[:, :, None])[..., 0] + self.noise_std * source.normal((m, n))

        return TaskBatch(*rows(design.n_support), *rows(design.n_query))


@dataclass(frozen=True, eq=False)
class QuadraticRegression(Problem):
    r"""Quadratic regression: y = (x.w + b)^2 + z with one w and one b per task, x ~ N(0, I).

    The nonlinear problem of Bernacchia, ICLR 2021 (arXiv:2102.00940); sizes and scales are ours. w ~ N(w_0, nu^2 / p
    I), b ~ N(b_0, tau^2), z ~ N(0, sigma^2). With w_0 = 0 and b_0 = 0 the mean of y is nu^2 + tau^2 and its variance 2
    (nu^2 + tau^2)^2 + 6 nu^4 / p + sigma^2: of order 1 at every p.

    Parameters
    ----------
    n_features
        p.
    noise_std
        sigma >= 0.
    task_std
        nu >= 0 with nu^2 = E|w - w_0|^2, a trace and not a per-feature variance.
    mean_weights
        w_0, (p,); None means zeros.
    mean_offset, offset_std
        b_0, and tau >= 0.

    Raises
    ------
    InputError
        for a size or a scale that cannot be one.

    Examples
    --------
    >>> import undertow as ut
    >>> problem = ut.QuadraticRegression(n_features=5, noise_std=0.1)
    >>> problem.sample(ut.Design(n_tasks=4, n_support=8, n_query=3), seed=0).query_y.shape
    (4, 3)
    """

    n_features: int
    noise_std: float = 0.5
    task_std: float = 1.0
    mean_weights: Any = None
    mean_offset: float = 0.0
    offset_std: float = 0.5

    def __post_init__(self) -> None:
        self._store("n_features", _check.whole_number(self.n_features, "n_features"))
        for name in ("noise_std", "task_std", "offset_std"):
            self._store(name, _check.real(getattr(self, name), name, minimum=0.0))
        self._store("mean_offset", _check.real(self.mean_offset, "mean_offset"))
        self._store("mean_weights", _vector(self.mean_weights, "mean_weights", self.n_features))

    def draw(self, source: RandomSource, design: Design) -> TaskBatch:
        """Return one TaskBatch of the design's sizes from any RandomSource."""
        m, p = design.n_tasks, self.n_features
        weights = self.mean_weights + self.task_std / math.sqrt(p) * source.normal((m, p))
        offsets = self.mean_offset + self.offset_std * source.normal((m, 1))

        def rows(n: int) -> tuple[Any, Any]:
            x = source.normal((m, n, p))
            return x, ((x @ weights[:, :, None])[..., 0] + offsets) ** 2 + self.noise_std * source.normal((m, n))

        return TaskBatch(*rows(design.n_support), *rows(design.n_query))


@dataclass(frozen=True, eq=False)
class Sinusoid(Problem):
    """Sine waves, as in Finn, Abbeel, Levine, ICML 2017 (arXiv:1703.03400), section 5.1: y = A sin(x - phase).

    Amplitude A ~ U[0.1, 5] and phase ~ U[0, pi] of each task; x ~ U[-5, 5]; no noise. The paper names the ranges; that
    the phase is subtracted is read from the authors' code (github.com/cbfinn/maml, ``generate_sinusoid_batch``).

    Examples
    --------
    >>> import undertow as ut
    >>> tasks = ut.Sinusoid().sample(ut.Design(n_tasks=2, n_support=10, n_query=10), seed=0)
    >>> tasks.support_x.shape, bool(abs(tasks.support_y).max() <= 5)
    ((2, 10, 1), True)
    """

    n_features: ClassVar[int] = 1

    def draw(self, source: RandomSource, design: Design) -> TaskBatch:
        """Return one TaskBatch of the design's sizes from any RandomSource."""
        m = design.n_tasks
        amplitude = source.uniform(0.1, 5.0, (m, 1))
        phase = source.uniform(0.0, math.pi, (m, 1))

        def rows(n: int) -> tuple[Any, Any]:
            x = source.uniform(-5.0, 5.0, (m, n, 1))
            return x, amplitude * x.__array_namespace__().sin(x[..., 0] - phase)

        return TaskBatch(*rows(design.n_support), *rows(design.n_query))


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
            None,
            rule=f"{name} has shape {array.shape}: with {p} features it must be ({p}, {p}), or ({p},) for a diagonal "
            "one.",
        )
    if array.ndim == 2 and not np.allclose(array, array.T, rtol=1e-10, atol=1e-12 * abs(array).max()):
        raise InputError(
            None,
            rule=f"{name} is not symmetric: a covariance must be.",
            way_out="Use (C + C.T) / 2 if that is what is meant.",
        )
    lowest = float(array.min() if array.ndim == 1 else np.linalg.eigvalsh(array)[0])
    if lowest < -1e-10 * max(abs(array).max(), 1e-300):
        raise InputError(None, rule=f"{name} has a negative eigenvalue, {lowest:g}: a covariance cannot.")
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
