"""
Choosing the rates on a real table
==================================

Life expectancy in 142 countries, from year, population and income. A country is a task: 5 of its rows are for the
step, the others for the loss.
"""

# %%
import matplotlib.pyplot as plt
from undertow.choice.rate_comparison import compare_rates

import undertow as ut
from undertow import datasets
from undertow.plots import LossSurfaceDisplay, RatePathDisplay, StrategyDisplay
from undertow.tasks import read_table

raw = read_table(datasets.load_gapminder())
data, _ = raw.standardized(target=True)
comparison = compare_rates(data.with_intercept(), n_support=5)
print(comparison.verdict)

# %%
# The estimator on the same table gives an interval for the best training rate.
model = ut.MAMLRegressorCV(n_support=5, n_draws=5).fit(raw.x, raw.y, groups=raw.groups)
print(model.choice_)

# %%
# One step takes a third off the loss: countries differ. The loss falls towards small positive training rates, but
# what is gained there against no inner loop cannot be told from chance.
figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
RatePathDisplay.from_comparison(comparison, model.choice_.interval).plot(axes[0], legend=False)
figure.legend(loc="outside lower left", ncols=3, fontsize=8)
LossSurfaceDisplay.from_surface(comparison.surface).plot(axes[1])
StrategyDisplay.from_comparison(comparison).plot(axes[2])
plt.show()
