"""
A learned rate takes the sign that it needs
===========================================

Nothing keeps a learned rate positive. Started at the same value, it stays positive where the labels of the support
rows tell the truth, and turns negative where they have the wrong sign.
"""

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import undertow as ut
from undertow import gradient as ug
from undertow.plots import style

problem = ut.MixedLinearRegression(n_features=3, noise_std=0.3, task_std=1.0)
tasks = problem.sample(ut.Design(n_tasks=50, n_support=10, n_query=10), seed=0, dtype=np.float32)


def loss_fn(w, x, y):
    return 0.5 * jnp.mean((x @ w - y) ** 2)


adam, paths = optax.adam(0.02), {"labels as they are": [0.1], "labels of the wrong sign": [0.1]}
for seen, sign in zip(paths.values(), (1, -1), strict=True):
    turned = tasks._replace(support_y=sign * tasks.support_y)
    keep = ug.Callback(lambda state, history, seen=seen: seen.append(float(state.rate)), every=5)
    ug.train(loss_fn, jnp.zeros(3), turned, adam, 0.1, learn_rate=True, iterations=150, progress=keep)

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for (name, seen), colour in zip(paths.items(), (style.BLUE, style.ORANGE), strict=True):
    axes.plot(np.arange(len(seen)) * 5, seen, color=colour, label=name)
axes.axhline(0, color="grey", linewidth=1)
axes.set_xlabel("iteration")
axes.set_ylabel("rate of the inner step")
axes.legend(loc=(0.5, 0.6))
plt.show()
