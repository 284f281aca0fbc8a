"""Detections of two predictors matched one to one. NumPy only, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.utils.boxes import box_area

MIN_IOU = 0.95
MAX_SCORE_DIFFERENCE = 0.01


@dataclass(frozen=True)
class Matches:
    """How many detections of a reference another predictor gives.

    Attributes:
        boxes: the larger number of detections of both.
        matched: pairs of the same class, an IoU of at least `MIN_IOU` and scores within `MAX_SCORE_DIFFERENCE`.
        box_difference: largest difference of a coordinate within a pair, in pixels.
        score_difference: largest difference of the scores within a pair.
    """

    boxes: int
    matched: int
    box_difference: float
    score_difference: float

    @property
    def fraction(self) -> float:
        """Matched of all; 1 where neither predictor detects anything."""
        return self.matched / self.boxes if self.boxes else 1.0


def match_detections(reference: Sequence[Detections], other: Sequence[Detections]) -> Matches:
    """Match detections one to one, best scores first.

    Args:
        reference: one `Detections` per image.
        other: those of the same images.
    """
    pairs, total = [], 0
    for expected, found in zip(reference, other, strict=True):
        total += max(len(expected), len(found))
        free = np.ones(len(found), bool)
        overlaps = pairwise_iou(expected.boxes, found.boxes)
        for index in np.argsort(-expected.scores, kind="stable"):
            fits = free & (found.labels == expected.labels[index]) & (overlaps[index] >= MIN_IOU)
            fits &= np.abs(found.scores - expected.scores[index]) <= MAX_SCORE_DIFFERENCE
            if fits.any():
                best = int(np.where(fits, overlaps[index], -1).argmax())
                free[best] = False
                box = float(np.abs(expected.boxes[index] - found.boxes[best]).max())
                pairs.append((box, float(abs(expected.scores[index] - found.scores[best]))))
    worst = np.asarray(pairs).max(axis=0) if pairs else np.zeros(2)
    return Matches(total, len(pairs), float(worst[0]), float(worst[1]))


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of boxes (n, 4) and (m, 4) xyxy -> (n, m). A box without area overlaps nothing."""
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    overlap = (bottom_right - top_left).clip(0).prod(axis=2)
    return overlap / np.maximum(box_area(boxes)[:, None] + box_area(others)[None] - overlap, 1e-9)
