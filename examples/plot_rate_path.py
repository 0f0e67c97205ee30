"""
One data set may name the wrong sign
====================================

One pass over 3 tasks gives the weights at 101 train rates of both signs, at 0 and at infinity. New tasks say which
is best. On this data set it happens to be a positive one. The dotted line is the average over data sets, which is
known in closed form, and its minimum is at a negative rate.
"""

# %%
# The problem is that of the paper's Figure 2: 60 features, 3 tasks, 30 support rows and 2 query rows each.
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.plots import LossSurfaceDisplay, RatePathDisplay, style

problem = ut.MixedLinearRegression(n_features=60, noise_std=1.0, task_std=0.5)
design = ut.Design(n_tasks=3, n_support=30, n_query=2, n_adapt=20)
path = ut.rate_path(problem.sample(design, seed=0))
new_tasks = problem.sample(design.new_tasks(n_tasks=200, n_query=50), seed=1)
surface = path.evaluate(new_tasks)
print(path.refine(surface, new_tasks))

# %%
# The loss at the best adapt rate, for each train rate; beside it the loss of this data set over both rates.
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
RatePathDisplay.from_path(surface).plot(axes[0])
finite = np.isfinite(path.train_rates) & (np.abs(path.angles) < 1.5)
rates = path.train_rates[finite]
adapt = ut.theory.optimal_adapt_rate(problem, design, rates)
average = 2 * ut.theory.expected_loss(problem, design, rates, adapt)
axes[0].plot(path.angles[finite], average, ":", color=style.ORANGE, label="average")
axes[0].set_ylim(min(average.min(), 2 * surface.best_loss.min()) - 0.02, None)
handles, _ = axes[0].get_legend_handles_labels()
axes[0].legend(handles, ["this data set", "average over data sets (exact)"], loc="upper left")
LossSurfaceDisplay.from_surface(surface).plot(axes[1])
plt.show()
