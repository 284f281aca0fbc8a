"""One annotated image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(slots=True)
class Sample:
    """An image path with its annotations.

    A format yields samples as the source states them: boxes may be invalid, and `width` and `height` are the declared
    size (0 if there is none). The samples in `Split.samples` have been validated against their images
    (`formats.validation`): boxes lie inside, and `width` and `height` are those of `read_image(path, apply_exif)`.
    """

    path: Path
    boxes: np.ndarray  # (n, 4) float32 xyxy in pixels
    labels: np.ndarray  # (n,) int64, index into the names of the split
    crowd: np.ndarray  # (n,) bool: regions that are not trained on and that the evaluator ignores
    areas: np.ndarray  # (n,) float64 in square pixels, from the source if it has them (NaN before validation)
    annotation_ids: np.ndarray  # (n,) int64, from the source
    image_id: int | str  # from the source
    width: int = 0  # of the image that the boxes refer to
    height: int = 0
    apply_exif: bool = True  # False: the boxes refer to the stored pixels, so the image is read without EXIF rotation
    source_boxes: np.ndarray | None = None  # (n, 4) float64 xywh in pixels, exactly as in the source
    normalized: bool = False  # before validation: boxes are relative to the image size, not in pixels
