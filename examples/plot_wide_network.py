"""
A wide network, by its kernel
=============================

The path over all rates also exists for kernels, and so for infinitely wide networks. On quadratic regression with few
query rows and tasks of equal height a negative rate is best; with more rows and tasks that differ in height, a positive
one.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.kernel import kernel_path, relu_ntk
from undertow.plots import style

RATES = np.array([-4, -2, -1, -0.5, 0, 0.25, 0.5, 0.75, 1.0])  # in spectral units
parts = {
    "6 query rows, equal heights": (
        ut.QuadraticRegression(60, noise_std=0.5, task_std=1.0, offset_std=0.25),
        ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20),
    ),
    "20 query rows, heights differ": (
        ut.QuadraticRegression(20, noise_std=0.25, task_std=0.5, mean_offset=1.0, offset_std=0.5),
        ut.Design(n_tasks=10, n_support=10, n_query=2, n_adapt=10),
    ),
}


def loss(problem, design, seed):
    """Loss on new tasks at each rate, one step at 0.25 spectral units being taken there."""
    path = kernel_path(relu_ntk, problem.sample(design, seed), RATES, rate_unit="spectral")
    new = problem.sample(design.new_tasks(n_tasks=30, n_query=20), 1000 + seed)
    return path.evaluate(new).loss(0.25 * path.scale)


# %%
# The same draws serve all rates, so the difference from rate 0 is paired; bars are one standard error over 40 runs.
# Losses that lie more than 30 % higher are beyond the axis.
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
for one, (name, part) in zip(axes, parts.items(), strict=True):
    runs = np.array([loss(*part, seed) for seed in range(40)])
    change = 100 * (runs - runs[:, [4]]) / runs[:, 4].mean()
    error = change.std(axis=0, ddof=1) / len(runs) ** 0.5
    one.errorbar(RATES, change.mean(axis=0), error, fmt="o-", color=style.BLUE)
    one.axhline(0, color="grey", linewidth=1)
    one.axvline(0, color="grey", linewidth=1)
    one.set_ylim(-15, 30)
    one.set_xlabel("train rate, spectral units")
    one.set_title(name)
axes[0].set_ylabel("loss against that at rate 0, %")
plt.show()
