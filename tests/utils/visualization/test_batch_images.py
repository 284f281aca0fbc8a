import numpy as np
import pytest
import torch

from graftdet.utils.images.io import read_image
from graftdet.utils.visualization import batch_images
from graftdet.utils.visualization import drawing as draw
from graftdet.utils.visualization.batch_images import ValidationImages, plot_batch


def colors_in(image):
    return set(map(tuple, image.reshape(-1, 3).tolist()))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_plot_batch_draws_the_boxes_of_each_image(kind, dtype, tmp_path):
    images = np.zeros((5, 3, 64, 96), dtype)
    images[:, 0] = 1 if dtype == np.float32 else 255  # red, as tensors are RGB
    targets = np.array([[1, 3, 0.5, 0.5, 0.5, 0.5], [4, 1, 0.5, 0.5, 1.0, 1.0]], np.float32)
    path = plot_batch(
        kind(images), kind(targets), ["a", "b", "c", "d"], tmp_path / "neu é" / "batch.png", columns=3, width=3 * 96
    )
    grid = read_image(path)
    assert grid.shape == (2 * 68 + 4, 3 * 100 + 4, 3)
    first, second = grid[4:68, 4:100], grid[4:68, 104:200]
    assert colors_in(first) == {(0, 0, 255)}
    assert draw.class_color(3) in colors_in(second) and tuple(second[32, 24]) == draw.class_color(3)
    plot_batch(kind(images), kind(np.zeros((0, 6), np.float32)), [], tmp_path / "empty.png")


@pytest.mark.parametrize(("height", "width"), [(160, 160), (2000, 4000), (900, 30)])
def test_class_names_are_equally_large_in_small_and_large_images(height, width, tmp_path, monkeypatch):
    shapes = []
    original = draw.draw_boxes
    monkeypatch.setattr(
        batch_images, "draw_boxes", lambda image, *more: shapes.append(image.shape) or original(image, *more)
    )
    targets = np.array([[0, 0, 0.5, 0.5, 0.5, 0.5]])
    plot_batch(np.zeros((2, 3, height, width), np.uint8), targets, ["cell"], tmp_path / "batch.jpg")
    assert shapes[0][1] == 480 or shapes[0][0] == 960
    assert abs(shapes[0][1] / shapes[0][0] - width / height) < 0.05


def batch_of(count, height=64, width=96):
    return {
        "images": torch.full((count, 3, height, width), 200, dtype=torch.uint8),
        "targets": torch.tensor([[0, 1, 0.5, 0.5, 0.5, 0.5]]),
        "paths": [f"/data/images/{number} é.png" for number in range(count)],
        "image_ids": list(range(count)),
        "shapes": [(height, width)] * count,
        "gains": [0.5] * count,
        "pads": [(8.0, 4.0)] * count,
    }


def test_the_first_batches_of_a_validation_are_drawn_with_file_names(tmp_path, monkeypatch):
    drawn = {}

    def record(images, targets, names, path, captions):
        drawn[path.name] = targets, captions

    monkeypatch.setattr(batch_images, "plot_batch", record)
    images = ValidationImages(count=2)
    found = np.array([[0, 0, 96, 64, 0.9, 2], [0, 0, 9, 9, 0.1, 0]])  # of the original image; the second is not drawn
    for number in range(3):
        images(number, batch_of(2), [np.zeros((0, 6), np.float32), found])
    images.write(tmp_path, ["a", "b", "c"])
    assert sorted(drawn) == [f"val_batch{number}_{kind}.jpg" for number in range(2) for kind in ("labels", "pred")]
    targets, captions = drawn["val_batch1_pred.jpg"]
    assert captions == ["0 é.png", "1 é.png"]
    box = [(8 + 24) / 96, (4 + 16) / 64, 48 / 96, 32 / 64]  # by gain and pad
    np.testing.assert_allclose(targets, [[1, 2, *box, 0.9]])
    assert drawn["val_batch0_labels.jpg"][0].tolist() == [[0, 1, 0.5, 0.5, 0.5, 0.5]]


def test_validation_images_are_written(tmp_path):
    images = ValidationImages()
    images(0, batch_of(3), [np.array([[0, 0, 96, 64, 0.9, 1]]), np.zeros((0, 6)), np.zeros((0, 6))])
    images.write(tmp_path / "run", ["a", "b"])
    for kind in ("labels", "pred"):
        image = read_image(tmp_path / "run" / f"val_batch0_{kind}.jpg")
        assert image.shape[1] == 3 * 484 + 4
        assert (image[4:26, 4:484] < 90).any() and (image[4:26, 4:484] > 200).any()  # the caption above the image


def test_the_end_of_a_long_file_name_stays(monkeypatch):
    texts = []
    monkeypatch.setattr(batch_images, "put_text", lambda canvas, text, *more: texts.append(text))
    batch_images.add_caption(np.zeros((50, 200, 3), np.uint8), "a_long_prefix_of_all_images_" * 3 + "0042.png")
    assert texts[0].startswith("..") and texts[0].endswith("0042.png")
    assert draw.text_box(texts[0], batch_images.CAPTION_SCALE)[0] <= 192
