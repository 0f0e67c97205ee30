"""Shape aliases: what an annotation such as ``Rows`` says about an array's axes.

Letters: m tasks, n rows of one task, p features, k rates, r ridges. Shapes are checked in the tests by the
jaxtyping hook (see ``addopts`` in pyproject.toml) and cost nothing at run time.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float

Vector: TypeAlias = Float[np.ndarray, " p"]
Rates: TypeAlias = Float[np.ndarray, " k"]
Square: TypeAlias = Float[np.ndarray, "p p"]
Inputs: TypeAlias = Float[np.ndarray, "m n p"]
Targets: TypeAlias = Float[np.ndarray, "m n"]
Mask: TypeAlias = Bool[np.ndarray, "m n"]
Real: TypeAlias = Float[np.ndarray, "..."]
