"""
Choosing the rates on a real table
==================================

Life expectancy in 142 countries, from year, population and income. A country is a task: 5 of its rows are for the
step, the others for the loss.
"""

# %%
import matplotlib.pyplot as plt

from undertow import datasets
from undertow.linear import compare_rates
from undertow.plots import LossSurfaceDisplay, RatePathDisplay, StrategyDisplay
from undertow.tasks import read_table

data, scaling = read_table(datasets.load_gapminder()).standardized(target=True)
comparison = compare_rates(data.with_intercept(), n_support=5)
print(comparison.verdict)

# %%
# One step takes a third off the loss: countries differ. The sign of the training rate does not matter.
figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
RatePathDisplay.from_comparison(comparison).plot(axes[0])
axes[0].legend(loc="upper center", fontsize=7)
LossSurfaceDisplay.from_surface(comparison.surface).plot(axes[1])
StrategyDisplay.from_comparison(comparison).plot(axes[2])
plt.show()
