"""
An interval that knows what it has seen
=======================================

The interval around a prediction is wide for a country without rows, and narrow for one that was adapted to. Its width
comes from the errors on held-out countries, so nothing is assumed about the shape of the noise.
"""

# %%
import matplotlib.pyplot as plt

import undertow as ut
from undertow.plots import style

frame = ut.datasets.load_gapminder().table.to_pandas()
features = ["year", "log_pop", "log_gdp"]
shown = ["Norway", "Peru", "Zambia"]
old = frame[~frame["country"].isin(shown)]
model = ut.MAMLRegressorCV(n_support=5, n_draws=3).fit(old[features], old["lifeExp"], groups=old["country"])

# %%
# Five early rows of each country, and what is said of the rest. In Zambia life expectancy fell in the 1990s, which
# its first rows could not tell.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for one, name in zip(axes, shown, strict=True):
    rows = frame[frame["country"] == name]
    x, y, year = rows[features], rows["lifeExp"], rows["year"]
    adapted = model.adapt(x[:5], y[:5])
    for kind, colour, label in ((model, "grey", "no rows"), (adapted, style.BLUE, "five rows")):
        value, low, high = kind.predict(x, interval=0.9)
        one.fill_between(year, low, high, color=colour, alpha=0.25, linewidth=0, label=f"90 %, {label}")
        one.plot(year, value, color=colour, linewidth=1)
    one.plot(year[:5], y[:5], "o", color="black", label="given")
    one.plot(year[5:], y[5:], "o", color=style.ORANGE, label="to be predicted")
    one.set_title(name)
    one.set_xlabel("year")
axes[0].set_ylabel("life expectancy, years")
axes[0].legend(fontsize=8, loc="lower right")
plt.show()
