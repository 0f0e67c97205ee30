"""
How many rows should a new task bring?
======================================

Life expectancy in a country that training has not seen. Without any rows of it the error is 6.8 years; the first row
takes off almost two of them, and each further one less.
"""

# %%
import matplotlib.pyplot as plt

import undertow as ut
from undertow.estimators import fit_table
from undertow.plots import style
from undertow.tasks import read_table

table = read_table(ut.datasets.load_gapminder())
numbers = (1, 2, 3, 5, 7, 9)
choices = [fit_table(ut.MAMLRegressorCV(n_support=n, n_draws=2, rules="proximal"), table).choice_ for n in numbers]
years = table.y.std()
errors = [choices[0].mse_at_zero ** 0.5 * years, *(one.mse**0.5 * years for one in choices)]
print([f"{error:.1f}" for error in errors])

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
axes.plot([0, *numbers], errors, "o-", color=style.BLUE)
axes.axhline(years, color="grey", linestyle=":", label="standard deviation of the target")
axes.set_ylim(0, None)
axes.set_xlabel("rows of the new country")
axes.set_ylabel("root mean squared error, years")
axes.legend()
plt.show()
