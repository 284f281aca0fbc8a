"""Which frame a source's boxes are in when the size it declares is not the picture's. No torch."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from graftdet.utils.images.header import ImageHeader

SIZE = "pictures of another size than declared"
SCALED = "pictures of another resolution than declared"
UNTURNED = "pictures annotated before their EXIF turn"


class Frame(NamedTuple):
    """Size of the frame that boxes are in, whether to turn the picture as its EXIF says, and what was odd about it."""

    width: int
    height: int
    apply_exif: bool = True
    kind: str | None = None  # SIZE, SCALED, UNTURNED or None


def fit_frame(declared: tuple[int, int], header: ImageHeader) -> Frame:
    """Decide which frame boxes are in; `declared` (width, height) is what their source says, 0 where it is silent.

    - The picture's size once turned, or nothing declared: the turned picture.
    - The same aspect at another resolution: the boxes are in the declared frame, and scaled along with the picture.
    - The stored size (or aspect) of a picture that EXIF turns: the boxes were drawn on the unturned one, so it is read
      unturned.
    - Anything else: the picture's own pixels are believed.
    """
    stored, upright = (header.width, header.height), header.upright_size
    if declared[0] <= 0 or declared[1] <= 0 or tuple(declared) == upright:
        return Frame(*upright)
    if same_aspect(declared, upright):
        return Frame(*declared, True, SCALED)
    if same_aspect(declared, stored):
        return Frame(*declared, False, UNTURNED)
    return Frame(*upright, True, SIZE)


def same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are one picture at two resolutions, sides rounded to whole pixels."""
    cross = abs(int(one[0]) * int(other[1]) - int(one[1]) * int(other[0]))
    return min(*one, *other) > 0 and cross <= max(*one, *other)


def loaded_frame(declared: tuple[float, float], original: tuple[int, int]) -> tuple[int, int]:
    """The frame of boxes once a picture was read, both in (h, w): the declared one unless the picture contradicts it."""
    declared = (int(declared[0]), int(declared[1]))
    return declared if same_aspect(declared, original) else tuple(original)


def upright(sample, header: ImageHeader):
    """Return a settled `Sample` with its boxes on the turned picture, for formats that know no other frame."""
    if sample.apply_exif:
        return sample
    boxes = turn_boxes(sample.boxes.astype(np.float64), sample.width, sample.height, header.orientation)
    source = sample.source_boxes
    corners = np.concatenate([source[:, :2], source[:, :2] + source[:, 2:]], 1)
    corners = turn_boxes(corners, sample.width, sample.height, header.orientation)
    size = (sample.height, sample.width) if header.orientation >= 5 else (sample.width, sample.height)
    return replace(
        sample,
        boxes=boxes.astype(np.float32),
        source_boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1),
        width=size[0],
        height=size[1],
        apply_exif=True,
    )


def turn_boxes(boxes_xyxy: np.ndarray, width: int, height: int, orientation: int) -> np.ndarray:
    """Boxes (n, 4) on a stored picture of `width` x `height` -> on the picture turned by its EXIF orientation 1..8."""
    x1, y1, x2, y2 = boxes_xyxy.T
    if orientation in (2, 3, 7, 8):  # left and right change places before anything else
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = height - y2, height - y1
    columns = (y1, x1, y2, x2) if orientation >= 5 else (x1, y1, x2, y2)
    return np.stack(columns, 1)
