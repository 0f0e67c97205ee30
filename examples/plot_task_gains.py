"""
Which tasks gain from adaptation
================================

An estimator with CV keeps what it searched: its error at every train rate, the interval of the best one, and the loss
of each held-out task under each strategy. The displays draw these, on axes of their own or on given ones.
"""

# %%
# 160 schools: the pupils of a school are one task, and five of them are what a new school brings.
import matplotlib.pyplot as plt

import undertow as ut
from undertow import datasets
from undertow.estimators import fit_table
from undertow.plots import LossSurfaceDisplay, RatePathDisplay, TaskGainDisplay
from undertow.tasks import read_table

schools = read_table(datasets.load_mathachieve())
model = fit_table(ut.MAMLRegressorCV(n_support=5, n_draws=5), schools)
print(model.choice_)

# %%
# The error around the circle of train rates, with the interval of the best one, and the error over both rates.
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
RatePathDisplay.from_estimator(model, ax=axes[0])
LossSurfaceDisplay.from_estimator(model, ax=axes[1])
plt.show()

# %%
# Adapting on five pupils helps little on the whole: about as many schools lose by it as gain.
figure, axes = plt.subplots(figsize=(6.5, 5), layout="constrained")
gains = TaskGainDisplay.from_estimator(model, ax=axes)
print(f"{gains.mean.percent:+.2f} % ({gains.mean.low:+.2f} to {gains.mean.high:+.2f}); {gains.share_losing:.0%} lose")
plt.show()

# %%
# Countries differ more. A mixed model gains with nearly all of them, and the names say where most.
countries = read_table(datasets.load_gapminder())
model = fit_table(ut.MAMLRegressorCV(n_support=5, n_draws=5), countries)
figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
TaskGainDisplay.from_estimator(model, ax=axes[0])
TaskGainDisplay.from_estimator(model, base="step", ax=axes[1])
plt.show()
