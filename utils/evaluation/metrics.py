"""Precision and recall over confidence, and the confusion matrix. NumPy only."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from graftdet.utils.boxes import box_area
from graftdet.utils.evaluation.coco_matching import IGNORED, RECALL_THRESHOLDS, TRUE_POSITIVE, iterate_pairs

CONFIDENCES = np.linspace(0, 1, 1001)


@dataclass
class Curves:
    """Precision, recall and F1 of every class over confidence, and precision over recall; at one IoU.

    Attributes:
        confidence: Confidence thresholds (C,).
        precision, recall, f1: Values (nc, C) of the detections with at least that confidence.
        recalls: Recall thresholds (R,).
        at_recall: Maximum precision (nc, R) at that recall or above.
        instances: Number (nc,) of ground-truth boxes; classes without any are not part of the means.
        best: Index into `confidence` with the highest mean F1.
    """

    confidence: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    recalls: np.ndarray
    at_recall: np.ndarray
    instances: np.ndarray
    best: int = field(init=False)

    def __post_init__(self):
        self.best = int(self.mean("f1").argmax())

    def at_best(self, which: str) -> np.ndarray:
        """Return the values (nc,) of curve `which` at the confidence `best`; precision is 0 for a class that has no
        detection there, although its curve is 1.
        """
        values = getattr(self, which)[:, self.best]
        return np.where(self.recall[:, self.best] > 0, values, 0)

    def mean(self, which: str) -> np.ndarray:
        """Return the mean of curve `which` ("precision", "recall", "f1" or "at_recall") over classes with targets."""
        curves = getattr(self, which)
        present = self.instances > 0
        return curves[present].mean(0) if present.any() else np.zeros(curves.shape[1])


def precision_recall_curves(matches: ArrayLike, scores: ArrayLike, labels: ArrayLike, instances: ArrayLike) -> Curves:
    """Compute curves from the detections of all images.

    Above the highest score of a class its precision is 1; a class without detections has precision 0 everywhere.

    Args:
        matches: TRUE_POSITIVE, FALSE_POSITIVE or IGNORED (n,), see `graftdet.utils.evaluation.coco_matching`.
        scores: Scores (n,).
        labels: Class indices (n,).
        instances: Number (nc,) of ground-truth boxes of each class, without crowd regions.
    """
    matches, scores, labels = np.asarray(matches), np.asarray(scores, np.float64), np.asarray(labels)
    instances = np.asarray(instances)
    nc = len(instances)
    precision, recall = np.zeros((nc, len(CONFIDENCES))), np.zeros((nc, len(CONFIDENCES)))
    at_recall = np.zeros((nc, len(RECALL_THRESHOLDS)))
    order = np.flatnonzero(matches != IGNORED)
    order = order[np.lexsort((-scores[order], labels[order]))]
    bounds = np.searchsorted(labels[order], np.arange(nc + 1))
    for k in np.flatnonzero((np.diff(bounds) > 0) & (instances > 0)):
        own = order[bounds[k] : bounds[k + 1]]
        hits = np.concatenate(([0], np.cumsum(matches[own] == TRUE_POSITIVE)))  # of the first 0, 1, 2, ...
        count = np.searchsorted(-scores[own], -CONFIDENCES, side="right")
        precision[k] = np.where(count > 0, hits[count] / np.maximum(count, 1), 1)
        recall[k] = hits[count] / instances[k]
        envelope = np.maximum.accumulate((hits[1:] / np.arange(1, len(hits)))[::-1])[::-1]
        reached = np.searchsorted(hits[1:] / instances[k], RECALL_THRESHOLDS, side="left")
        at_recall[k] = np.append(envelope, 0)[reached]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    return Curves(CONFIDENCES, precision, recall, f1, RECALL_THRESHOLDS, at_recall, instances)


class ConfusionMatrix:
    """Counts (nc + 1, nc + 1) of predicted (row) and true (column) classes, in `matrix`.

    The last row holds ground-truth boxes that were not detected, the last column detections without an object.
    Detections above `conf` are matched with ground-truth boxes of any class, highest IoU first, one to one, at an IoU
    above `iou`.
    """

    def __init__(self, nc: int, conf: float = 0.25, iou: float = 0.45):
        self.nc, self.conf, self.iou = nc, conf, iou
        self.matrix = np.zeros((nc + 1, nc + 1), np.int64)

    def update(
        self,
        detections: np.ndarray,
        target_boxes: ArrayLike,
        target_labels: ArrayLike,
        crowd: ArrayLike,
        images: np.ndarray | None = None,
        target_images: np.ndarray | None = None,
    ) -> None:
        """Add images.

        Args:
            detections: (n, 6) x1, y1, x2, y2, score, class index.
            target_boxes: Ground-truth boxes (m, 4) xyxy.
            target_labels: Class indices (m,).
            crowd: Whether they are crowd regions (m,).
            images: Image index of each detection (n,); None: all are of one image.
            target_images: Image index of each ground-truth box (m,).
        """
        target_boxes, target_labels = np.asarray(target_boxes).reshape(-1, 4), np.asarray(target_labels, int)
        crowd = np.asarray(crowd, bool)
        images = np.zeros(len(detections), int) if images is None else images
        target_images = np.zeros(len(crowd), int) if target_images is None else target_images
        confident = detections[:, 4] > self.conf
        boxes, labels, images = detections[confident, :4], detections[confident, 5].astype(int), images[confident]

        order = np.argsort(target_images, kind="stable")
        starts, ends = (np.searchsorted(target_images[order], images, side) for side in ("left", "right"))
        chunks = []
        spurious, missed = np.ones(len(boxes), bool), ~crowd
        for detection, target in iterate_pairs(starts, ends):
            target = order[target]
            same = labels[detection] == target_labels[target]
            iou, inside = _overlaps(boxes[detection], target_boxes[target])
            spurious[detection[crowd[target] & same & (inside >= self.iou)]] = (
                False  # inside a crowd region of its class
            )
            near = (iou > self.iou) & ~crowd[target]
            chunks.append((detection[near], target[near], iou[near], ~same[near]))
        detection, target, iou, differs = (
            map(np.concatenate, zip(*chunks, strict=True)) if chunks else np.zeros((4, 0), int)
        )
        best_first = np.lexsort((differs, -iou))  # of equal IoUs the correct class first
        detection, target = detection[best_first], target[best_first]
        chosen = one_to_one(detection, target)
        spurious[detection[chosen]] = missed[target[chosen]] = False
        np.add.at(self.matrix, (labels[detection[chosen]], target_labels[target[chosen]]), 1)
        np.add.at(self.matrix, (labels[spurious], self.nc), 1)
        np.add.at(self.matrix, (self.nc, target_labels[missed]), 1)


def one_to_one(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Greedy one-to-one matching of pairs (first[i], second[i]), best first, each index used once.

    In a few steps: a pair that is the best remaining one for both its indices is always chosen.

    Returns:
        The indices (k,) of the chosen pairs.
    """
    matched = [np.zeros(0, int)]
    left = np.arange(len(first))
    while len(left):
        best = [np.unique(indices[left], return_index=True)[1] for indices in (first, second)]
        chosen = left[np.intersect1d(*best)]
        matched.append(chosen)
        left = left[~(np.isin(first[left], first[chosen]) | np.isin(second[left], second[chosen]))]
    return np.concatenate(matched)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU of corresponding rows (n, 4) xyxy, and the fraction of the first box inside the second, each (n,)."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    intersection, area = box_area(np.concatenate((low, high), -1)), box_area(boxes)
    union = area + box_area(others) - intersection
    return intersection / (union + (union <= 0)), intersection / (area + (area <= 0))  # empty boxes: 0 / 1
