"""
How far below zero the best train rate lies
===========================================

For mixed linear regression with more features than query rows the best train rate depends on the sizes n_t, n_v and
p only: not on the noise, nor on how different the tasks are, nor on the number of tasks. To leading order it is
``-(1 + sqrt(1 + 4 p / n_t)) / (2 p / n_t)``; at finite sizes it lies further out, the more so the more query rows a
task has.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.plots import style

p, n_support = 60, 30
problem = ut.MixedLinearRegression(n_features=p)
queries = np.array([1, 2, 4, 8, 12, 16, 20])
designs = [ut.Design(n_tasks=1, n_support=n_support, n_query=int(n)) for n in queries]
best = [ut.theory.optimal_train_rate(problem, design) for design in designs]
leading = ut.theory.optimal_train_rate(problem, designs[0], method="leading")
print([round(float(rate), 3) for rate in best], round(float(leading), 3))

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
axes.plot(queries, best, "o-", color=style.BLUE, label="finite size, exact")
axes.axhline(leading, color=style.ORANGE, linestyle=":", label="leading order")
axes.set_xticks(queries)
axes.set_xlabel("query rows of a task, n_v")
axes.set_ylabel("best train rate (raw)")
axes.set_title(f"p = {p}, n_t = {n_support}")
axes.legend()
plt.show()
