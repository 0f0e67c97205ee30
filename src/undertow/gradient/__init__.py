"""The gradient half: signed MAML for any JAX model.

The same names in the same order everywhere: loss_fn, params, data, rate, steps, first_order, rule, adapts, remat. Needs
``pip install "undertow[gradient]"``.
"""

try:
    import jax as _jax  # noqa: F401
    import optax as _optax  # noqa: F401
    import safetensors as _safetensors  # noqa: F401
except ImportError as error:  # pragma: no cover - exercised in a subprocess
    raise ImportError(
        f'undertow.gradient needs {error.name}, which is not installed: pip install "undertow[gradient]"'
    ) from error

from undertow.gradient.checkpoint import read_tree
from undertow.gradient.curvature import curvatures, stable_interval
from undertow.gradient.inner import Explicit, Implicit, Reptile, adapt
from undertow.gradient.keys import KeySource
from undertow.gradient.leaves import all_but_last, last_layer, leaves
from undertow.gradient.meta import MetaInfo, meta_loss
from undertow.gradient.models import cross_entropy, mlp, squared_loss
from undertow.gradient.rates import PerStep, per_layer, per_leaf, per_parameter, per_step
from undertow.gradient.source import draw_tasks
from undertow.gradient.state import History, NonFiniteError, TrainState
from undertow.gradient.sweep import sweep
from undertow.gradient.train import train

__all__ = [
    "Explicit",
    "History",
    "Implicit",
    "KeySource",
    "MetaInfo",
    "NonFiniteError",
    "PerStep",
    "Reptile",
    "TrainState",
    "adapt",
    "all_but_last",
    "cross_entropy",
    "curvatures",
    "draw_tasks",
    "last_layer",
    "leaves",
    "meta_loss",
    "mlp",
    "per_layer",
    "per_leaf",
    "per_parameter",
    "per_step",
    "read_tree",
    "squared_loss",
    "stable_interval",
    "sweep",
    "train",
]
