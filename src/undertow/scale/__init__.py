"""Tables larger than memory, and executors: rows sorted by task out of core, sums of whole tasks, added up."""

from undertow.estimators.sums import Recipe, Sums, merge, partial
from undertow.scale.fitting import fit
from undertow.scale.sorted_table import SortedTable, sort

__all__ = ["Recipe", "SortedTable", "Sums", "fit", "merge", "partial", "sort"]
