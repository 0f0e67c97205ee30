"""Small models and tasks that the tests of the gradient half share."""

import jax.numpy as jnp
import numpy as np

import undertow as ut
from undertow import gradient as ug


def linear_loss(w, x, y):
    return 0.5 * jnp.mean((x @ w - y) ** 2)


def network(sizes=(3, 4, 1), key=0):
    params, apply = ug.mlp(sizes, key, jnp.tanh)
    return params, ug.squared_loss(apply)


def linear_tasks(m=4, n_support=5, n_query=3, p=3, seed=0, dtype=np.float64):
    problem = ut.MixedLinearRegression(n_features=p, noise_std=0.5, task_std=1.0)
    return problem.sample(ut.Design(m, n_support, n_query), seed, dtype)


def ragged(tasks, support_rows, query_rows, hole=np.nan):
    """The same tasks with only the first rows kept; the others are padding that holds ``hole``."""
    parts = {}
    for name, rows in (("support", support_rows), ("query", query_rows)):
        x, y = getattr(tasks, f"{name}_x"), getattr(tasks, f"{name}_y")
        mask = np.arange(y.shape[1]) < np.asarray(rows)[:, None]
        parts |= {
            f"{name}_x": np.where(mask[..., None], x, hole),
            f"{name}_y": np.where(mask, y, hole),
            f"{name}_mask": mask,
        }
    return ut.TaskBatch(**parts)
