"""Your own data as tasks: grouped tables, support/query draws, splits by task."""

from undertow._batch import TaskBatch
from undertow.tasks.encoding import Encoded, Encoding
from undertow.tasks.formula import Formula
from undertow.tasks.grouped import GroupedTable
from undertow.tasks.images import ImageTasks, LabelledImages, read_images
from undertow.tasks.reading import Reading, TableNote
from undertow.tasks.split import draws, folds, split_tasks
from undertow.tasks.standard import Standard
from undertow.tasks.table import from_table, read_table

__all__ = [
    "Encoded",
    "Encoding",
    "Formula",
    "GroupedTable",
    "ImageTasks",
    "LabelledImages",
    "Reading",
    "Standard",
    "TableNote",
    "TaskBatch",
    "draws",
    "folds",
    "from_table",
    "read_images",
    "read_table",
    "split_tasks",
]
