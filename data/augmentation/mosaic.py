"""Four pictures in one (Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3). NumPy only."""

from collections.abc import Sequence

import numpy as np
from graftdet.data.augmentation.canvas import Canvas, Piece
from graftdet.data.augmentation.transforms import clip_boxes

Tile = tuple[np.ndarray, np.ndarray, np.ndarray]  # picture (h, w, 3), boxes (n, 4) xyxy pixels, labels (n,)


def draw_centre(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Where the four pictures meet on the canvas of 2 `size`: (x, y), uniform in (0.5, 1.5) `size`."""
    x, y = rng.uniform(0.5 * size, 1.5 * size, 2)
    return int(x), int(y)


def mosaic(tiles: Sequence[Tile | None], size: int, centre: tuple[int, int]) -> Canvas:
    """Lay four pictures around `centre` on a canvas (2 `size`, 2 `size`): top left, top right, bottom left, right.

    Each touches the centre with a corner and loses what lies outside the canvas; its boxes move along and are clipped.
    A tile that is None stays grey.
    """
    pieces, boxes, labels = [], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for place, tile in enumerate(tiles):
        if tile is None:
            continue
        image = tile[0]
        left = centre[0] if place % 2 else centre[0] - image.shape[1]
        top = centre[1] if place // 2 else centre[1] - image.shape[0]
        pieces.append(Piece(image, left, top, len(tile[1])))
        boxes.append(tile[1] + np.array([left, top, left, top], dtype=np.float32))
        labels.append(tile[2])
    shape = (2 * size, 2 * size)
    return Canvas(shape, pieces, clip_boxes(np.concatenate(boxes), shape), np.concatenate(labels))
