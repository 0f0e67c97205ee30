"""Few-shot episodes: rows of the right classes, none of them twice, from folders and from .npz files."""

import numpy as np
import pytest
from PIL import Image

import undertow as ut
from undertow._check import InputError
from undertow.tasks import ImageTasks, LabelledImages, read_images


def numbered(counts=(6, 6, 8, 6), side=3):
    """Images whose first pixel is the class and whose second is the number within it."""
    classes = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(classes), side, side), np.uint8)
    images[:, 0, 0] = classes
    images[:, 0, 1] = np.concatenate([np.arange(n) for n in counts])
    return LabelledImages(images, classes, tuple(map(str, range(len(counts)))))


def pixels(x):
    return np.round(np.asarray(x) * 255).astype(int)


@pytest.mark.parametrize("engine", ["numpy", pytest.param("jax", marks=pytest.mark.long)])
def test_an_episode_holds_different_images_of_different_classes(engine):
    tasks = ImageTasks(numbered(), 3)
    design = ut.Design(40, 6, 9)
    if engine == "numpy":
        batch = tasks.sample(design, 0)
    else:
        from undertow.gradient import draw_tasks

        batch = draw_tasks(tasks, design, 0)
    assert batch.support_x.shape == (40, 6, 3, 3)
    assert batch.query_y.shape == (40, 9)
    assert np.asarray(batch.support_y).tolist() == [[0, 0, 1, 1, 2, 2]] * 40
    x = pixels(np.concatenate([batch.support_x, batch.query_x], axis=1))
    y = np.concatenate([batch.support_y, batch.query_y], axis=1)
    for rows, labels in zip(x, y, strict=True):
        seen = list(zip(rows[:, 0, 0].tolist(), rows[:, 0, 1].tolist(), strict=True))
        assert len(set(seen)) == 15
        for label in range(3):
            assert len(set(rows[labels == label, 0, 0].tolist())) == 1
        assert len({rows[labels == label, 0, 0][0] for label in range(3)}) == 3


def test_every_class_and_image_is_drawn_equally_often():
    tasks = ImageTasks(numbered((2, 5, 3)), 2)
    batch = tasks.sample(ut.Design(6000, 2, 2), 0)
    x = pixels(batch.support_x)
    by_class = np.bincount(x[:, :, 0, 0].ravel(), minlength=3)
    assert (abs(by_class - 4000) < 4 * np.sqrt(6000 * 2 / 3 / 3)).all()
    by_image = np.bincount(x[..., 0, 1][x[..., 0, 0] == 1], minlength=5)
    total = by_image.sum()
    assert (abs(by_image - total / 5) < 4 * np.sqrt(total * 0.2 * 0.8)).all()


def test_rotated_classes_are_classes_of_their_own():
    images = numbered((4, 4), side=2)
    images.images[:, 1] = 0
    tasks = ImageTasks(images, 5, rotations=True)
    assert tasks.n_classes == 8
    batch = tasks.sample(ut.Design(50, 5, 5), 1)
    x = pixels(batch.support_x) > 0
    # The corner that holds a class's number 1 moves with the turn.
    assert len({tuple(one.ravel()) for one in x[:, :].reshape(-1, 2, 2)}) > 4


