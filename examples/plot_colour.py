"""
Image features: colour from ten pixels
======================================

A grey photograph is to be coloured. A task is a tile of 32 by 32 pixels, a row is a pixel, its features are the 225
grey values around it, and the two targets are how much redder and bluer than grey it is. Tiles share how light and
texture go with colour, and differ in what they show. The left half of the photograph is there for training; of each
tile of the right half ten pixels of known colour are given.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_sample_image

import undertow as ut

SIDE, AROUND = 32, 15
photo = load_sample_image("china.jpg")[:416].astype(np.float32) / 255
grey = photo.mean(axis=2)
features = sliding_window_view(np.pad(grey, AROUND // 2, mode="reflect"), (AROUND, AROUND)).reshape(grey.size, -1)
colour = (photo - grey[..., None])[..., [0, 2]].reshape(-1, 2)
row, column = np.divmod(np.arange(grey.size), grey.shape[1])
tile = row // SIDE * (grey.shape[1] // SIDE) + column // SIDE
left = column < grey.shape[1] // 2

rng = np.random.default_rng(0)
train = np.concatenate([rng.choice(np.flatnonzero(tile == t), 60, replace=False) for t in np.unique(tile[left])])
model = ut.MAMLRegressorCV(n_support=10).fit(features[train], colour[train], groups=tile[train])
print(f"{len(train)} rows of {features.shape[1]} features, {features.dtype}")
print(model.choice_)

# %%
# Each tile of the right half adapts on ten of its pixels and is coloured. Without them the same weights serve all
# tiles, and tint them like the left half.
few, adapted = np.zeros(grey.size, dtype=bool), np.zeros((grey.size, 2), dtype=np.float32)
for t in np.unique(tile[~left]):
    pixels = np.flatnonzero(tile == t)
    known = rng.choice(pixels, 10, replace=False)
    few[known] = True
    adapted[pixels] = model.adapt(features[known], colour[known]).predict(features[pixels])
common = model.predict(features)
rest = ~left & ~few
for name, guess in (("common weights", common), ("ten pixels a tile", adapted)):
    share = ((guess - colour)[rest] ** 2).sum() / ((colour[rest] - colour[rest].mean(axis=0)) ** 2).sum()
    print(f"{name}: R^2 {1 - share:.3f}")


# %%
def coloured(guess: np.ndarray) -> np.ndarray:
    red, blue = guess.T.reshape(2, *grey.shape)
    return np.clip(grey[..., None] + np.stack([red, -red - blue, blue], axis=2), 0, 1)[:, grey.shape[1] // 2 :]


pictures = {
    "what is given, with the ten pixels": coloured(np.where(few[:, None], colour, 0)),
    "common weights": coloured(common),
    "adapted to each tile": coloured(adapted),
    "truth": coloured(colour),
}
figure, axes = plt.subplots(1, 4, figsize=(13, 4.8), layout="constrained")
for one, (title, picture) in zip(axes, pictures.items(), strict=True):
    one.imshow(picture)
    one.set_title(title, fontsize=10, loc="left")
    one.axis("off")
plt.show()
