"""What each case of ``undertow train`` trains: tasks, model and loss. Imports JAX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from undertow import gradient as ug
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow.cli.train_settings import ImageSettings, Settings, SinusoidSettings, TableSettings
from undertow.problem import Design, Sinusoid
from undertow.tasks import ImageTasks, TableNote, draws, read_images, read_table, split_tasks

DEFAULT_META_BATCH = 25
# Keys of [task] that are options of ``read_table``.
_READING = {"categories", "categorical", "max_levels", "on_missing", "sep", "decimal", "on_constant", "on_small"}


class Case(NamedTuple):
    """What ``undertow.gradient.train`` is called with."""

    loss_fn: Any
    params: Any
    source: ug.Source
    new_tasks: TaskBatch
    """what training is validated on"""
    loss_name: str
    n_tasks: int | None = None
    """different tasks that training sees; None where they are drawn without end"""


def case_of(settings: Settings) -> Case:
    """Build the case that the settings describe."""
    if isinstance(settings, SinusoidSettings):
        return _sinusoid(settings)
    return _images(settings) if isinstance(settings, ImageSettings) else _table(settings)


def _seeds(settings: Settings) -> tuple[Any, np.random.Generator]:
    seed = settings.outer.seed
    return jax.random.key(seed, impl="threefry2x32"), np.random.default_rng([seed, 1])


def _sinusoid(settings: SinusoidSettings) -> Case:
    key, generator = _seeds(settings)
    task = settings.task
    params, apply = ug.mlp((1, *settings.model.hidden, 1), key)
    design = Design(settings.outer.meta_batch or DEFAULT_META_BATCH, task.shots, task.query)
    new = Sinusoid().sample(Design(task.n_validation_tasks, task.shots, task.query), generator, np.float32)
    return Case(ug.squared_loss(apply), params, ug.Source(Sinusoid(), design), new, "half MSE")


def _images(settings: ImageSettings) -> Case:
    from undertow.experiments.conv_net import conv_loss

    key, generator = _seeds(settings)
    task, model = settings.task, settings.model
    images = read_images(task.images, colour=task.colour)
    height, width = images.images.shape[1:3]
    if height != width:
        raise InputError("images", task.images, f"they are {height} x {width}, and the network takes square ones.")
    train, test = images.split((1 - task.test_share, task.test_share), settings.outer.seed)
    init, _, loss_fn = conv_loss(task.ways, model.filters, model.layers, height, images.n_channels)
    support, query = task.ways * task.shots, task.ways * task.query
    new = ImageTasks(test, task.ways).sample(Design(task.n_validation_tasks, support, query), generator)
    design = Design(settings.outer.meta_batch or DEFAULT_META_BATCH, support, query)
    source = ug.Source(ImageTasks(train, task.ways, rotations=task.rotations), design)
    return Case(loss_fn, init(key), source, new, "cross-entropy")


def _table(settings: TableSettings) -> Case:
    from undertow.cli.output import say
    from undertow.cli.own_table import refuse_one_value, source_of, what_was_read

    key, _ = _seeds(settings)
    task, seed = settings.task, settings.outer.seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableNote)  # they are said in lines of ours
        table = read_table(
            source_of(task.table, task.task, task.target)[1],
            task.task,
            task.target,
            task.features,
            min_rows=task.n_support + 1,
            **task.model_dump(include=_READING),
        )
    refuse_one_value(table)
    for line in what_was_read(Path(task.table).stem, table, task.n_support):
        say(line)
    train, test = split_tasks(table, task.test_share, seed)
    # The scale is that of the training tasks: held-out tasks must not set it.
    train, standard = train.standardized(task.clip, target=True)
    new = test.standardized_as(standard).draw(task.n_support, seed, task.n_query, dtype=np.float32)
    batches = list(draws(train, task.n_support, task.draws, seed, task.n_query, dtype=np.float32))
    fields = zip(*batches, strict=True)
    joined = TaskBatch(*(None if field[0] is None else np.concatenate(field) for field in fields))
    params, apply = ug.mlp((table.n_features, *settings.model.hidden, 1), key)
    source = ug.Source(joined, meta_batch=settings.outer.meta_batch)
    return Case(ug.squared_loss(apply), params, source, new, "half MSE, standardised target", train.n_tasks)
