"""EXIF orientation and declared sizes: which image the boxes of an annotation file refer to. No torch."""

from typing import NamedTuple

import numpy as np

from graftdet.utils.images.header import ImageHeader

OTHER_SIZE = "images of another size than declared"
OTHER_RESOLUTION = "images of another resolution than declared"
NOT_ROTATED = "images annotated before EXIF rotation"


class AnnotatedSize(NamedTuple):
    """The image size in pixels that boxes refer to, and how the image must be read to match it."""

    width: int
    height: int
    apply_exif: bool = True
    problem: str | None = None  # OTHER_SIZE, OTHER_RESOLUTION, NOT_ROTATED or None


def resolve_annotated_size(declared: tuple[int, int], header: ImageHeader) -> AnnotatedSize:
    """Decide which image size the boxes of an annotation refer to.

    - Declared size equal to the rotated image, or nothing declared: the rotated image.
    - Same aspect ratio at another resolution: the declared size; boxes are scaled along with the image.
    - Stored size (or aspect ratio) of an image that EXIF rotates: the boxes were drawn on the stored pixels, so the
      image is read without rotation.
    - Anything else: the size of the rotated image.

    Args:
        declared: (width, height) of the annotation file, 0 if it has none.
        header: the header of the image file.

    Returns:
        The size that the boxes refer to.
    """
    stored, upright = (header.width, header.height), header.upright_size
    if declared[0] <= 0 or declared[1] <= 0 or tuple(declared) == upright:
        return AnnotatedSize(*upright)
    if same_aspect(declared, upright):
        return AnnotatedSize(*declared, True, OTHER_RESOLUTION)
    if same_aspect(declared, stored):
        return AnnotatedSize(*declared, False, NOT_ROTATED)
    return AnnotatedSize(*upright, True, OTHER_SIZE)


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two sizes have the same aspect ratio, up to rounding of the sides to whole pixels."""
    cross = abs(int(size[0]) * int(other[1]) - int(size[1]) * int(other[0]))
    return min(*size, *other) > 0 and cross <= max(*size, *other)


def loaded_size(declared: tuple[float, float], loaded: tuple[int, int]) -> tuple[int, int]:
    """Return the size that boxes refer to once the image was read.

    Args:
        declared: (h, w) of the validated sample.
        loaded: (h, w) of the image as read.

    Returns:
        (h, w): the declared size, or the loaded one if the two contradict each other.
    """
    declared = (int(declared[0]), int(declared[1]))
    return declared if same_aspect(declared, loaded) else (loaded[0], loaded[1])


def rotate_boxes(boxes_xyxy: np.ndarray, width: int, height: int, orientation: int) -> np.ndarray:
    """Map boxes from the stored image to the image as rotated by its EXIF orientation.

    Args:
        boxes_xyxy: boxes (n, 4) xyxy in pixels of the stored image.
        width: width of the stored image.
        height: height of the stored image.
        orientation: EXIF orientation, 1 to 8.

    Returns:
        Boxes (n, 4) xyxy in pixels of the rotated image.
    """
    x1, y1, x2, y2 = boxes_xyxy.T
    if orientation in (2, 3, 7, 8):  # mirrored left to right first
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = height - y2, height - y1
    columns = (y1, x1, y2, x2) if orientation >= 5 else (x1, y1, x2, y2)
    return np.stack(columns, 1)
