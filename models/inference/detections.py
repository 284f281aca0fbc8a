"""The detections of one image."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.errors import UserError
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
        track_ids: (n,) int64 ids of objects of a sequence, from 1, -1 for boxes without a track; None without tracking.

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
    track_ids: np.ndarray | None = None

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
            track_ids=self.track_ids,
        )

    def to_dicts(self) -> list[dict]:
        """The detections as plain data, one dict each.

        Returns:
            Dicts with `name`, `label`, `score`, `box` ([x1, y1, x2, y2] in pixels) and, with tracking, `track` (the id,
            None for boxes without a track).
        """
        dicts: list[dict] = [
            {"name": self.names[label], "label": int(label), "score": float(score), "box": [float(v) for v in box]}
            for box, score, label in zip(self.boxes, self.scores, self.labels, strict=True)
        ]
        if self.track_ids is not None:
            for one, track in zip(dicts, self.track_ids.tolist(), strict=True):
                one["track"] = track if track > 0 else None
        return dicts

    def to_supervision(self) -> Any:
        """The detections as `supervision.Detections`, with `class_name` in their data, for its annotators and zones.

        Raises:
            UserError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise UserError("to_supervision: needs supervision; install it with 'pip install supervision'") from None
        return supervision.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            tracker_id=self.track_ids,
            data={"class_name": np.array(self.class_names)},
        )
