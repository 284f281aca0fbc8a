"""How the output of an exported file is read: columns, orientation, units. NumPy only, no torch."""

from dataclasses import dataclass

import numpy as np

from graftdet.utils.text import counted


@dataclass(frozen=True)
class OutputLayout:
    """How boxes and scores are read from the output of a file.

    A row is the prediction of one box: four numbers of the box, then either the objectness (where there is one) and a
    score per class, or, end to end, the score and the class of a finished detection.

    Attributes:
        columns: numbers per row.
        objectness: whether column 4 is multiplied with the class scores that follow, as in YOLOv5.
        transposed: whether the output is (B, columns, N) instead of (B, N, columns), as in YOLOv8.
        corners: whether a box is x1, y1, x2, y2 instead of cx, cy, w, h.
        normalized: whether boxes are fractions of the input instead of pixels.
        end_to_end: whether rows are detections of one class each, for which there is nothing to suppress.
        box_column: first column of the box.
        score_column: column of the score, end to end.
        label_column: column of the class index, end to end.
        image_column: column of the index of the image in the batch, of an output (N, columns) for all images.
        stride: largest stride of the grid that the rows lie on; None where they lie on none.
        queries: whether rows belong to queries of a transformer, each trained to find another object.
    """

    columns: int
    objectness: bool = True
    transposed: bool = False
    corners: bool = False
    normalized: bool = False
    end_to_end: bool = False
    box_column: int = 0
    score_column: int = 4
    label_column: int = 5
    image_column: int | None = None
    stride: int | None = None
    queries: bool = False

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for end-to-end rows, which do not contain it."""
        return None if self.end_to_end else self.columns - (5 if self.objectness else 4)

    @property
    def needs_nms(self) -> bool:
        """Whether several rows may find the same object."""
        return not (self.end_to_end or self.queries)

    def __str__(self) -> str:
        box = "x1 y1 x2 y2" if self.corners else "cx cy w h"
        units = "fractions of the input" if self.normalized else "pixels"
        if self.end_to_end:
            return f"detections ({box} in {units}, score, class) that need no NMS"
        scores = "objectness and class scores as in YOLOv5" if self.objectness else "class scores as in YOLOv8"
        return f"{counted(self.num_classes, 'class')}, {box} in {units}, {scores}"

    def to_rows(self, output: np.ndarray, batch_size: int) -> np.ndarray:
        """The output of one call as float32 rows (B, N, columns)."""
        output = output.astype(np.float32, copy=False)
        if output.ndim == 2:
            return self._by_image(output, batch_size)
        return output.swapaxes(1, 2) if self.transposed else output

    def decode(self, rows: np.ndarray, size: tuple[int, int], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores of rows, which may be overwritten.

        Args:
            rows: (..., columns).
            size: (height, width) of the input in pixels.
            num_classes: number of classes, for end-to-end rows.

        Returns:
            Boxes (..., 4) xyxy in pixels of the input, scores (..., nc).
        """
        boxes = rows[..., self.box_column : self.box_column + 4]
        if not self.corners:
            center, half = boxes[..., :2], boxes[..., 2:] / 2
            boxes = np.concatenate((center - half, center + half), axis=-1)
        if self.normalized:
            boxes = boxes * np.asarray([size[1], size[0], size[1], size[0]], np.float32)
        if self.end_to_end:
            return boxes, self._one_hot(rows, num_classes)
        if not self.objectness:
            return boxes, rows[..., 4:]
        scores = rows[..., 5:]
        scores *= rows[..., 4:5]  # in place: with many classes this is most of the memory
        return boxes, scores

    def upper_bound(self, rows: np.ndarray) -> np.ndarray:
        """Of rows (N, columns) a number (N,) that no score of the row exceeds."""
        if self.end_to_end:
            return rows[:, self.score_column]
        return rows[:, 4] if self.objectness else rows[:, 4:].max(axis=1, initial=0)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """Class indices (..., ) of end-to-end rows."""
        return np.maximum(np.nan_to_num(rows[..., self.label_column]), 0).round().astype(np.int64)

    def _one_hot(self, rows: np.ndarray, num_classes: int) -> np.ndarray:
        scores = np.zeros((*rows.shape[:-1], num_classes), np.float32)
        labels = self.labels(rows).clip(0, num_classes - 1)
        np.put_along_axis(scores, labels[..., None], rows[..., self.score_column, None], axis=-1)
        return scores

    def _by_image(self, output: np.ndarray, batch_size: int) -> np.ndarray:
        """Rows (N, columns) of all images -> (B, largest number of rows, columns), filled up with zeros."""
        if self.image_column is None:
            return output[None]
        images = output[:, self.image_column].round().astype(np.int64)
        parts = [output[images == index] for index in range(batch_size)]
        return stack_rows([part[None] for part in parts])


def stack_rows(parts: list[np.ndarray]) -> np.ndarray:
    """Join arrays (b, N, columns) along the batch; those of fewer rows are filled up with zeros."""
    most = max(part.shape[1] for part in parts)
    if any(part.shape[1] != most for part in parts):
        parts = [np.pad(part, ((0, 0), (0, most - part.shape[1]), (0, 0))) for part in parts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
