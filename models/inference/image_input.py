"""Images of any kind into letterboxed arrays that a model takes. NumPy and OpenCV only."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image
from graftdet.utils.images.letterbox import letterbox


class LetterboxedImage(NamedTuple):
    """An image, its letterboxed form, and the transform between them.

    Attributes:
        image: (H, W, 3) uint8 BGR as it was read.
        path: its file, None for an array.
        letterboxed: (h, w, 3) uint8 BGR.
        gain: scale of the letterboxed image.
        pad: (left, top) padding in pixels.
    """

    image: np.ndarray
    path: Path | None
    letterboxed: np.ndarray
    gain: float
    pad: tuple[float, float]


def as_list(images: Any) -> list:
    """One image or several as a list. One is a path or an array with fewer than four dimensions."""
    single = isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4)
    return [images] if single else list(images)


def letterbox_image(image: str | Path | np.ndarray, size: tuple[int, int], stride: int, auto: bool) -> LetterboxedImage:
    """Read and letterbox an image.

    Args:
        image: a path, or an array (H, W, 3) uint8 BGR; gray and BGRA arrays are converted.
        size: (height, width) to fit the image into.
        stride: with `auto`, sides become the nearest multiples of it.
        auto: pad to multiples of `stride` only, instead of to `size`.

    Raises:
        UserError: the file is not a readable image, or the array is of another kind.
    """
    array, path = _read(image)
    return LetterboxedImage(array, path, *letterbox(array, size, stride, auto))


def group_by_shape(shapes: list[tuple[int, ...]], batch_size: int) -> list[list[int]]:
    """Indices of equal `shapes` in groups of at most `batch_size`."""
    by_shape: dict[tuple, list[int]] = {}
    for index, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(index)
    return [same[i : i + batch_size] for same in by_shape.values() for i in range(0, len(same), batch_size)]


def _read(image) -> tuple[np.ndarray, Path | None]:
    """A path or an array -> (H, W, 3) uint8 BGR and its path."""
    if isinstance(image, (str, Path)):
        return read_image(image), Path(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"expected a path or an image (H, W, 3) uint8 BGR, got {found}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise UserError(f"expected an image (H, W, 3) uint8 BGR, got {image.shape}")
    return image[..., :3], None
