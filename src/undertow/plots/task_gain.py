"""What each task gains from adaptation: tasks in order of their gain, with the mean and its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from undertow import _check
from undertow._check import InputError, Setting
from undertow.choice.interval import gain
from undertow.choice.record import Gain
from undertow.choice.words import NO_ROWS, short
from undertow.linear.surface import LossSurface
from undertow.plots import style
from undertow.plots.fitted import kept
from undertow.plots.panel import Display, add_legend, panel
from undertow.tasks.losses import weights_of

# With more tasks than this their names cannot be read along an axis.
_MOST_NAMES = 30
_LONGEST_NAME = 28
# Tasks farther from the middle half than this many of its widths would leave no room for the others.
_REACH = 4.0


@dataclass
class TaskGainDisplay(Display):
    """Gain of each held-out task from a strategy over another, sorted; losing tasks have a negative gain.

    Examples
    --------
    >>> import undertow as ut
    >>> problem, design = ut.MixedLinearRegression(n_features=8), ut.Design(n_tasks=20, n_support=12, n_query=5)
    >>> path, new_tasks = ut.rate_path(problem.sample(design, seed=0)), problem.sample(design, seed=1)
    >>> display = ut.plots.TaskGainDisplay.from_path(path.evaluate(new_tasks, per_task=True))
    >>> display.gains.shape, 0 <= display.share_losing <= 1
    ((20,), True)
    """

    task_ids: np.ndarray
    """(m,) names of the tasks"""
    gains: np.ndarray
    """(m,) loss under ``base`` minus loss under ``strategy``, in per cent of the mean loss under ``base``"""
    rows: np.ndarray
    """(m,) query rows of each task"""
    mean: Gain
    """mean gain over tasks, with its interval"""
    strategy: str
    base: str
    level: float = 0.95
    """nominal coverage of the interval"""

    @classmethod
    def from_estimator(
        cls, estimator: Any, base: str = NO_ROWS, *, strategy: str | None = None, ax: Any = None
    ) -> TaskGainDisplay:
        """Draw what an estimator with CV gains over ``base`` by its strategy, or another one; return the display.

        Losses are those of tasks that neither fit nor choice has seen (``held_out_``); with several targets they are
        means over the standardised targets.

        Parameters
        ----------
        ax
            axes to draw on; None for a new figure.

        Raises
        ------
        InputError
            for an estimator that is not fitted or keeps no held-out losses, and for strategies that it has not
            tried.
        """
        held_out = kept(estimator, "held_out_")
        if strategy is None:
            strategy = str(kept(estimator, "choice_").strategy)
        made = cls._of(
            held_out.task_ids,
            held_out.mse,
            held_out.names,
            held_out.weights,
            held_out.rows,
            strategy,
            base,
            estimator.level,
        )
        return made.plot(ax)

    @classmethod
    def from_path(
        cls, surface: LossSurface, base: str = "joint", *, strategy: str = "signed", level: float = 0.95
    ) -> TaskGainDisplay:
        """Return the display of what a path gains on new tasks: ``path.evaluate(new_tasks, per_task=True)``.

        Parameters
        ----------
        strategy, base
            "joint" (train rate 0, nothing adapted), "step" (train rate 0, its best adapt rate) or "signed" (the
            best pair of rates), all at the ridge of the best pair. The best rates are those for these tasks.

        Raises
        ------
        InputError
            for a surface without losses of single tasks, or whose path lacks the train rate 0.
        """
        best = surface.best()
        column = int(np.flatnonzero(surface.ridges == best.ridge)[0])
        zero = np.flatnonzero(surface.train_rates == 0)
        if not len(zero):
            raise InputError(
                None, rule="The path holds no train rate 0, which the gain is measured from.",
                way_out=("Add 0 to ", Setting("train_rates"), "."),
            )  # fmt: skip
        adapt = surface.best_adapt_rate[zero[0]]
        pairs = {
            "joint": (int(zero[0]), 0.0),
            "step": (int(zero[0]), float(adapt[column] if np.ndim(adapt) else adapt)),
            "signed": (best.position, best.adapt_rate),
        }
        losses = []
        for position, rate in pairs.values():
            of_tasks = surface.task_loss(rate)[:, position]
            losses.append(of_tasks[:, column] if of_tasks.ndim == 2 else of_tasks)
        # Or task_loss would have raised.
        assert surface.task_rows is not None
        assert surface.task_ids is not None
        rows = surface.task_rows.astype(float)
        weights = weights_of(rows, surface.weighting)
        return cls._of(surface.task_ids, np.stack(losses, axis=1), tuple(pairs), weights, rows, strategy, base, level)

    @classmethod
    def _of(
        cls,
        task_ids: np.ndarray,
        losses: np.ndarray,
        names: tuple[str, ...],
        weights: np.ndarray,
        rows: np.ndarray,
        strategy: str,
        base: str,
        level: float,
    ) -> TaskGainDisplay:
        ours = losses[:, names.index(_check.one_of(strategy, "strategy", names))]
        rival = losses[:, names.index(_check.one_of(base, "base", names))]
        if strategy == base:
            others = ", ".join(repr(name) for name in names if name != base)
            raise InputError(
                "base", base, "it is the strategy whose gain is to be drawn.",
                f"Choose another base or strategy, of {others}.",
            )  # fmt: skip
        mean_loss = float(weights @ rival / weights.sum())
        gains = 100 * (rival - ours) / mean_loss if mean_loss > 0 else np.zeros(len(rival))
        return cls(task_ids, gains, rows, gain(rival, ours, weights, level), strategy, base, level)

    @property
    def share_losing(self) -> float:
        """Share of the tasks with a negative gain."""
        return float(np.mean(self.gains < 0))

    def extremes(self, n: int = 3) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
        """Return names and gains of the ``n`` tasks that gain most, and of as many that gain least, extremes first."""
        order = np.argsort(self.gains, kind="stable")
        least = [(_short(self.task_ids[i]), float(self.gains[i])) for i in order[:n]]
        return [(_short(self.task_ids[i]), float(self.gains[i])) for i in order[::-1][:n]], least

    def plot(self, ax: Any = None, *, legend: bool = True) -> TaskGainDisplay:
        """Draw on ``ax`` or a new figure, and return the display. Up to 30 tasks are named, else the extreme ones."""
        m = len(self.gains)
        named = m <= _MOST_NAMES
        with style.context():
            ax, own = panel(ax, width=5.8, height=1.9 + 0.2 * max(m, 5) if named else 4.4)
            order = np.argsort(self.gains, kind="stable")
            values, rows, place = self.gains[order], self.rows[order], np.arange(m)
            low, high = self._limits()
            ax.axvline(0, color=style.GREY, linewidth=0.7, zorder=0)
            ax.axvspan(
                np.clip(self.mean.low, low, high), np.clip(self.mean.high, low, high), color=style.INK, alpha=0.09,
                linewidth=0, zorder=0.5,
            )  # fmt: skip
            ax.axvline(
                self.mean.percent, color=style.INK, linewidth=1.2, zorder=1,
                label=f"mean {_percent(self.mean.percent)} ({100 * self.level:g} % interval "
                f"{_percent(self.mean.low)} to {_percent(self.mean.high)})",
            )  # fmt: skip
            largest = 60.0 if named else 34.0 if m <= 400 else 16.0
            size = largest * np.clip(rows / max(rows.max(), 1e-300), 0.06, 1)
            inside = (values >= low) & (values <= high)
            n_losing = int((values < 0).sum())
            for part, colour, words in (
                (values >= 0, style.BLUE, f"{m - n_losing} of {m} tasks do not lose"),
                (values < 0, style.ORANGE, f"{n_losing} of {m} tasks lose ({100 * self.share_losing:.0f} %)"),
            ):
                chosen = part & inside
                ax.scatter(
                    values[chosen], place[chosen], s=size[chosen], color=colour, alpha=0.85 if named else 0.65,
                    linewidths=0, zorder=3, label=words if part.any() else None,
                )  # fmt: skip
                far = part & ~inside
                if far.any():
                    ax.scatter(
                        np.clip(values[far], low, high), place[far], marker="<" if colour == style.ORANGE else ">",
                        s=26, color=colour, linewidths=0, zorder=3, clip_on=False,
                        label=f"{int(far.sum())} beyond the axis, to "
                        f"{_percent(max(values[far], key=abs))}",
                    )  # fmt: skip
            ax.set_xlim(low, high)
            ax.set_ylim(-0.03 * m - 0.6, 1.03 * m - 0.4)
            ax.set_xlabel(f"gain in held-out loss,\n% of the mean loss {_base_words(self.base)}")
            ax.set_title(f"gain from {short(self.strategy)}")
            strip = add_legend(ax, own, columns=1 if named else 2, at="bottom") if legend else 0.0
            self._name_tasks(ax, order, named, strip)
        self.ax_ = ax
        return self

    def _name_tasks(self, ax: Any, order: np.ndarray, named: bool, strip: float) -> None:
        """Name all tasks along the axis, or the extreme ones within it, above the ``strip`` of a legend."""
        small, large = self.rows.min(), self.rows.max()
        rows = f"{large:g} query rows each" if small == large else f"dot area: query rows, {small:g} to {large:g}"
        if named:
            ax.set_yticks(np.arange(len(order)), [_short(self.task_ids[i]) for i in order])
            ax.set_ylabel(f"task ({rows})")
            return
        ax.set_yticks([])
        ax.set_ylabel(f"{len(order)} tasks in order\n({rows})")
        best, worst = self.extremes()
        # Sorted values run from the lower left to the upper right: the other two corners are free.
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        for title, some, x, y in (("gain most", best, 0.03, 0.97), ("gain least", worst, 0.97, strip + 0.03)):
            lines = [title, *(f"{name}  {_percent(value)}" for name, value in some)]
            ax.text(
                x, y, "\n".join(lines), transform=ax.transAxes, ha="left" if x < 0.5 else "right",
                va="bottom" if y < 0.5 else "top", fontsize=8, bbox=box, zorder=4,
            )  # fmt: skip

    def _limits(self) -> tuple[float, float]:
        """Ends of the axis: they hold 0, the mean with its interval, and all tasks but those very far off."""
        low, high = np.quantile(self.gains, [0.25, 0.75])
        reach = _REACH * max(high - low, 1e-9)
        held = (0.0, self.mean.percent)
        low = min(max(self.gains.min(), low - reach), *held)
        high = max(min(self.gains.max(), high + reach), *held)
        # The interval is shown whole unless it would squeeze the tasks.
        wide = high - low
        low, high = min(low, max(self.mean.low, low - wide)), max(high, min(self.mean.high, high + wide))
        room = 0.05 * max(high - low, 1e-9)
        return float(low - room), float(high + room)


def _short(name: Any) -> str:
    text = str(name)
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "\u2026"


def _percent(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 2
    return f"{value:+.{digits}f} %".replace("-", "\u2212")


def _base_words(base: str) -> str:
    return {"joint": "without adaptation", NO_ROWS: "without rows", "step": "with no inner loop"}.get(
        base, f"of {short(base)}"
    )
