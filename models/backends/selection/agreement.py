"""Whether another precision gives the boxes of float32. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graftdet.models.backends.receipt.matching import pairwise_iou
from graftdet.models.inference.detections import Detections
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.text import counted

MIN_MEAN_IOU = 0.99  # of the boxes with their best matches
MAX_MEAN_SCORE_DIFFERENCE = 0.02
CONF, LOWEST_CONF = 0.25, 0.001
MIN_BOXES, BEST_PER_IMAGE = 5, 10


@dataclass(frozen=True)
class Agreement:
    """How well the detections of two predictors agree.

    Attributes:
        boxes: number of boxes compared, of both predictors.
        iou: mean IoU of a box with the most similar box of its class from the other predictor.
        score_difference: mean difference of the scores of both.
    """

    boxes: int
    iou: float
    score_difference: float

    @property
    def holds(self) -> bool:
        """Whether one may stand for the other. Without any box nothing is known, and it may not."""
        return self.boxes > 0 and self.iou >= MIN_MEAN_IOU and self.score_difference <= MAX_MEAN_SCORE_DIFFERENCE

    def __str__(self) -> str:
        if not self.boxes:
            return "no boxes to compare"
        return f"mean IoU {self.iou:.4f}, score difference {self.score_difference:.4f}, {counted(self.boxes, 'box')}"


def agreement(
    reference: Predictor, other: Predictor, images: Sequence[Any], size: int | tuple[int, int] | None = None
) -> Agreement:
    """Compare the detections of two predictors of the same model on the same images.

    Args:
        reference: computes in float32.
        other: the one to be judged.
        images: as `Predictor.predict` takes them.
        size: of the input, see `Predictor.predict`.
    """
    found = [
        list(model.predict(list(images), conf=LOWEST_CONF, imgsz=size, batch_size=1)) for model in (reference, other)
    ]
    return compare_detections(*found)


def compare_detections(reference: Sequence[Detections], other: Sequence[Detections]) -> Agreement:
    """Compare the detections of two predictors, one `Detections` per image, selected with `LOWEST_CONF`.

    Compared are boxes with scores above `CONF`; if there are fewer than `MIN_BOXES`, the best of each image. Boxes of
    either side count, so that a box that the other predictor misses lowers the mean IoU.
    """
    confident = sum(int((one.scores > CONF).sum()) for one in reference)
    ious, differences = [np.zeros(0)], [np.zeros(0)]
    for pair in zip(reference, other, strict=True):
        for boxes, pool in (pair, pair[::-1]):
            is_compared = boxes.scores > CONF if confident >= MIN_BOXES else np.arange(len(boxes)) < BEST_PER_IMAGE
            best, difference = _best_matches(boxes, pool, is_compared)
            ious.append(best)
            differences.append(difference)
    iou, difference = np.concatenate(ious), np.concatenate(differences)
    if not len(iou):
        return Agreement(0, 0.0, 1.0)
    return Agreement(len(iou), float(iou.mean()), float(difference.mean()))


def _best_matches(boxes: Detections, pool: Detections, is_compared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each compared box the largest IoU with a box of its class in `pool`, and the difference of both scores."""
    scores = boxes.scores[is_compared]
    if not len(pool) or not len(scores):
        return np.zeros(len(scores)), scores
    overlaps = pairwise_iou(boxes.boxes[is_compared], pool.boxes)
    overlaps = np.where(boxes.labels[is_compared][:, None] == pool.labels[None], overlaps, 0)
    best = overlaps.argmax(axis=1)
    iou = overlaps[np.arange(len(best)), best]
    return iou, np.where(iou > 0, np.abs(scores - pool.scores[best]), scores)
