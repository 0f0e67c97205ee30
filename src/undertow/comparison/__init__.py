"""Task-wise outer cross-validation of rivals on a grouped table: who predicts new tasks best, and at what cost."""

from undertow.comparison.cell import Plan
from undertow.comparison.interval import Difference
from undertow.comparison.record import Comparison, Standing
from undertow.comparison.registry import RIVALS
from undertow.comparison.run import compare

__all__ = ["RIVALS", "Comparison", "Difference", "Plan", "Standing", "compare"]
