"""
Partial pooling: between each alone and all together
====================================================

85 counties of Minnesota, of 1 to 116 homes: how much more radon is in a basement than on the first floor? Alone, a
county of few homes says next to nothing, and says it loudly. A mixed model draws each county towards the mean by as
much as its rows leave open.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

import undertow as ut
from undertow.mixed import fit_mixed
from undertow.plots import style
from undertow.tasks import read_table

table = read_table(ut.datasets.load_radon(), features=["first_floor"]).with_intercept()
fit = fit_mixed(table, "full")
print(fit.outcome)

# %%
# Each county alone (least squares), and drawn towards the mean. Counties with homes on one floor only have no slope
# of their own.
alone, drawn, rows = [], [], []
for place in range(table.n_tasks):
    x, y = (values[table.offsets[place] : table.offsets[place + 1]] for values in (table.x, table.y))
    if len(np.unique(x[:, 0])) < 2:
        continue
    one = ut.TaskBatch(x[None], y[None], x[None], y[None])
    alone.append(np.linalg.lstsq(x, y, rcond=None)[0])
    drawn.append(fit.adapt(one)[0])
    rows.append(len(y))
alone, drawn, rows = np.array(alone), np.array(drawn), np.array(rows)

# %%
figure, axes = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
axes.plot([alone[:, 1], drawn[:, 1]], [alone[:, 0], drawn[:, 0]], color="lightgrey", linewidth=0.8, zorder=0)
axes.scatter(alone[:, 1], alone[:, 0], s=4 + rows, color=style.BLUE, alpha=0.6, label="alone (area: homes)")
axes.scatter(drawn[:, 1], drawn[:, 0], s=14, color=style.ORANGE, label="mixed model")
axes.plot(fit.mean[1], fit.mean[0], "k*", markersize=12, label="mean of the counties")
axes.set_xlabel("log radon in the basement, log pCi/L")
axes.set_ylabel("first floor minus basement, log pCi/L")
axes.legend()
plt.show()
