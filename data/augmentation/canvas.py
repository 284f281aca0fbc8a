"""Pictures beside each other on grey, drawn at another scale without drawing them at their own first. NumPy, OpenCV."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from graftdet.utils.images.letterbox import GRAY


class Piece(NamedTuple):
    """A picture on a canvas; what lies outside of the canvas is not seen."""

    image: np.ndarray  # (h, w, 3) BGR uint8
    left: int
    top: int
    boxes: int  # how many of the canvas's boxes, in order, are this picture's


@dataclass(slots=True)
class Canvas:
    """Pictures that do not overlap, on grey of `shape` (h, w), and their boxes (n, 4) xyxy in pixels of the canvas."""

    shape: tuple[int, int]
    pieces: list[Piece]
    boxes: np.ndarray
    labels: np.ndarray  # (n,)

    @classmethod
    def of(cls, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> "Canvas":
        """A canvas that one picture covers."""
        return cls(image.shape[:2], [Piece(image, 0, 0, len(boxes))], boxes, labels)

    def draw(self) -> np.ndarray:
        """The whole canvas (h, w, 3)."""
        if self.pieces and self.pieces[0].image.shape[:2] == self.shape:
            return self.pieces[0].image
        canvas = np.full((*self.shape, 3), GRAY, dtype=np.uint8)
        for image, left, top, _ in self.pieces:
            x1, y1 = max(left, 0), max(top, 0)
            x2, y2 = min(left + image.shape[1], self.shape[1]), min(top + image.shape[0], self.shape[0])
            if x2 > x1 and y2 > y1:
                canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
        return canvas

    def draw_scaled(
        self, scale: float, shift: tuple[float, float], out: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw what is seen through x' = x * scale + shift on `out` (h, w): (picture (h, w, 3), boxes (n, 4) float32).

        Edges of pictures fall on whole pixels of the output, nearest to their place, and the rest of a picture and its
        boxes along with them: each is resized straight into the output, which is several times cheaper than drawing
        the canvas and warping it. Against that nothing moves by more than half a pixel. Boxes are not clipped.
        """
        margin = (
            math.ceil(scale) + 1
        )  # a piece is cut at its own whole pixels, the first and last of which reach outside
        sheet = np.full((out[0] + 2 * margin, out[1] + 2 * margin, 3), GRAY, dtype=np.uint8)
        moves = np.empty((len(self.pieces), 4))
        for number, (image, left, top, _) in enumerate(self.pieces):
            columns = _Span.seen(left, image.shape[1], self.shape[1], scale, shift[0], out[1])
            rows = _Span.seen(top, image.shape[0], self.shape[0], scale, shift[1], out[0])
            moves[number] = columns.scale, rows.scale, columns.shift, rows.shift
            if columns.end > columns.start and rows.end > rows.start:
                cut = image[rows.first - top : rows.last - top, columns.first - left : columns.last - left]
                target = sheet[rows.start + margin : rows.end + margin, columns.start + margin : columns.end + margin]
                cv2.resize(cut, target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
        per_box = np.repeat(moves, [piece.boxes for piece in self.pieces], 0)  # (n, 4)
        boxes = self.boxes * per_box[:, [0, 1, 0, 1]] + per_box[:, [2, 3, 2, 3]]
        return sheet[margin : margin + out[0], margin : margin + out[1]], boxes.astype(np.float32)


class _Span(NamedTuple):
    """What is seen of a picture along one axis: `first` to `last` of the canvas, drawn from `start` to `end`."""

    first: int
    last: int
    start: int
    end: int
    scale: float
    shift: float

    @classmethod
    def seen(cls, place: int, side: int, canvas: int, scale: float, shift: float, out: int) -> "_Span":
        first = max(place, 0, math.floor(-shift / scale))
        last = min(place + side, canvas, math.ceil((out - shift) / scale))
        if last <= first:
            return cls(0, 0, 0, 0, scale, shift)
        start, end = (
            math.ceil(first * scale + shift - 0.5),
            math.ceil(last * scale + shift - 0.5),
        )  # a half down, as `pad_to`
        exact = (end - start) / (last - first)
        return cls(first, last, start, end, exact, start - first * exact)
