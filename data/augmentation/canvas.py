"""Images placed on a gray canvas, drawn directly at the output scale. NumPy and OpenCV."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from graftdet.utils.images.letterbox import GRAY


class PlacedImage(NamedTuple):
    """An image at a position of a canvas; what exceeds the canvas is cut off."""

    image: np.ndarray  # (h, w, 3) BGR uint8
    left: int
    top: int
    box_count: int  # number of the canvas's boxes, in order, that belong to this image


@dataclass(slots=True)
class Canvas:
    """Images that do not overlap on a gray canvas, and their boxes."""

    shape: tuple[int, int]  # (h, w)
    images: list[PlacedImage]
    boxes: np.ndarray  # (n, 4) xyxy in pixels of the canvas
    labels: np.ndarray  # (n,)

    @classmethod
    def from_image(cls, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> "Canvas":
        """Return a canvas that one image covers."""
        return cls(image.shape[:2], [PlacedImage(image, 0, 0, len(boxes))], boxes, labels)

    def draw(self) -> np.ndarray:
        """Return the whole canvas, (h, w, 3) BGR uint8."""
        if self.images and self.images[0].image.shape[:2] == self.shape:
            return self.images[0].image
        canvas = np.full((*self.shape, 3), GRAY, dtype=np.uint8)
        for image, left, top, _ in self.images:
            x1, y1 = max(left, 0), max(top, 0)
            x2, y2 = min(left + image.shape[1], self.shape[1]), min(top + image.shape[0], self.shape[0])
            if x2 > x1 and y2 > y1:
                canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        return canvas

    def draw_scaled(
        self, scale: float, shift: tuple[float, float], out: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the canvas scaled and shifted, x' = x * scale + shift.

        Each image is resized directly into the output, which is several times faster than drawing and warping the
        canvas. Edges of images are rounded to whole output pixels, and boxes move along: nothing moves by more than
        half a pixel.

        Args:
            scale: output pixels per canvas pixel.
            shift: (x, y) in output pixels.
            out: shape (h, w) of the output.

        Returns:
            (image (h, w, 3) uint8, boxes (n, 4) float32 xyxy in pixels of the output, not clipped).
        """
        # images are cut at whole canvas pixels, so the first and last pixel may exceed the output
        margin = math.ceil(scale) + 1
        padded = np.full((out[0] + 2 * margin, out[1] + 2 * margin, 3), GRAY, dtype=np.uint8)
        transforms = np.empty((len(self.images), 4))  # scale x, y, shift x, y
        for number, (image, left, top, _) in enumerate(self.images):
            columns = _Span.visible(left, image.shape[1], self.shape[1], scale, shift[0], out[1])
            rows = _Span.visible(top, image.shape[0], self.shape[0], scale, shift[1], out[0])
            transforms[number] = columns.scale, rows.scale, columns.shift, rows.shift
            if columns.end > columns.start and rows.end > rows.start:
                crop = image[rows.first - top : rows.last - top, columns.first - left : columns.last - left]
                target = padded[rows.start + margin : rows.end + margin, columns.start + margin : columns.end + margin]
                cv2.resize(crop, target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        per_box = np.repeat(transforms, [placed.box_count for placed in self.images], 0)  # (n, 4)
        boxes = self.boxes * per_box[:, [0, 1, 0, 1]] + per_box[:, [2, 3, 2, 3]]
        return padded[margin : margin + out[0], margin : margin + out[1]], boxes.astype(np.float32)


class _Span(NamedTuple):
    """The visible part of an image along one axis: canvas pixels `first` to `last`, drawn at `start` to `end`."""

    first: int
    last: int
    start: int
    end: int
    scale: float
    shift: float

    @classmethod
    def visible(cls, position: int, side: int, canvas: int, scale: float, shift: float, out: int) -> "_Span":
        first = max(position, 0, math.floor(-shift / scale))
        last = min(position + side, canvas, math.ceil((out - shift) / scale))
        if last <= first:
            return cls(0, 0, 0, 0, scale, shift)
        start = math.ceil(first * scale + shift - 0.5)  # a half is rounded down, as in `pad_to`
        end = math.ceil(last * scale + shift - 0.5)
        exact_scale = (end - start) / (last - first)
        return cls(first, last, start, end, exact_scale, start - first * exact_scale)
