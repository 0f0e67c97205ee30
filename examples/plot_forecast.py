"""
Random rows promise too much of a forecast
==========================================

A new country brings five rows. If these are five at random, later years help to predict earlier ones. If they are its
first five, as in practice, the error is larger, and this is the one to report.
"""

# %%
import matplotlib.pyplot as plt

import undertow as ut
from undertow.choice import words
from undertow.plots import style

frame = ut.datasets.load_gapminder().table.to_pandas().sort_values(["country", "year"])
x, y, country = frame[["year", "log_pop", "log_gdp"]], frame["lifeExp"], frame["country"]
kinds = {"random": "five rows from any year", "first": "its first five rows"}
choices = {kind: ut.MAMLRegressorCV(5, n_draws=3, support=kind).fit(x, y, groups=country).choice_ for kind in kinds}

# %%
names = ["pooled_ridge", "mixed_intercept", "mixed_full", "blend"]
figure, axes = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for place, (kind, colour) in enumerate(zip(kinds, (style.BLUE, style.ORANGE), strict=True)):
    errors = [choices[kind].candidates[name].mse ** 0.5 * y.std() for name in names]
    axes.barh([row + 0.4 * place for row in range(len(names))], errors, 0.38, color=colour, label=kinds[kind])
axes.set_yticks([row + 0.2 for row in range(len(names))], [words.short(name) for name in names])
axes.invert_yaxis()
axes.set_xlabel("root mean squared error on the other rows, years")
figure.legend(loc="outside upper center", ncols=2)
plt.show()
