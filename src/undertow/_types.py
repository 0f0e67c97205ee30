"""Shape aliases: what an annotation such as ``Features`` says about an array's axes.

| letter | axis |
|---|---|
| a | strategies, or parts of a blend |
| B | blocks of tasks |
| d | standardised columns: p, and one for the intercept |
| k, *k | train rates; one number or an array of any shape |
| m, o | tasks; m + 1, where each task's rows start and the last ones end |
| n | rows of one task, or of one set |
| p | features, standardised columns included |
| q | targets |
| r, *r | ridges, or ratios of variances; none where there is one ridge |
| R | rows of all tasks together |
| s | inner steps + 1, one for each power of S |
| w | p + q, the columns of [U_j, u_j] |

Two axes of one letter are equally long throughout a call, and in a record. The tests check it where the
jaxtyping hook is on (see ``.ci/run``); at run time the aliases cost nothing. An axis ``_`` has any length.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt, UInt8

# One axis.
Vector: TypeAlias = Float[np.ndarray, " p"]
PerTarget: TypeAlias = Float[np.ndarray, " q"]
FeatureCounts: TypeAlias = Int[np.ndarray, " p"]
Rates: TypeAlias = Float[np.ndarray, " k"]
Ridges: TypeAlias = Float[np.ndarray, " r"]
Shares: TypeAlias = Float[np.ndarray, " a"]
PerTask: TypeAlias = Float[np.ndarray, " m"]
TaskNumbers: TypeAlias = Int[np.ndarray, " m"]
Counts: TypeAlias = Int[np.ndarray, " m"]
Ids: TypeAlias = Shaped[np.ndarray, " m"]
SomeIds: TypeAlias = Shaped[np.ndarray, " _"]
SomePlaces: TypeAlias = Int[np.ndarray, " _"]
Offsets: TypeAlias = Int[np.ndarray, " o"]
PerRow: TypeAlias = Float[np.ndarray, " R"]
RowNumbers: TypeAlias = Int[np.ndarray, " R"]
RowKeys: TypeAlias = UInt[np.ndarray, " R"]
RowFlags: TypeAlias = Bool[np.ndarray, " R"]
SomeFlags: TypeAlias = Bool[np.ndarray, " _"]
RowIds: TypeAlias = Shaped[np.ndarray, " R"]
PerBlock: TypeAlias = Float[np.ndarray, " B"]
BlockNumbers: TypeAlias = Int[np.ndarray, " B"]
BlockSizes: TypeAlias = Float[np.ndarray, " s"]
Numbers: TypeAlias = Int[np.ndarray, " _"]

# Tasks and rows.
Features: TypeAlias = Float[np.ndarray, "R p"]
Targets: TypeAlias = Float[np.ndarray, "R q"]
SomeRows: TypeAlias = Float[np.ndarray, "_ p"]
TaskWeights: TypeAlias = Float[np.ndarray, "m p"]
EachWeights: TypeAlias = Float[np.ndarray, "m p a"]
StandardRows: TypeAlias = Float[np.ndarray, "... d"]
AnyRows: TypeAlias = Float[np.ndarray, "*any p"]
SomeTargets: TypeAlias = Float[np.ndarray, "*any q"]
TargetWeights: TypeAlias = Float[np.ndarray, "*any q d"]
TargetCoefficients: TypeAlias = Float[np.ndarray, "*any q p"]
TaskPositions: TypeAlias = Int[np.ndarray, "m _"]
TaskMask: TypeAlias = Bool[np.ndarray, "m _"]
TaskRowWeights: TypeAlias = Float[np.ndarray, "m _"]
Losses: TypeAlias = Float[np.ndarray, "m a"]
Pictures: TypeAlias = UInt8[np.ndarray, "n h w *c"] | Float[np.ndarray, "n h w *c"]
Classes: TypeAlias = Int[np.ndarray, " n"]

# Weights, and matrices over features.
Starts: TypeAlias = Float[np.ndarray, "a p"]
Basis: TypeAlias = Float[np.ndarray, "_ p"]
Square: TypeAlias = Float[np.ndarray, "p p"]
Covariance: TypeAlias = Vector | Square

# Angles, rates and their coefficients.
SomeRates: TypeAlias = Float[np.ndarray, "*k"]
SomeCoefficients: TypeAlias = Float[np.ndarray, "*k s"]
Coefficients: TypeAlias = Float[np.ndarray, "k s"]
Turns: TypeAlias = Float[np.ndarray, "k 2"]
Turn: TypeAlias = Float[np.ndarray, " 2"]

# Sums of products.
Gram: TypeAlias = Float[np.ndarray, "s w s w"]
BlockGrams: TypeAlias = Float[np.ndarray, "B s w s w"]
RateGrams: TypeAlias = Float[np.ndarray, "k w w"]
RatioGrams: TypeAlias = Float[np.ndarray, "r w w"]
RatioLosses: TypeAlias = Float[np.ndarray, "r *tried"]
StepRows: TypeAlias = Float[np.ndarray, "n s w"]
RowKernel: TypeAlias = Float[np.ndarray, "n s n s"]
RateVectors: TypeAlias = Float[np.ndarray, "k w"]
RateRows: TypeAlias = Float[np.ndarray, "k n w"]

# A path, and its losses.
PathWeights: TypeAlias = Float[np.ndarray, "k *r p"]
PathValues: TypeAlias = Float[np.ndarray, "k *r"]
PathNames: TypeAlias = Shaped[np.ndarray, "k *r"]
Ranks: TypeAlias = Int[np.ndarray, " k"]
RateLosses: TypeAlias = Float[np.ndarray, "k *rates"]
TaskRateLosses: TypeAlias = Float[np.ndarray, "m k *rates"]
Products: TypeAlias = Float[np.ndarray, "k *r s s"]
TaskProducts: TypeAlias = Float[np.ndarray, "m k *r s s"]

Real: TypeAlias = Float[np.ndarray, "..."]