def test_a_seed_fixes_the_draw():
    tasks = ImageTasks(numbered(), 3)
    design = ut.Design(4, 3, 3)
    first, same, other = (tasks.sample(design, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.query_x, same.query_x)
    assert not np.array_equal(first.query_x, other.query_x)


def test_parts_of_a_split_have_no_class_in_common():
    images = numbered((3,) * 10)
    train, test = images.split((0.7, 0.3), 2)
    assert (train.n_classes, test.n_classes) == (7, 3)
    assert sorted(train.names + test.names) == sorted(images.names)
    for part in (train, test):
        for name, number in zip(part.names, range(part.n_classes), strict=True):
            assert set(part.images[part.classes == number, 0, 0].tolist()) == {int(name)}


def test_the_folder_layout_of_omniglot_is_read_as_it_is(tmp_path):
    for alphabet, character in (("Latin", "character01"), ("Latin", "character02"), ("Greek", "character01")):
        folder = tmp_path / alphabet / character
        folder.mkdir(parents=True)
        for drawer in range(2):
            picture = np.full((105, 105), 255, np.uint8)
            picture[20:60, 10 + 30 * drawer : 40 + 30 * drawer] = 0
            Image.fromarray(picture).save(folder / f"{drawer:02d}.png")
    (tmp_path / "readme.txt").write_text("not an image")
    found = read_images(tmp_path)
    assert found.images.shape == (6, 28, 28)
    assert found.names == ("Greek/character01", "Latin/character01", "Latin/character02")
    assert found.classes.tolist() == [0, 0, 1, 1, 2, 2]
    # Ink is 255, and there is as much of it as there was.
    assert found.images[0, 0, 0] == 0
    assert abs(found.images[0].mean() / 255 - 40 * 30 / 105**2) < 0.01


def test_npz_files_with_labels_or_with_alphabet_and_character(tmp_path):
    images = numbered((2, 3)).images
    np.savez(tmp_path / "a.npz", images=images, label=np.array([7, 7, 9, 9, 9]))
    np.savez(tmp_path / "b.npz", images=images, alphabet=np.array([0, 0, 1, 1, 1]), character=np.array([1, 2, 1, 1, 1]))
    assert read_images(tmp_path / "a.npz").names == ("7", "9")
    assert read_images(tmp_path / "b.npz").names == ("0/1", "0/2", "1/1")
    assert read_images(tmp_path / "b.npz").classes.tolist() == [0, 1, 2, 2, 2]


def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_images(tmp_path / "none")
    with pytest.raises(InputError, match="holds no images"):
        read_images(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_images(tmp_path / "bad.npz")
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match="must hold images, and label"):
        read_images(tmp_path / "c.npz")
    with pytest.raises(InputError, match="there are only 4 classes"):
        ImageTasks(numbered(), 5)
    tasks = ImageTasks(numbered(), 3)
    with pytest.raises(InputError, match="n_support=4: with 3 classes"):
        tasks.sample(ut.Design(1, 4, 3))
    with pytest.raises(InputError, match="a class has only 6 images"):
        tasks.sample(ut.Design(1, 9, 12))
    with pytest.raises(InputError, match="add up to 1"):
        numbered().split((0.5, 0.6))
    with pytest.raises(InputError, match="would hold none"):
        numbered().split((0.99, 0.01))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours_and_numbers_of_any_size_come_through(dtype):
    classes = np.repeat(np.arange(3), 4)
    images = np.random.default_rng(0).integers(0, 256, (12, 5, 5, 3)).astype(dtype)
    found = LabelledImages(images, classes, ("a", "b", "c"))
    assert found.n_channels == 3
    batch = ImageTasks(found, 2, rotations=True).sample(ut.Design(6, 4, 4), 0)
    assert batch.support_x.shape == (6, 4, 5, 5, 3)
    scale = 255 if dtype == np.uint8 else 1
    known = {
        np.float32(one / scale).tobytes()
        for image in images
        for one in np.stack([np.rot90(image, k) for k in range(4)])
    }
    assert {row.tobytes() for row in batch.query_x.reshape(-1, 5, 5, 3)} <= known


def test_a_folder_is_read_in_colour(tmp_path):
    for name, colour in (("reds", (250, 10, 20)), ("blues", (10, 20, 250))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9), colour).save(tmp_path / name / "one.png")
    found = read_images(tmp_path, 4, colour=True)
    assert found.images.shape == (2, 4, 4, 3)
    assert found.images[:, 0, 0].tolist() == [[10, 20, 250], [250, 10, 20]]  # as they are, and not inverted


@pytest.mark.wrong_type
def test_images_of_another_kind_are_refused(tmp_path):
    np.savez(tmp_path / "c.npz", images=np.zeros((2, 3, 3), int), label=np.arange(2))
    with pytest.raises(InputError, match="must be uint8"):
        read_images(tmp_path / "c.npz")
