"""Contact sheets: many images with their boxes and file names on one image, several where there are many."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.images.io import write_image
from graftdet.utils.visualization.batch_images import add_caption, resize_to_width
from graftdet.utils.visualization.drawing import Names, draw_boxes, image_grid

COLUMNS, ROWS = 5, 6
TILE_WIDTH = 384  # pixels


def draw_tile(
    image: np.ndarray,
    boxes_xyxy: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    names: Names,
    **options: Any,
) -> np.ndarray:
    """Return a small copy of an image with its boxes, drawn after scaling so that class names are readable.

    Args:
        image: (H, W, 3) BGR uint8.
        boxes_xyxy: (n, 4) pixels.
        labels: (n,) class indices.
        scores: (n,); None: not shown.
        names: Class names.
        **options: See `draw_boxes`.
    """
    tile = resize_to_width(image, TILE_WIDTH)
    scale = np.tile(np.divide(tile.shape[1::-1], image.shape[1::-1]), 2)
    return draw_boxes(tile, np.asarray(boxes_xyxy).reshape(-1, 4) * scale, labels, scores, names, **options)


class ContactSheets:
    """Collects tiles and writes a sheet whenever `COLUMNS` x `ROWS` of them are followed by one more."""

    def __init__(self) -> None:
        self._tiles: list[np.ndarray] = []
        self._written = 0

    def add(self, tile: np.ndarray, caption: str, path_of: Callable[[int | None], Path]) -> None:
        """Add a tile (H, W, 3) BGR with a text above it; `path_of` a number, from 1, is the file of a full sheet."""
        if len(self._tiles) == COLUMNS * ROWS:
            self._write(path_of(self._written + 1))
        self._tiles.append(add_caption(tile, caption))

    def finish(self, path_of: Callable[[int | None], Path]) -> None:
        """Write the last sheet; `path_of(None)` is its file if it is the only one."""
        if self._tiles:
            self._write(path_of(self._written + 1 if self._written else None))

    def _write(self, path: Path) -> None:
        write_image(path, image_grid(self._tiles, min(COLUMNS, len(self._tiles))))
        self._tiles, self._written = [], self._written + 1
