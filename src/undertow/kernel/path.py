r"""The path of exact solutions of the outer problem in the space of a kernel, over signed train rates.

With G(a) and gamma(a) of ``blocks``, the meta-learned function is, of all that minimise the squared error after the
inner steps, the one nearest to f0 in the norm of the kernel:

.. math:: c(a) = G(a)^{+} \gamma(a), \qquad
          f^*(x) = f_0(x) + [c_0 K_{xV} + K_{xT} \textstyle\sum_{j \ge 1} c_j L_j^T] \, c(a) .

For one step that is :math:`f_0(x) + [K_{xV} - a K_{xT} L^T] c(a)`. On a new task with adaptation rows R,

.. math:: f_{ad}(x) = f^*(x) - (\alpha_r / n_r) K_{xR} (f^*(X_R) - y_R) .

Everything depends on the targets only through y - f0, so f0 is subtracted once and added back to predictions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check, _circle
from undertow._batch import TaskBatch
from undertow._check import InputError, Setting, one_of
from undertow.kernel.blocks import Kernel, KernelBlocks, checked, own_values, real_rows, real_targets, step_maps, values
from undertow.kernel.solve import REMEDY, KernelProblem
from undertow.kernel.start import Start, subtracted, values_at
from undertow.linear import circle
from undertow.linear.blocks import Tasks, as_batches, row_weights
from undertow.linear.outer_problem import check_ridges
from undertow.linear.surface import BestRates, LossSurface, refined, with_tasks

_MATRIX_NUMBERS = 1 << 24


@dataclass(frozen=True, eq=False)
class KernelPath:
    """Exact meta-learned functions at each train rate (and each ridge).

    With several ridges the arrays marked (k,) have shape (k, r), and one more axis r follows k in all others.

    Examples
    --------
    >>> import undertow as ut
    >>> tasks = ut.QuadraticRegression(n_features=5).sample(ut.Design(n_tasks=4, n_support=8, n_query=3), seed=0)
    >>> path = ut.kernel.kernel_path(ut.kernel.relu_ntk, tasks, [-1.0, 0.0, 1.0], rate_unit="spectral")
    >>> path.evaluate(tasks).best_adapt_rate.shape
    (3,)
    """

    train_rates: np.ndarray
    """(k,) raw rates alpha_t, of either sign; infinity is a rate"""
    weights: np.ndarray
    """(k, N + m n_t) weights of the kernel at the query rows and then the support rows: f* - f0 = K_{x,VT} weights"""
    meta_loss: np.ndarray
    """(k,) half the mean squared error on the query rows after the inner steps; infinite at the rate infinity"""
    outcome: np.ndarray
    """(k,) "minimum_norm", "least_squares", "ridge" or "ill_conditioned"; ``explain`` says more"""
    condition: np.ndarray
    """(k,) condition number of B, the root of that of G"""
    rank: np.ndarray
    """(k,) numerical rank of G, before any ridge"""
    ridges: np.ndarray
    """(r,) ridges, relative to tr(G) / N"""
    f0: Start | None
    """the function or values that the path starts from; None for zero"""
    problem: KernelProblem
    """the outer problem, kept so that further rates can be asked for (``at``)"""

    @property
    def scale(self) -> float:
        """Spectral unit of the rate, 1 / lambda_max of K_tt / n_t (mean over tasks in feature space)."""
        return self.problem.blocks.scale

    @property
    def steps(self) -> int:
        """Number of inner steps k while meta-training."""
        return self.problem.blocks.steps

    @property
    def n_rows(self) -> int:
        """N, number of query rows."""
        return self.problem.blocks.n_rows

    @property
    def n_tasks(self) -> int:
        """Number of tasks, m."""
        return self.problem.blocks.n_tasks

    @property
    def spectral_rates(self) -> np.ndarray:
        """(k,) rates in the spectral unit."""
        return self.train_rates / self.scale

    @property
    def angles(self) -> np.ndarray:
        """(k,) angles of the rates on the circle, in [-pi/2, pi/2]."""
        return _circle.angles_of(self.train_rates, self.scale)

    def at(self, train_rates: Any) -> KernelPath:
        """Return the path of the same problem at other raw rates; the kernel is not computed again."""
        rates = np.atleast_1d(_check.rates(train_rates, "train_rates", infinite=True))
        return _solve(self.problem, rates, self.ridges, self.outcome.ndim == 2, self.f0)

    def predict(self, x: Any, f0: Any = None) -> np.ndarray:
        """Return the meta-learned functions f* at rows x (n, p), as (k, n).

        Parameters
        ----------
        f0
            (n,) values there, needed only where the path was given values of f0 and not a function.
        """
        x = np.asarray(x, dtype=np.float64)
        self._same_features(x)
        _check.finite(x, "x")
        start = self._start(f0, "(n,) values at these rows")
        part = self._part(x)
        return part if start is None else part + values_at(start if callable(start) else lambda _: start, x)

    def predict_adapted(self, new_tasks: TaskBatch, adapt_rate: float, *, steps: int = 1, f0: Any = None) -> np.ndarray:
        """Return predictions on the query rows of new tasks after steps on their support rows, (k, m, n_q).

        Parameters
        ----------
        adapt_rate
            raw rate. A negative one is taken but warns: it moves up the loss of the new task.
        f0
            pair of values (m, n_r), (m, n_q), needed only where the path was given values of f0 and not a function.
        """
        rate = _check.real(adapt_rate, "adapt_rate", hint="A rate may have either sign.")
        if rate < 0:
            warnings.warn(
                f"adapt_rate={rate:g} is negative: the step moves away from the new task's data.", stacklevel=2
            )
        batch = checked(new_tasks)
        errors = self._errors(self._without_start(batch, f0), _check.whole_number(steps, "steps"))
        c = circle.powers(np.asarray(rate), len(errors) - 1)
        error = np.tensordot(c, errors, axes=1)
        return (error + real_targets(batch, "query")).reshape(*self.outcome.shape, *batch.query_y.shape)

    def evaluate(
        self, new_tasks: Tasks, *, steps: int = 1, per_task: bool = False, weighting: str = "rows", f0: Any = None
    ) -> LossSurface:
        """Return the test loss on new tasks as a function of both rates, exactly.

        Parameters
        ----------
        new_tasks
            their support rows are the adaptation rows and their query rows the test rows.
        steps
            number of adaptation steps.
        per_task
            also keep the loss of each task.
        f0
            pair of values (m, n_r), (m, n_q), needed only where the path was given values of f0 and not a function.

        Raises
        ------
        InputError
            when the tasks have another number of features, or f0 is missing.
        """
        steps = _check.whole_number(steps, "steps")
        one_of(weighting, "weighting", ("rows", "tasks"))
        batches = [self._without_start(checked(batch), f0) for batch in as_batches(new_tasks)]
        parts, shares = [], []
        for batch in batches:
            errors = self._errors(batch, steps)
            if batch.query_mask is not None:
                errors = errors * np.asarray(batch.query_mask)
            counts = np.asarray(batch.query_counts, np.float64)
            parts.append(np.einsum("ikmq,jkmq->mkij", errors, errors, optimize=True) / counts[:, None, None, None])
            shares.append(counts if weighting == "rows" else np.ones_like(counts))
        share, of_tasks = np.concatenate(shares), np.concatenate(parts)
        shape = (*self.outcome.shape, steps + 1, steps + 1)
        products = np.tensordot(share / share.sum(), of_tasks, axes=1).reshape(shape)
        surface = LossSurface(self.train_rates, products, self.scale, self.ridges, weighting=weighting)
        return with_tasks(surface, of_tasks.reshape(-1, *shape), batches) if per_task else surface

    def refine(self, surface: LossSurface, new_tasks: Tasks, *, f0: Any = None) -> BestRates:
        """Return the pair of rates with the least loss on new tasks, also between the rates of the path.

        Parameters
        ----------
        surface
            what ``evaluate`` returned for these tasks and ``f0``. They are evaluated about twenty times more.
        """
        tasks = as_batches(new_tasks)
        return refined(
            surface, lambda rate: self.at(rate).evaluate(tasks, steps=surface.steps, weighting=surface.weighting, f0=f0)
        )

    def explain(self, index: int = 0) -> str:
        """Return in words how the solution at one position of the path was found, and what to do if it is poor."""
        name = str(np.ravel(self.outcome[index])[0])
        condition = float(np.ravel(self.condition[index])[0])
        return (
            f"train_rate={self.train_rates[index]:g}: {name.replace('_', ' ')} (rank {self.rank[index]} of "
            f"{self.n_rows}, condition number {condition:.3g}). {REMEDY[name]}"
        )

    def __repr__(self) -> str:
        finite = self.train_rates[np.isfinite(self.train_rates)]
        span = f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else "infinity"
        return (
            f"KernelPath({len(self.train_rates)} rates, {span}; {self.n_tasks} tasks, {self.n_rows} query rows, "
            f"steps={self.steps}, ridges={self.ridges.tolist()})"
        )

    def _part(self, x: np.ndarray) -> np.ndarray:
        """f* - f0 at rows x (n, p): (k, n) or (k, r, n)."""
        blocks = self.problem.blocks
        flat = self.weights.reshape(-1, self.weights.shape[-1])
        out = values(blocks.kernel, x, blocks.query)[0] @ flat[:, : blocks.n_rows].T
        # In pieces: the kernel between new and support rows can be the largest array here.
        step = max(1, _MATRIX_NUMBERS // len(x))
        for start in range(0, len(blocks.support), step):
            piece = values(blocks.kernel, x, blocks.support[start : start + step])[0]
            out += piece @ flat[:, blocks.n_rows + start : blocks.n_rows + start + step].T
        return out.T.reshape(*self.weights.shape[:-1], len(x))

    def _errors(self, batch: TaskBatch, steps: int) -> np.ndarray:
        """e_0 .. e_k on the query rows of tasks whose targets are free of f0: (steps + 1, K, m, n_q)."""
        kernel = self.problem.blocks.kernel
        x_r, x_q = real_rows(batch, "support"), real_rows(batch, "query")
        self._same_features(x_r)
        m, n_r, p = x_r.shape
        both = self._part(np.concatenate([x_r, x_q], axis=1).reshape(-1, p)).reshape(-1, m, n_r + x_q.shape[1])
        own = own_values(kernel, x_r, x_r) if steps > 1 else None
        maps = step_maps(own_values(kernel, x_q, x_r), own, batch, steps)
        of_support = both[..., :n_r] - real_targets(batch, "support")
        of_query = both[..., n_r:] - real_targets(batch, "query")
        return np.concatenate([of_query[None], np.einsum("jmqr,kmr->jkmq", maps, of_support, optimize=True)])

    def _without_start(self, batch: TaskBatch, f0: Any) -> TaskBatch:
        """The same tasks with y - f0 for targets."""
        return subtracted(batch, self._start(f0, "a pair (support, query) of values at the new rows"))

    def _start(self, f0: Any, needed: str) -> Any:
        """What is given for new rows, or else the function that the path starts from."""
        if f0 is None and self.f0 is not None and not callable(self.f0):
            rule = "the path was given values of f0 and not a function."
            raise InputError(None, rule=rule, way_out=("Pass ", Setting("f0"), f", {needed}."))
        return self.f0 if f0 is None else f0

    def _same_features(self, x: np.ndarray) -> None:
        p = self.problem.blocks.query.shape[1]
        if x.shape[-1] != p or x.ndim < 2:
            raise InputError(
                None, rule=f"new rows have shape {x.shape}: they need the {p} features of the training tasks."
            )


def kernel_path(
    kernel: Kernel | KernelBlocks,
    tasks: TaskBatch,
    train_rates: Any = None,
    ridge: Any = 0.0,
    f0: Any = None,
    steps: int = 1,
    *,
    rate_unit: str = "raw",
    weighting: str = "rows",
) -> KernelPath:
    """Solve the outer problem of MAML exactly at every train rate, for a model linear in a kernel's features.

    Parameters
    ----------
    kernel
        a function of two sets of rows, (n, p) and (l, p), that returns (n, l), such as ``relu_ntk``; or the
        ``KernelBlocks`` of these tasks, which serve again for other targets, starts and ridges.
    tasks
        one TaskBatch (masks where tasks have different numbers of rows).
    train_rates
        rates of the inner step, of either sign; 0 means no inner loop, infinity is allowed. None means the grid of
        ``undertow.rate_path``.
    ridge
        one number or several >= 0, relative to tr(G) / N; it pulls towards f0. At 0 the solution is the one nearest
        to f0, by Cholesky where G is well conditioned and by its eigenvalues above roundoff where it is not.
    f0
        the model before training, a function of rows (n, p) that returns (n,), or a pair of its values at the
        support rows (m, n_t) and query rows (m, n_v); None means zero.
    steps
        number of inner steps, each at the same rate.
    rate_unit
        "raw", or "spectral" when ``train_rates`` are multiples of 1 / lambda_max (see ``KernelPath.scale``).
    weighting
        "rows" (each query row counts once) or "tasks" (each task once).

    Returns
    -------
    KernelPath
        ``meta_loss``, ``outcome`` and ``condition`` (k,) at the k rates, ``weights`` (k, N + m n_t) of the kernel;
        ``predict`` takes it to new rows, ``evaluate`` to new tasks.

    Raises
    ------
    InputError
        naming the argument that cannot be used.

    Notes
    -----
    The kernel does not change along the inner steps: for a network this holds at infinite width, or for its
    linearisation.

    Examples
    --------
    >>> import undertow as ut
    >>> tasks = ut.QuadraticRegression(n_features=5).sample(ut.Design(n_tasks=4, n_support=8, n_query=3), seed=0)
    >>> path = ut.kernel.kernel_path(ut.kernel.relu_ntk, tasks, [-1.0, 0.0, 1.0], rate_unit="spectral")
    >>> path.predict(tasks.query_x[0]).shape
    (3, 3)
    """
    batch = checked(tasks)
    steps = _check.whole_number(steps, "steps")
    if isinstance(kernel, KernelBlocks):
        if kernel.steps != steps:
            raise InputError(
                "steps", steps, f"the blocks were made for {kernel.steps}.", "Make the blocks with the same number."
            )
        if not kernel.same_inputs(batch):
            raise InputError(
                None,
                rule="the blocks were made for other inputs than those of tasks.",
                way_out="Make the blocks from these tasks.",
            )
        blocks = kernel
    elif callable(kernel):
        blocks = KernelBlocks.of(kernel, batch, steps)
    else:
        raise InputError("kernel", kernel, "it must be a function of two sets of rows, or KernelBlocks.")
    rates = circle.asked(train_rates, rate_unit, blocks.scale)
    free = subtracted(batch, f0)
    targets = blocks.targets(real_targets(free, "support"), real_targets(free, "query"))
    share = row_weights(batch, weighting)
    if share is not None:
        share = np.repeat(share, batch.query_x.shape[1])[blocks.keep]
    total = float(blocks.n_rows if share is None else share.sum())
    problem = KernelProblem(blocks, targets, None if share is None else np.sqrt(share), total)
    return _solve(problem, rates, check_ridges(ridge), np.ndim(ridge) > 0, f0)


def _solve(problem: KernelProblem, rates: np.ndarray, ridges: np.ndarray, many: bool, f0: Start | None) -> KernelPath:
    fit = problem.solve(rates, ridges)
    take = slice(None) if many else 0
    return KernelPath(
        train_rates=rates,
        weights=fit.weights[:, take],
        meta_loss=fit.meta_loss[:, take],
        outcome=fit.outcome[:, take],
        condition=fit.condition[:, take],
        rank=fit.rank,
        ridges=ridges,
        f0=f0,
        problem=problem,
    )
