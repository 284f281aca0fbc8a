"""Four pictures in one (Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3). NumPy only."""

from collections.abc import Sequence

import numpy as np

from .transforms import FILL, clip_boxes

Tile = tuple[np.ndarray, np.ndarray, np.ndarray]  # picture (h, w, 3), boxes (n, 4) xyxy pixels, labels (n,)


def draw_centre(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Where the four pictures meet on the canvas of 2 `size`: (x, y), uniform in (0.5, 1.5) `size`."""
    x, y = rng.uniform(0.5 * size, 1.5 * size, 2)
    return int(x), int(y)


def mosaic(tiles: Sequence[Tile | None], size: int, centre: tuple[int, int]) -> Tile:
    """Lay four pictures around `centre` on a canvas (2 `size`, 2 `size`, 3): top left, top right, bottom left, right.

    Each touches the centre with a corner and loses what lies outside the canvas; its boxes move along and are clipped.
    A tile that is None stays grey.
    """
    canvas = np.full((2 * size, 2 * size, 3), FILL[0], dtype=np.uint8)
    all_boxes, all_labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for place, tile in enumerate(tiles):
        if tile is None:
            continue
        image, boxes, labels = tile
        height, width = image.shape[:2]
        left = centre[0] if place % 2 else centre[0] - width
        top = centre[1] if place // 2 else centre[1] - height
        x1, y1 = max(left, 0), max(top, 0)
        x2, y2 = min(left + width, 2 * size), min(top + height, 2 * size)
        if x2 > x1 and y2 > y1:
            canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        moved = boxes + np.array([left, top, left, top], dtype=np.float32)
        all_boxes.append(clip_boxes(moved, canvas.shape[:2]))
        all_labels.append(labels)
    return canvas, np.concatenate(all_boxes), np.concatenate(all_labels)
