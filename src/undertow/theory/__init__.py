"""What exact and asymptotic theory say of meta-learning on mixed linear regression. Start at expected_loss.

Formulas and their errors: docs/explanation/theory.md.
"""

from undertow.theory.expected_loss import expected_distance, expected_loss, method_for
from undertow.theory.least_loss import least_loss
from undertow.theory.matrix_rate import optimal_matrix_rate, step_loss
from undertow.theory.optimal import optimal_adapt_rate, optimal_train_rate
from undertow.theory.records import MethodChoice, OptimalRate
from undertow.theory.repeated import repeated_distance, repeated_loss
from undertow.theory.repelling import group_rate, proximal_loss

__all__ = [
    "MethodChoice",
    "OptimalRate",
    "expected_distance",
    "expected_loss",
    "group_rate",
    "least_loss",
    "method_for",
    "optimal_adapt_rate",
    "optimal_matrix_rate",
    "optimal_train_rate",
    "proximal_loss",
    "repeated_distance",
    "repeated_loss",
    "step_loss",
]
