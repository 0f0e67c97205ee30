"""
One family: the step, many steps, the ridge
===========================================

Along a direction in which the support rows vary by s, a rule keeps a share of the error of the common weights. One
step keeps 1 - rate s, and overshoots where s is large. The implicit step, which is a ridge regression, keeps 1 / (1 +
rate s) and never does.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from undertow.plots import style

s, rate = np.linspace(0, 4, 200), 0.6
kept = {
    "one step at rate 0.6": 1 - rate * s,
    "three steps at rate 0.2": (1 - rate / 3 * s) ** 3,
    "implicit step at rate 0.6, a ridge": 1 / (1 + rate * s),
    "one step at the negative rate -0.2": 1 + 0.2 * s,
}
colours = (style.BLUE, "#56b4e9", style.ORANGE, "#888888")

# %%
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for (name, share), colour in zip(kept.items(), colours, strict=True):
    axes.plot(s, share, label=name, color=colour, linestyle="--" if "negative" in name else "-")
axes.axhspan(-1, 1, color="grey", alpha=0.12, label="the error shrinks")
axes.axhline(0, color="grey", linewidth=1)
axes.set_ylim(-1.5, 2)
axes.set_xlabel("second moment s of the support rows along a direction")
axes.set_ylabel("share of the error that is kept")
axes.legend(loc="lower left", fontsize=8)
plt.show()
