"""
Unequal inputs turn the sign
============================

With inputs of equal variance the best train rate is negative. Let half of the variances grow and the other half
shrink: where tasks differ more than rows are noisy, the best rate becomes positive.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.plots import style

design = ut.Design(n_tasks=80, n_support=20, n_query=5, n_adapt=20)
spread = np.linspace(0, 0.8, 5)
curves = {}
for noise in (0.3, 1.0):
    problems = [
        ut.MixedLinearRegression(20, noise, 1.0, input_covariance=np.repeat([1 - s, 1 + s], 10)) for s in spread
    ]
    curves[noise] = [float(ut.theory.optimal_train_rate(one, design, adapt_rate=0.0)) for one in problems]

# %%
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for (noise, best), colour in zip(curves.items(), (style.ORANGE, style.BLUE), strict=True):
    axes.plot(spread, best, "o-", color=colour, label=f"noise {noise:g}")
axes.axhline(0, color="grey", linewidth=1)
axes.set_xlabel("s, where input variances are 1 - s and 1 + s")
axes.set_ylabel("best train rate (raw), by theory")
axes.legend()
plt.show()
