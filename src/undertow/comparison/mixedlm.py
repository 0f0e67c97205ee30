r"""Rivals of statsmodels: linear mixed models with a random intercept, or with random slopes, by REML.

A new task is predicted by the BLUP: with fixed effects :math:`\beta`, covariance :math:`\Psi` of the random effects
and noise variance :math:`\sigma^2`, its weights are :math:`\beta + \Psi X_t^T (X_t \Psi X_t^T + \sigma^2 I)^{-1}
(y_t - X_t \beta)`, which is ``ridge_adapt`` with task covariance :math:`\Psi` and ratio :math:`\sigma^2`.

statsmodels' optimisers do not always arrive: lbfgs has been seen to return a zero variance without a word. So bfgs and
powell are both tried, the package's own order of optimisers where bfgs does not converge, and the fit with the largest
likelihood is used.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from undertow.comparison.rivals import Fitted, NoFit, TooSlow, Training, linear
from undertow.linear.proximal_step import ridge_adapt

# Smallest part of a column that the ones before it must leave unexplained.
_NOVEL = 1e-5
# Variance of a random effect over noise variance below which it counts as zero.
_BOUNDARY = 1e-6


class MixedFit(NamedTuple):
    """A mixed model in the space of d features, the last one the intercept."""

    omega: np.ndarray
    """(d,) fixed effects; 0 for a feature that others determine"""
    covariance: np.ndarray
    """(d, d) of the random effects"""
    noise: float
    """noise variance"""
    log_likelihood: float
    converged: bool
    optimiser: str
    notes: tuple[str, ...]


def fit(training: Training, *, slopes: bool) -> Fitted:
    """Mixed model whose tasks differ by a constant or, with ``slopes``, in all weights, with a full covariance."""
    data = training.data
    found = fit_mixedlm(data.x, data.y, data.offsets, slopes=slopes, deadline=training.deadline)
    adapt = partial(ridge_adapt, found.omega, ratio=found.noise, task_covariance=found.covariance)
    return linear(training, adapt, *found.notes)


def fit_mixedlm(
    x: np.ndarray, y: np.ndarray, offsets: np.ndarray, *, slopes: bool, deadline: float | None = None
) -> MixedFit:
    """Fit statsmodels' MixedLM to rows x (R, d), whose last feature is 1, of the tasks that ``offsets`` bound.

    Raises TooSlow at the deadline (``time.monotonic()``) where no optimiser has ended by then, and NoFit where each
    one fails. Warnings of statsmodels never come through: what they mean is in ``notes``.
    """
    kept = independent_columns(x)
    constant = len(kept) - 1
    fixed = x[:, kept]
    model = _timed_class()(
        y,
        fixed,
        np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)),
        exog_re=fixed if slopes else fixed[:, [constant]],
    )
    model.deadline = deadline
    best, failures, late = None, [], False
    for optimiser in ("bfgs", "powell", None):
        if optimiser is None and best is not None and best[0].converged:
            continue  # statsmodels begins with bfgs too, and goes on only where that does not converge
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                fit = model.fit() if optimiser is None else model.fit(method=[optimiser])
                likelihood = float(fit.llf)
        except TooSlow:
            late = True
            break
        except Exception as error:  # whatever a foreign optimiser may raise is a failed fit, not a crash
            failures.append(f"{optimiser or 'default'}: {error or type(error).__name__}")
            continue
        usable = np.isfinite(likelihood) and np.isfinite(fit.fe_params).all() and np.isfinite(fit.cov_re).all()
        if not (usable and np.isfinite(fit.scale) and fit.scale > 0):
            failures.append(f"{optimiser or 'default'}: not finite")
        elif best is None or likelihood > best[1]:
            best = fit, likelihood, optimiser or "default"
    if best is None:
        if late:
            raise TooSlow
        raise NoFit(f"statsmodels found no fit ({'; '.join(failures)})")
    fit, likelihood, optimiser = best
    found = read_fit(fit, x.shape[1], kept, slopes=slopes)
    late_note = (f"time limit: {optimiser} only",) if late else ()
    return found._replace(log_likelihood=likelihood, optimiser=optimiser, notes=(*found.notes, *late_note))


def read_fit(fit: Any, d: int, kept: list[int], *, slopes: bool) -> MixedFit:
    """Return what statsmodels, or a package with its attributes, has found for the features ``kept`` out of d."""
    omega, covariance = np.zeros(d), np.zeros((d, d))
    omega[kept] = fit.fe_params
    random = kept if slopes else kept[-1:]
    values, vectors = np.linalg.eigh(np.asarray(fit.cov_re, dtype=np.float64))
    # Rounding may leave a variance slightly below 0.
    covariance[np.ix_(random, random)] = (vectors * values.clip(0)) @ vectors.T
    notes = (
        "" if fit.converged else "not converged",
        "covariance at its boundary" if values.min() < _BOUNDARY * fit.scale else "",
        "" if len(kept) == d else f"{d - len(kept)} collinear features dropped",
    )
    said = tuple(note for note in notes if note)
    return MixedFit(omega, covariance, float(fit.scale), float(fit.llf), bool(fit.converged), "", said)


def independent_columns(x: np.ndarray) -> list[int]:
    """Numbers of columns of x (R, d) that the intercept, the last one, and earlier columns do not determine.

    A feature that is constant among the rows is determined by the intercept. The last number is the intercept's.
    """
    basis = x[:, -1:] / np.linalg.norm(x[:, -1])
    kept = []
    for j in range(x.shape[1] - 1):
        rest = x[:, j] - basis @ (basis.T @ x[:, j])
        rest -= basis @ (basis.T @ rest)
        size = np.linalg.norm(rest)
        if len(basis.T) < len(x) and size > _NOVEL * max(np.linalg.norm(x[:, j]), 1e-300):
            kept.append(j)
            basis = np.concatenate([basis, rest[:, None] / size], axis=1)
    return [*kept, x.shape[1] - 1]


def _timed_class() -> Any:
    """MixedLM that stops at a deadline, and makes no Hessian: we have no use for standard errors of its parameters."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    class Timed(MixedLM):  # pyright: ignore[reportUntypedBaseClass]
        deadline: float | None = None

        def _look_at_the_clock(self) -> None:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise TooSlow

        def loglike(self, *args: Any, **kwargs: Any) -> Any:
            self._look_at_the_clock()
            return super().loglike(*args, **kwargs)

        def score(self, *args: Any, **kwargs: Any) -> Any:
            self._look_at_the_clock()
            return super().score(*args, **kwargs)

        def hessian(self, params: Any) -> Any:
            n = self.k_fe + self.k_re2 + self.k_vc
            return -np.eye(n), False

    return Timed
