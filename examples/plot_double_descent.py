"""
The peak where query rows equal features
========================================

With as many query rows as features the outer problem is nearly singular, and the loss peaks there, whatever the train
rate. A negative rate lowers the whole curve.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.plots import style

p, n_query = 40, 4
problem = ut.MixedLinearRegression(n_features=p, noise_std=1.0, task_std=0.5)
tasks = np.array([2, 4, 6, 7, 8, 9, 11, 12, 13, 15, 18, 22, 30, 40])
rates = [-0.5, 0.0, 0.2]

# %%
# Exact for N < p, the deterministic equivalent for N > p; within one row of N = p the mean is infinite.
loss = np.array([ut.theory.expected_loss(problem, ut.Design(int(m), 20, n_query, 20), rates, 0.2) for m in tasks])
figure, axes = plt.subplots(figsize=(6.5, 4), layout="constrained")
for one, rate, colour in zip(loss.T, rates, (style.BLUE, style.GREY, style.ORANGE), strict=True):
    for side in (tasks * n_query < p, tasks * n_query > p):
        label = f"train rate {rate:g}" if side[0] else None
        axes.plot(tasks[side] * n_query, one[side], ".-", color=colour, label=label)
axes.axvline(p, color="grey", linestyle=":", label="N = p")
axes.set_yscale("log")
axes.set_xlabel("query rows of all tasks, N (features: 40)")
axes.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
axes.set_ylabel("expected test loss (noise alone: 0.5)")
axes.legend()
plt.show()
