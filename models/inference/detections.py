"""TODO"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from graftdet.utils.visualization.drawing import draw_boxes


@dataclass
class Detections:
    """What was found in one picture, best first.

    `boxes` (n, 4) float32 xyxy in pixels of the picture, `scores` (n,) float32, `labels` (n,) int64 class indices,
    `names` the model's class names, `image` the picture (H, W, 3) BGR, `path` where it came from (None: an array).
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    image: np.ndarray = field(repr=False)
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def class_names(self) -> list[str]:
        """The name of each detection's class."""
        return [self.names[label] for label in self.labels]

    def draw(self, in_place: bool = False) -> np.ndarray:
        """A copy of the picture, or with `in_place` the picture itself, with the boxes, names and scores drawn, (H, W, 3)
        BGR."""
        return draw_boxes(self.image, self.boxes, self.labels, self.scores, self.names, in_place)

    def to_dicts(self) -> list[dict]:
        """One dict a detection: name, label, score and box xyxy in pixels, as plain numbers."""
        return [
            {"name": self.names[label], "label": int(label), "score": float(score), "box": [float(v) for v in box]}
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
