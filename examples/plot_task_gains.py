"""
Nearly every country gains from adaptation, and half of the schools
===================================================================

An estimator with CV keeps the error of each held-out task under each strategy. Five rows of a country say much about
it. Five pupils of a school say little: about as many schools lose by adapting to them as gain.
"""

# %%
import matplotlib.pyplot as plt

import undertow as ut
from undertow import datasets
from undertow.estimators import fit_table
from undertow.plots import TaskGainDisplay
from undertow.tasks import read_table

# Each dot is a task, in the order of its gain; the line is the mean, the grey band its 95 % interval.
figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
for one, name in zip(axes, ("gapminder", "mathachieve"), strict=True):
    table = read_table(datasets.load(name))
    model = fit_table(ut.MAMLRegressorCV(n_support=5, n_draws=5), table)
    gains = TaskGainDisplay.from_estimator(model, ax=one)
    one.set_title(
        f"{table.n_tasks} tasks ({table.task}): {100 * gains.share_losing:.0f} % lose", loc="left", fontsize=10
    )
    print(f"{name}: {gains.mean.percent:+.2f} % ({gains.mean.low:+.2f} to {gains.mean.high:+.2f})")
plt.show()
