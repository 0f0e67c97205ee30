"""Few-shot classification from labelled images: reading a data set, splitting it by class, drawing episodes.

An episode is a task: some classes, numbered anew, some rows of each to adapt on and some to test on. ``ImageTasks`` is
drawn as the generative models of ``undertow.problem`` are: with NumPy by ``sample``, or inside a compiled loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from undertow import _check
from undertow._batch import TaskBatch
from undertow._check import InputError
from undertow._types import Classes, Pictures
from undertow.problem import Design, NumpySource, RandomSource

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with a class each.

    Parameters
    ----------
    images
        (n, h, w), or (n, h, w, c) with c channels, 3 for RGB. Of type uint8, where 255 becomes 1 (of grey images ink,
        or whatever else stands out from the ground), or floating, taken as they are and finite.
    classes
        (n,) class numbers from 0.
    names
        one name for each class.

    Raises
    ------
    InputError
        when these do not agree.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> images = np.random.default_rng(0).random((30, 8, 8))
    >>> known = ut.tasks.LabelledImages(images, np.repeat(np.arange(3), 10), names=("a", "b", "c"))
    >>> known.n_classes, known.take([0, 2]).names
    (3, ('a', 'c'))
    """

    images: Pictures
    classes: Classes
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim not in (3, 4) or not (self.images.dtype == np.uint8 or self.images.dtype.kind == "f"):
            given = f"{self.images.dtype} of shape {self.images.shape}"
            rule = f"images are {given}: they must be uint8 or floating, of shape (n, h, w) or (n, h, w, channels)."
            raise InputError(None, rule=rule)
        if self.images.dtype.kind == "f":
            _check.finite(self.images, "images")
        if self.classes.shape != self.images.shape[:1]:
            rule = f"classes have shape {self.classes.shape}: there are {len(self.images)} images."
            raise InputError(None, rule=rule)
        if not len(self.images):
            raise InputError(None, rule="there are no images.")
        found = np.unique(self.classes)
        if not np.array_equal(found, np.arange(len(self.names))):
            raise InputError(
                None,
                rule=f"classes are numbered {found[0]} to {found[-1]}, and there are {len(self.names)} names: each of "
                "0, 1, ... must have an image and a name.",
            )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def n_channels(self) -> int:
        """Numbers of a pixel: 1 where images have no axis of channels."""
        return 1 if self.images.ndim == 3 else self.images.shape[3]

    def take(self, classes: Any) -> LabelledImages:
        """Return the images of some classes, numbered in the given order."""
        chosen = np.asarray(classes)
        number = np.full(self.n_classes, -1)
        number[chosen] = np.arange(len(chosen))
        rows = np.flatnonzero(number[self.classes] >= 0)
        return LabelledImages(self.images[rows], number[self.classes[rows]], tuple(self.names[c] for c in chosen))

    def split(self, shares: Sequence[float], seed: int = 0) -> list[LabelledImages]:
        """Return parts without a common class, dealt at random: as many as there are shares, which add up to 1.

        Raises
        ------
        InputError
            when the shares are none, or a part would hold no class.
        """
        if any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
            raise InputError("shares", list(shares), "they must be positive and add up to 1.")
        order = np.random.default_rng(seed).permutation(self.n_classes)
        ends = np.round(np.cumsum([0.0, *shares]) * self.n_classes).astype(int)
        if (np.diff(ends) == 0).any():
            raise InputError("shares", list(shares), f"of {self.n_classes} classes a part would hold none.")
        return [self.take(np.sort(order[a:b])) for a, b in pairwise(ends)]


def read_images(path: Path | str, size: int = 28, *, colour: bool = False) -> LabelledImages:
    """Read labelled images from a folder or an ``.npz`` file.

    A folder: every folder below it that holds images is a class, whatever lies between, so Omniglot's own layout
    (alphabet/character/image.png) is read as it is. Images become ``size`` x ``size``, and grey, or RGB with
    ``colour``. Where most of grey images is bright, they are inverted, so that ink is 255.
    An .npz file: ``images`` (n, h, w) or (n, h, w, c), uint8 or floating, and either ``label`` (n,) or Omniglot's
    ``alphabet`` and ``character`` (n,); nothing is resized or inverted.

    Parameters
    ----------
    path
        a folder with a folder for each class, or an ``.npz`` file.
    size
        images of a folder become size x size.
    colour
        images of a folder become RGB, and are not inverted.

    Returns
    -------
    LabelledImages
        the images, their class numbers (n,) and the names of the classes.

    Raises
    ------
    InputError
        when the path does not exist or holds no images.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, undertow as ut
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/images.npz", images=np.zeros((4, 8, 8), np.uint8), label=np.array([0, 0, 1, 1]))
    ...     ut.tasks.read_images(f"{folder}/images.npz").n_classes
    2
    """
    path, size = Path(path), _check.whole_number(size, "size")
    if path.is_dir():
        return _read_folder(path, size, colour)
    if not path.is_file():
        way_out = "Give a folder of images, one folder for each class, or an .npz file."
        raise InputError(None, rule=f"{path} does not exist.", way_out=way_out)
    try:
        with np.load(path) as arrays:
            found = {name: arrays[name] for name in ("images", "label", "alphabet", "character") if name in arrays}
    except (OSError, ValueError, EOFError):
        rule = f"{path} cannot be read as an .npz file."
        raise InputError(None, rule=rule, way_out="Give a folder with one folder a class, or an .npz file.") from None
    labels = [found[name] for name in ("label", "alphabet", "character") if name in found]
    if "images" not in found or not labels:
        rule = f"{path} holds {sorted(found)}: it must hold images, and label or alphabet and character."
        raise InputError(None, rule=rule)
    if any(label.shape != found["images"].shape[:1] for label in labels):
        rule = f"{path}: each label array must have one entry for each of {len(found['images'])} images."
        raise InputError(None, rule=rule)
    kinds, classes = np.unique(np.stack(labels, axis=1), axis=0, return_inverse=True)
    names = tuple("/".join(map(str, kind)) for kind in kinds)
    return LabelledImages(found["images"], np.ravel(classes), names)


