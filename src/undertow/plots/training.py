"""The course of a training run: meta-loss, support loss around the inner step, validation loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from undertow.plots import style


@dataclass(frozen=True)
class TrainingCurve:
    """Losses of each iteration, and of the validations.

    meta_loss, support_before, support_after: (t,). validation_iteration, validation_loss: (v,). name: of the loss.
    """

    meta_loss: np.ndarray
    support_before: np.ndarray
    support_after: np.ndarray
    validation_iteration: np.ndarray
    validation_loss: np.ndarray
    name: str = "loss"

    def figure(self) -> Figure:
        """A figure with the outer problem on the left and the inner step on the right."""
        with style.context():
            made, axes = style.figure(2, width=4.6)
            left, right = axes[0]
            left.plot(*_smooth(self.meta_loss), color=style.BLUE, label="meta-loss")
            if len(self.validation_loss):
                left.plot(
                    self.validation_iteration, self.validation_loss, "o-", color=style.ORANGE, markersize=3,
                    label="validation tasks, after adaptation",
                )  # fmt: skip
            left.set_title("outer problem")
            right.plot(*_smooth(self.support_before), color=style.INK, label="support loss before the inner step")
            right.plot(*_smooth(self.support_after), color=style.GREEN, label="support loss after it")
            right.set_title("inner step")
            for one in (left, right):
                one.set(xlabel="iteration", ylabel=self.name)
            style.shared_legend(made, axes, columns=4)
            return made


def _smooth(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over runs of iterations, at most 200 points: single batches scatter too much to read."""
    size = max(1, len(values) // 200)
    n = len(values) // size * size
    return np.arange(n).reshape(-1, size).mean(axis=1), values[:n].reshape(-1, size).mean(axis=1)
