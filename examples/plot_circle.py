"""
Rates live on a circle
======================

Plus and minus infinity are the same fit. So the loss is a closed curve over an angle, and a path that is uniform in
the angle sees every rate, of either sign, at once.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.plots import style

problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
scale = ut.rate_path(problem.sample(design, seed=0)).scale
angles = np.linspace(-np.pi / 2, np.pi / 2, 161)
rates = np.tan(angles) * scale
rates[[0, -1]] = -np.inf, np.inf
distance = ut.theory.expected_distance(problem, design, rates)
best = float(ut.theory.optimal_train_rate(problem, design))

# %%
# The angle is doubled, so that the half circle of rates closes. The curve is nearest to the middle at a negative rate.
figure, axes = plt.subplots(figsize=(5, 5.4), subplot_kw={"projection": "polar"}, layout="constrained")
axes.plot(2 * angles, distance, color=style.BLUE, label="squared distance of the common weights from the mean task")
least = ut.theory.expected_distance(problem, design, best)
axes.plot(2 * np.arctan(best / scale), least, "o", color=style.ORANGE, label=f"best train rate, {best:+.2f}")
ticks = np.array([-1.0, -0.3, 0.0, 0.3, 1.0])
axes.set_thetalim(-np.pi, np.pi)
axes.set_xticks([*2 * np.arctan(ticks / scale), np.pi], [*(f"{tick:+g}" if tick else "0" for tick in ticks), "∞"])
axes.set_ylim(0, None)
axes.set_rlabel_position(60)
axes.set_title("angle: train rate (raw)", fontsize=10)
figure.legend(loc="outside lower center")
plt.show()
