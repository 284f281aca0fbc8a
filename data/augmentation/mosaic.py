"""Mosaic: four images in one (Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3). NumPy only."""

from collections.abc import Sequence

import numpy as np

from graftdet.data.augmentation.canvas import Canvas, PlacedImage
from graftdet.data.augmentation.transforms import Tile, clip_boxes


def draw_center(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Draw the point (x, y) at which the four images meet, uniformly from (0.5, 1.5) * `size`."""
    x, y = rng.uniform(0.5 * size, 1.5 * size, 2)
    return int(x), int(y)


def mosaic(tiles: Sequence[Tile | None], size: int, center: tuple[int, int]) -> Canvas:
    """Place four images around a point of a canvas.

    Each image touches the center with one corner and is cut at the edge of the canvas; its boxes move along and are
    clipped.

    Args:
        tiles: top left, top right, bottom left, bottom right image; None leaves that quarter gray.
        size: half the side of the square canvas.
        center: (x, y) of the point in pixels of the canvas.

    Returns:
        The canvas of shape (2 `size`, 2 `size`).
    """
    images, boxes, labels = [], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for quarter, tile in enumerate(tiles):
        if tile is None:
            continue
        image = tile[0]
        left = center[0] if quarter % 2 else center[0] - image.shape[1]
        top = center[1] if quarter // 2 else center[1] - image.shape[0]
        images.append(PlacedImage(image, left, top, len(tile[1])))
        boxes.append(tile[1] + np.array([left, top, left, top], dtype=np.float32))
        labels.append(tile[2])
    shape = (2 * size, 2 * size)
    return Canvas(shape, images, clip_boxes(np.concatenate(boxes), shape), np.concatenate(labels))
