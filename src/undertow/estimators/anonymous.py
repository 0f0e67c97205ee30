"""A fitted estimator without the tasks that it was fitted to: no ids, and nothing that is of a single task."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from undertow.tasks import labels


def without_ids(estimator: Any) -> Any:
    """Return a copy whose tasks are called "task 1" and so on, in the order of their ids.

    It lacks the weights and the rows of single tasks, so that every task is new to it, and the sums that further tasks
    are added to: it could not tell which tasks are in them.
    """
    new, model = copy.copy(estimator), estimator.model_
    names = labels.numbered(len(model.task_ids))
    choice, held_out = getattr(new, "choice_", None), getattr(new, "held_out_", None)
    if held_out is not None:
        new.held_out_ = replace(held_out, task_ids=names[labels.places(model.task_ids, held_out.task_ids)])
    if choice is not None:
        place = [str(one) for one in model.task_ids].index(choice.largest.id)
        new.choice_ = replace(choice, largest=choice.largest._replace(id=str(names[place])))
    for name in ("recipe_", "sums_"):
        if hasattr(new, name):
            setattr(new, name, None)
    if model.levels is not None:
        # Levels may be parts of ids: to the copy each one is new.
        model = replace(model, levels=replace(model.levels, ids=names[:0], effects=model.levels.effects[:, :0]))
    new.publish(replace(model, task_ids=names, stored_omega=None, task_rows=None, one_task=None))
    return new
