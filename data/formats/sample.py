"""One annotated picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(slots=True)
class Sample:
    """One picture and what its source says of it.

    A format yields samples as the source has them: boxes may be wrong, and `width`, `height` are what the source
    declares (0 when it is silent). Those in `Split.samples` were held against the picture (`settle`): boxes lie inside,
    crowds are marked, and `width`, `height` are those of `read_image(path, apply_exif)`.
    """

    path: Path
    boxes: np.ndarray  # (n, 4) float32 xyxy in pixels
    labels: np.ndarray  # (n,) int64, index into the split's names
    crowd: np.ndarray  # (n,) bool: regions not to be trained on, which the evaluator ignores
    areas: np.ndarray  # (n,) float64 in square pixels, the source's own where it has them (NaN before settling)
    annotation_ids: np.ndarray  # (n,) int64, the source's own
    image_id: int | str  # the source's own
    width: int = 0  # of the frame that the boxes are in
    height: int = 0
    apply_exif: bool = True  # False: the boxes are in the frame of the stored pixels, read the picture unturned
    source_boxes: np.ndarray | None = None  # (n, 4) float64 xywh in pixels, to the digit as the source has them
    fractions: bool = False  # before settling: boxes are fractions of the picture, not pixels
