"""Task-wise outer cross-validation of rivals on a grouped table: who predicts new tasks best, and at what cost."""

from undertow.comparison.interval import Difference
from undertow.comparison.record import Comparison
from undertow.comparison.registry import RIVALS
from undertow.comparison.run import compare

__all__ = ["RIVALS", "Comparison", "Difference", "compare"]