def _read_folder(path: Path, size: int, colour: bool) -> LabelledImages:
    try:
        from PIL import Image
    except ImportError:
        raise InputError(None, rule="reading image files needs Pillow.", way_out="pip install pillow") from None
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(None, rule=f"{path} holds no images ({', '.join(SUFFIXES)}).")
    images = np.empty((len(files), size, size, *((3,) if colour else ())), np.uint8)
    for row, file in enumerate(files):
        with Image.open(file) as image:
            images[row] = np.asarray(image.convert("RGB" if colour else "L").resize((size, size), Image.Resampling.BOX))
    # Of a picture, the ground is the larger part.
    if not colour and np.median(images) > 127:
        images = 255 - images
    folders = [str(file.parent.relative_to(path)) for file in files]
    names, classes = np.unique(folders, return_inverse=True)
    return LabelledImages(images, np.ravel(classes), tuple(map(str, names)))


class ImageTasks:
    """Episodes of ``ways`` classes from labelled images, drawn anew each time.

    Parameters
    ----------
    images
        classes with too few images for the rows asked for are refused when drawing.
    ways
        number of classes of an episode.
    rotations
        classes turned by 90, 180 and 270 degrees are classes of their own (as is usual for Omniglot); images must
        be square.

    Notes
    -----
    A Design's n_support and n_query count rows in all, so they are multiples of ``ways``. x has shape (m, rows, h, w),
    or (m, rows, h, w, c), with values in [0, 1] where images are uint8; y (m, rows) holds the class's number in the
    episode, 0 to ways - 1.

    Examples
    --------
    >>> import numpy as np, undertow as ut
    >>> images = np.random.default_rng(0).random((30, 8, 8))
    >>> known = ut.tasks.LabelledImages(images, np.repeat(np.arange(3), 10), names=("a", "b", "c"))
    >>> episodes = ut.tasks.ImageTasks(known, ways=2)
    >>> episodes.sample(ut.Design(n_tasks=4, n_support=2, n_query=6), seed=0).query_x.shape
    (4, 6, 8, 8)
    """

    def __init__(self, images: LabelledImages, ways: int = 5, *, rotations: bool = False) -> None:
        self.ways = _check.whole_number(ways, "ways", minimum=2)
        pictures, classes, n = images.images, images.classes, images.n_classes
        if rotations:
            if pictures.shape[1] != pictures.shape[2]:
                rule = f"images of {pictures.shape[1:]} are not square, and cannot be turned."
                raise InputError("rotations", True, rule)
            pictures = np.concatenate([np.rot90(pictures, turn, axes=(1, 2)) for turn in range(4)])
            classes = np.concatenate([classes + turn * n for turn in range(4)])
            n *= 4
        if n < self.ways:
            way_out = "Ask for fewer ways, or give images of more classes."
            raise InputError("ways", self.ways, f"there are only {n} classes.", way_out)
        order = np.argsort(classes, kind="stable")
        counts = np.bincount(classes, minlength=n)
        first = np.cumsum(counts) - counts
        column = np.arange(counts.max())
        self.fewest = int(counts.min())
        self.n_classes = n
        self._pictures = np.ascontiguousarray(pictures)
        # (classes, most images) rows of each class's images; beyond its count they are drawn last, and never used.
        self._rows = order[np.minimum(first[:, None] + column, len(order) - 1)]
        self._absent = (column >= counts[:, None]).astype(np.float32)

    def draw(self, source: RandomSource, design: Design) -> TaskBatch:
        """Return one TaskBatch, drawn from any RandomSource. Raises InputError when the sizes do not fit."""
        shots, queries = (self._per_class(getattr(design, name), name) for name in ("n_support", "n_query"))
        if shots + queries > self.fewest:
            rule = f"{shots} support and {queries} query rows of each class: a class has only {self.fewest} images."
            raise InputError(None, rule=rule)
        m, ways = design.n_tasks, self.ways
        keys = source.uniform(0.0, 1.0, (m, self.n_classes))
        xp = keys.__array_namespace__()
        classes = xp.argsort(keys, axis=-1)[:, :ways]
        keys = source.uniform(0.0, 1.0, (m, ways, self._rows.shape[1])) + xp.asarray(self._absent)[classes]
        which = xp.argsort(keys, axis=-1)[..., : shots + queries]
        x = xp.asarray(self._pictures)[xp.asarray(self._rows)[classes[..., None], which]]
        x = x.astype(keys.dtype) / (255 if self._pictures.dtype == np.uint8 else 1)
        numbers = xp.asarray(np.arange(ways))[None, :, None] + 0 * which

        def rows(part: slice) -> tuple[Any, Any]:
            shape = (m, -1, *x.shape[3:])
            return x[:, :, part].reshape(shape), numbers[:, :, part].reshape((m, -1))

        return TaskBatch(*rows(slice(0, shots)), *rows(slice(shots, None)))

    def sample(self, design: Design, seed: Any = 0) -> TaskBatch:
        """Return a TaskBatch drawn with NumPy, x in float32. ``seed``: an int, a SeedSequence or a Generator."""
        return self.draw(NumpySource(seed, np.float32), design)

    def _per_class(self, rows: int, name: str) -> int:
        if rows % self.ways:
            rule = f"with {self.ways} classes it must be a multiple of that number."
            raise InputError(name, rows, rule, "It counts the rows of all classes together.")
        return rows // self.ways
