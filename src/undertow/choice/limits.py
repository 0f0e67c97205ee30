"""Every size at which a search changes its ways, in one table: what is given up, and the benchmark that set the number.

They are speed for a loss of precision that is small beside that of the data; none changes what is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes of a search. Letters: R rows, m tasks, d standardised columns."""

    work: float = 1e10
    """multiplications that the draws of support rows may cost together: small tables get many draws, large ones one
    (benchmarks/fit_cv_against_path.py)"""
    most_draws: int = 10
    """more draws of a small table change its held-out errors by less than a tenth of their standard error
    (benchmarks/calibration.py)"""
    tested_tasks: int = 2000
    """tasks that held-out errors are taken on, evenly spread over the folds: standard errors are small by then"""
    large_tasks: int = 4000
    """from this many tasks on, and ..."""
    large_work: float = 5e7
    """... R d^2 beyond this, a table is large (benchmarks/fit_cv_against_path.py)"""
    large_tested_tasks: int = 1000
    """``tested_tasks`` of a large table"""
    inner_tested: float = 0.25
    """share of these tasks, on a large table, that the shares of a blend are chosen by within one outer fold"""
    inner_draws: float = 0.2
    """share of the draws for the same"""
    pairs: int = 10
    """with more folds than this the folds that a choice is made on are tested in ``inner_groups`` groups of folds, not
    one by one: pairs of folds grow with the square of their number"""
    inner_groups: int = 5
    ratio_tasks: int = 2048
    """tasks that the proximal rule's ratios are chosen on, each ratio being a pass
    (benchmarks/fit_cv_against_path.py)"""
    ratio_tasks_wide: int = 4096
    """the same beyond ``wide`` columns"""
    many_ratios: float = 1e9
    """R d^2 beyond which ratios are a decade apart, not half a decade"""
    wide: int = 128
    """columns up to which 101 rates are tried; 41 up to ``very_wide``, 21 beyond"""
    very_wide: int = 400
    mixed_columns: int = 400
    """columns beyond which no mixed model is tried: each step of its search solves a problem of this size
    (benchmarks/fit_cv_against_path.py)"""
    diagonal_columns: int = 160
    """columns beyond which a variance for each is not tried"""
    full_columns: int = 12
    """columns beyond which a full covariance is not tried (benchmarks/mixed_on_tables.py)"""
    fold_variance_tasks: int = 500
    """tasks that variances are estimated from to compare strategies"""
    variance_tasks: int = 2000
    """tasks that variances are estimated from for the model that is used"""
    least_share: float = 0.02
    """smaller shares of a blend change little and cost an adaptation each, of every training task too"""
    large_least_share: float = 0.1
    """the same on a large table, where each part of a blend is a pass over all tasks"""
    row_space_columns: int = 160
    """columns up to which all of them are searched, though there be fewer rows: a variance for each may be asked for"""
    theory_columns: int = 160
    """columns beyond which theory's rates are not computed: its formulas work in all directions of the inputs"""
    curve_columns: int = 160
    """columns beyond which no curve is fitted beside them"""
    curve_numbers: float = 2e6
    """R d beyond which no curve is fitted: columns and B-splines of all rows are held at once, in float64"""


LIMITS = Limits()
