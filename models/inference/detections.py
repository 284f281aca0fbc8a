"""The detections of one image."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graftdet.utils.visualization.drawing import draw_boxes


@dataclass
class Detections:
    """The objects detected in one image, highest score first.

    Attributes:
        boxes: (n, 4) float32, xyxy (x1, y1, x2, y2) in pixels of the image, clipped to it.
        scores: (n,) float32, 0..1.
        labels: (n,) int64 class indices.
        names: the class names of the model; `names[label]` is the name of a class index.
        image: (H, W, 3) uint8 BGR, the image as it was read.
        path: the file of the image, None where an array was given.
        frame: index of the image within a video or stream, None otherwise.

    Example:
        >>> detections = model.predict("street.jpg")[0]
        >>> for box, score, name in zip(detections.boxes, detections.scores, detections.class_names):
        ...     print(name, score, box)
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    image: np.ndarray = field(repr=False)
    path: Path | None = None
    frame: int | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def class_names(self) -> list[str]:
        """The class name of each detection."""
        return [self.names[label] for label in self.labels]

    def draw(
        self,
        in_place: bool = False,
        *,
        thickness: int | None = None,
        hide_labels: bool = False,
        hide_scores: bool = False,
    ) -> np.ndarray:
        """Draw boxes, class names and scores.

        Args:
            in_place: draw into `image` itself instead of a copy.
            thickness: line width in pixels (default: depends on the size of the image).
            hide_labels: draw boxes only.
            hide_scores: draw class names without scores.

        Returns:
            (H, W, 3) uint8 BGR.
        """
        scores = None if hide_scores else self.scores
        return draw_boxes(
            self.image,
            self.boxes,
            self.labels,
            scores,
            self.names,
            in_place,
            thickness=thickness,
            hide_labels=hide_labels,
        )

    def to_dicts(self) -> list[dict]:
        """The detections as plain data, one dict each: `name`, `label`, `score`, `box` ([x1, y1, x2, y2] in pixels)."""
        return [
            {"name": self.names[label], "label": int(label), "score": float(score), "box": [float(v) for v in box]}
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
