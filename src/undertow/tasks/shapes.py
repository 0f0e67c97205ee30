"""Shapes of a grouped table's arrays. Letters: R rows in all, m tasks, p features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

Features = Float[np.ndarray, "R p"]
Target = Float[np.ndarray, " R"]
RowNumbers = Int[np.ndarray, " R"]
Bounds = Int[np.ndarray, " bounds"]
Counts = Int[np.ndarray, " m"]
PerFeature = Float[np.ndarray, " p"]
FeatureCounts = Int[np.ndarray, " p"]
FeatureFlags = Bool[np.ndarray, " p"]
AnyRows = Float[np.ndarray, "*rows p"]
