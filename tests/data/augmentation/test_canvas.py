"""Drawing only the visible part of images, compared with drawing and warping the whole canvas."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from graftdet.data.augmentation.canvas import Canvas, PlacedImage
from graftdet.data.augmentation.mosaic import draw_center, mosaic
from graftdet.data.augmentation.transforms import flip_matrix, jitter, jitter_matrix, remaining_boxes, warp, warp_boxes
from graftdet.utils.hyperparameters import Hyperparameters

RECIPE = replace(Hyperparameters(), scale=0.5, translate=0.1, fliplr=0.5, flipud=0.3)


def slow_jitter(canvas, rng, recipe, out, zoom=1.0):
    """Draw the whole canvas, then warp it."""
    matrix, scale = jitter_matrix(rng, recipe, canvas.shape, (out[0] / zoom, out[1] / zoom))
    matrix = flip_matrix(rng, recipe, out) @ np.diag([zoom, zoom, 1.0]) @ matrix
    warped = warp_boxes(canvas.boxes, matrix, out)
    remaining = remaining_boxes(canvas.boxes * (scale * zoom), warped)
    return warp(canvas.draw(), matrix, out), warped[remaining], canvas.labels[remaining]


def make_tiles(rng, size):
    """Tiles with one bright box each on smooth content; each box has its own label."""
    tiles = []
    for number in range(4):
        height, width = (
            (size, int(rng.integers(size // 2, size))) if number % 2 else (int(rng.integers(size // 2, size)), size)
        )
        image = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3)).astype(np.uint8), (0, 0), 6)
        box = [width // 4, height // 4, width // 4 + 30, height // 4 + 24]
        image[box[1] : box[3], box[0] : box[2]] = 40 * number + 60
        tiles.append((image, np.array([box, [2, 3, 20, 30]], np.float32), np.array([2 * number, 2 * number + 1])))
    return tiles


@pytest.mark.parametrize("zoom", [1.0, 0.6, 1.5])
def test_scaled_drawing_equals_warping_to_half_a_pixel(zoom):
    lost = apart = total = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        canvas = mosaic(make_tiles(rng, 96), 96, draw_center(rng, 96))
        out = (round(96 * zoom), round(96 * zoom))
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        image, boxes, labels = jitter(canvas, one, RECIPE, out, zoom)
        expected, expected_boxes, expected_labels = slow_jitter(canvas, other, RECIPE, out, zoom)
        assert one.random() == other.random()  # the same number of draws
        assert image.shape == expected.shape and image.dtype == np.uint8
        both = np.intersect1d(labels, expected_labels)
        lost, total = lost + len(np.setxor1d(labels, expected_labels)), total + len(both)
        index, expected_index = (np.searchsorted(these, both) for these in (labels, expected_labels))
        assert np.abs(boxes[index] - expected_boxes[expected_index]).max(initial=0) <= 0.51
        apart += np.abs(image.astype(int) - expected).mean()
    assert lost <= 0.03 * total  # only boxes that nearly reach a limit of `remaining_boxes`
    assert apart / 30 < 5


def bilinear(image, scale, shift, out):
    """(h, w, 3) float: bilinear interpolation of x' = x * scale + shift; edge pixels are repeated outside."""

    def positions(length, move, limit):
        at = np.clip((np.arange(length) + 0.5 - move) / scale - 0.5, 0, limit - 1)
        low = np.minimum(at.astype(int), limit - 2)
        return low, at - low

    (rows, down), (columns, across) = (
        positions(out[0], shift[1], image.shape[0]),
        positions(out[1], shift[0], image.shape[1]),
    )
    down, across = down[:, None, None], across[None, :, None]
    corner = [[image[rows + i][:, columns + j].astype(float) for j in (0, 1)] for i in (0, 1)]
    upper, lower = (pair[0] * (1 - across) + pair[1] * across for pair in corner)
    return upper * (1 - down) + lower * down


@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1.0, (0.0, 0.0)), (1.0, (-7.0, 5.0)), (2.0, (3.0, -4.0)), (0.5, (1.0, 2.0)), (3.0, (-40.0, -31.0))],
)
def test_whole_pixel_shifts_are_exact(scale, shift):
    """If edges fall on whole pixels, the result equals bilinear interpolation up to rounding, away from the seams."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)
    boxes = np.array([[4, 6, 12, 20]], np.float32)
    canvas, out = Canvas.from_image(image, boxes, np.zeros(1, int)), (40, 50)
    drawn, moved = canvas.draw_scaled(scale, shift, out)
    expected = bilinear(image, scale, shift, out)
    assert np.allclose(moved, boxes * scale + [*shift, *shift])
    rows, columns = (
        slice(max(round(start), 0) + 3, max(min(round(start + side * scale), limit) - 3, 0))
        for start, side, limit in ((shift[1], 24, 40), (shift[0], 32, 50))
    )
    assert drawn[rows, columns].size
    assert np.abs(drawn[rows, columns] - expected[rows, columns]).max() <= 1
    outside = (
        cv2.warpAffine(np.ones_like(image), np.float64([[scale, 0, shift[0]], [0, scale, shift[1]]]), (50, 40), flags=0)
        == 0
    )
    inner = cv2.erode(outside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert (drawn[inner] == 114).all()


def test_no_gaps_between_images():
    """At any scale and position there are only the colors of the images and gray, without gaps at the seam."""
    rng = np.random.default_rng(0)
    colors = (10, 60, 160, 210)
    tiles = [
        (np.full((40, 40, 3), value, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int)) for value in colors
    ]
    for _ in range(200):
        canvas = mosaic(tiles, 40, draw_center(rng, 40))
        scale = float(rng.uniform(0.05, 2.5))
        drawn, _ = canvas.draw_scaled(scale, tuple(rng.uniform(-60, 20, 2)), (40, 40))
        assert np.isin(drawn, (*colors, 114)).all()
        seen = drawn[..., 0] != 114
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        if len(rows):  # nothing is gray between the first and the last visible row of a column
            for column in columns:
                inside = np.flatnonzero(seen[:, column])
                assert len(inside) == inside[-1] - inside[0] + 1


def test_invisible_images_are_not_drawn_and_their_boxes_are_outside():
    image = np.zeros((10, 10, 3), np.uint8)
    canvas = Canvas(
        (20, 20),
        [PlacedImage(image, 0, 0, 1), PlacedImage(image, 10, 10, 1)],
        np.array([[1, 1, 9, 9], [11, 11, 19, 19]], np.float32),
        np.arange(2),
    )
    drawn, boxes = canvas.draw_scaled(1.0, (-10.0, -10.0), (8, 8))
    assert (drawn == 0).all() and boxes[1].tolist() == [1, 1, 9, 9]
    assert (boxes[0] <= 0).all()
    recipe = replace(RECIPE, scale=0, translate=0, fliplr=0, flipud=0)
    assert jitter(canvas, np.random.default_rng(0), recipe, (20, 20))[2].tolist() == [0, 1]


def test_scale_of_zero_uses_the_warp():
    canvas = Canvas.from_image(np.zeros((10, 10, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    recipe = replace(RECIPE, scale=1.0)

    class Smallest:  # every draw is 0, so the scale is 0
        def random(self, count):
            return np.zeros(count)

    image, boxes, _ = jitter(canvas, Smallest(), recipe, (12, 12))
    assert image.shape == (12, 12, 3) and not len(boxes)
