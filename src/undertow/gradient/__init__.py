"""The gradient half: signed MAML for any JAX model.

The same names in the same order everywhere: loss_fn, params, data, rate, inner. ``InnerLoop`` says how a task's weights
are found, ``Source`` where tasks come from, ``Validation`` and ``Checkpoint`` what else a training run does. A rate
has no default: its sign is the caller's choice. Needs ``pip install "undertow[gradient]"``.
"""

try:
    import jax as _jax  # noqa: F401
    import optax as _optax  # noqa: F401
    import safetensors as _safetensors  # noqa: F401
except ImportError as error:  # pragma: no cover - exercised in a subprocess
    raise ImportError(
        f'undertow.gradient needs {error.name}, which is not installed: pip install "undertow[gradient]"'
    ) from error

from undertow.gradient.callback import Callback
from undertow.gradient.checkpoint import Checkpoint, read_tree
from undertow.gradient.curvature import curvatures, stable_interval
from undertow.gradient.inner import adapt
from undertow.gradient.inner_loop import Explicit, Implicit, InnerLoop, Reptile
from undertow.gradient.keys import KeySource
from undertow.gradient.layers import all_but_last, last_layer
from undertow.gradient.leaves import Stateful, leaves
from undertow.gradient.loader import Loader
from undertow.gradient.losses import with_key
from undertow.gradient.meta import MetaInfo, meta_loss
from undertow.gradient.models import cross_entropy, mlp, squared_loss
from undertow.gradient.rates import PerStep, per_layer, per_leaf, per_parameter, per_step
from undertow.gradient.source import Source, draw_tasks
from undertow.gradient.state import History, NonFiniteError, TrainState
from undertow.gradient.sweep import sweep
from undertow.gradient.train import train
from undertow.gradient.validation import Validation

__all__ = [
    "Callback",
    "Checkpoint",
    "Explicit",
    "History",
    "Implicit",
    "InnerLoop",
    "KeySource",
    "Loader",
    "MetaInfo",
    "NonFiniteError",
    "PerStep",
    "Reptile",
    "Source",
    "Stateful",
    "TrainState",
    "Validation",
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
    "with_key",
]
