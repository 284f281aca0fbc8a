"""Detections against ground truth: matches, precision and recall over confidence, confusion matrix. NumPy only."""

from dataclasses import dataclass, field

import numpy as np

from .boxes import box_area, box_iou

TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1
CONFIDENCES = np.linspace(0, 1, 1001)
RECALLS = np.linspace(0, 1, 101)


def match_detections(boxes, labels, truth_boxes, truth_labels, crowd, iou: float = 0.5) -> np.ndarray:
    """Match one picture's detections with its ground truth, class by class, by the rule of COCO's evaluator.

    `boxes` (n, 4) xyxy best first, `labels` (n,); `truth_boxes` (m, 4), `truth_labels` (m,), `crowd` (m,) bool. Each
    detection takes the free true box of its class that it overlaps most, by at least `iou`. What is left and lies in
    a crowd region of its class by at least that share of its own area counts neither way. Returns (n,) int8 of
    TRUE_POSITIVE, FALSE_POSITIVE and IGNORED.
    """
    labels, truth_labels, crowd = np.asarray(labels), np.asarray(truth_labels), np.asarray(crowd, bool)
    matches = np.full(len(boxes), FALSE_POSITIVE, np.int8)
    if not len(boxes) or not len(truth_boxes):
        return matches
    same = labels[:, None] == truth_labels[None]
    overlaps = np.where(same & ~crowd[None], box_iou(boxes, truth_boxes), 0)
    for i in np.flatnonzero(overlaps.max(1) >= iou):
        best = overlaps[i].argmax()
        if overlaps[i, best] >= iou:
            matches[i] = TRUE_POSITIVE
            overlaps[:, best] = 0  # taken
    matches[(matches == FALSE_POSITIVE) & _in_crowd(boxes, truth_boxes, same, crowd, iou)] = IGNORED
    return matches


def _in_crowd(boxes, truth_boxes, same, crowd, share) -> np.ndarray:
    """(n,) bool: `share` or more of the box lies in one crowd region of its class (`same` (n, m) bool)."""
    if not crowd.any():
        return np.zeros(len(boxes), bool)
    regions = np.asarray(truth_boxes)[crowd]
    low = np.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = np.minimum(boxes[:, None, 2:4], regions[None, :, 2:])
    inside = box_area(np.concatenate((low, high), -1))
    return ((inside >= share * box_area(boxes)[:, None]) & same[:, crowd] & (inside > 0)).any(1)


@dataclass
class Curves:
    """Precision, recall and F1 of every class over confidence, and precision over recall; at one IoU.

    `confidence` (C,); `precision`, `recall`, `f1` (nc, C): of the detections with at least that score; `at_recall`
    (nc, R): the highest precision at a recall of `recalls` (R,) or more. `instances` (nc,) are true boxes; classes
    without any have no part in the means. `best` is the index into `confidence` with the highest mean F1.
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

    def mean(self, which: str) -> np.ndarray:
        """The mean of curve `which` ('precision', 'recall', 'f1' or 'at_recall') over classes with true boxes."""
        curves = getattr(self, which)
        present = self.instances > 0
        return curves[present].mean(0) if present.any() else np.zeros(curves.shape[1])


def precision_recall_curves(matches, scores, labels, instances) -> Curves:
    """Curves from all pictures' detections: `matches` (n,) of `match_detections`, `scores` (n,), `labels` (n,).

    `instances` (nc,) counts the true boxes (without crowd regions) of each class. Above the highest score of a class
    its precision is 1, as nothing is wrong there; a class without a detection has precision 0 everywhere.
    """
    matches, scores, labels = np.asarray(matches), np.asarray(scores, np.float64), np.asarray(labels)
    instances = np.asarray(instances)
    nc = len(instances)
    precision, recall = np.zeros((nc, len(CONFIDENCES))), np.zeros((nc, len(CONFIDENCES)))
    at_recall = np.zeros((nc, len(RECALLS)))
    for k in range(nc):
        mine = (labels == k) & (matches != IGNORED)
        if not mine.any() or not instances[k]:
            continue
        order = np.argsort(-scores[mine], kind="stable")
        descending = scores[mine][order]
        hits = np.concatenate(([0], np.cumsum(matches[mine][order] == TRUE_POSITIVE)))  # of the first 0, 1, 2, ...
        count = np.searchsorted(-descending, -CONFIDENCES, side="right")
        precision[k] = np.where(count > 0, hits[count] / np.maximum(count, 1), 1)
        recall[k] = hits[count] / instances[k]
        envelope = np.maximum.accumulate((hits[1:] / np.arange(1, len(hits)))[::-1])[::-1]
        reached = np.searchsorted(hits[1:] / instances[k], RECALLS, side="left")
        at_recall[k] = np.append(envelope, 0)[reached]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-16)
    return Curves(CONFIDENCES, precision, recall, f1, RECALLS, at_recall, instances)


class ConfusionMatrix:
    """Which class is taken for which: `matrix` (nc + 1, nc + 1) counts, row = predicted, column = true.

    The last row holds true boxes that were not found (predicted background), the last column detections where there
    is no object. Detections above `conf` are paired with true boxes of any class, most overlap first, one to one, at
    an IoU above `iou`.
    """

    def __init__(self, nc: int, conf: float = 0.25, iou: float = 0.45):
        self.nc, self.conf, self.iou = nc, conf, iou
        self.matrix = np.zeros((nc + 1, nc + 1), np.int64)

    def update(self, detections: np.ndarray, truth_boxes, truth_labels, crowd) -> None:
        """Add one picture: `detections` (n, 6) x1, y1, x2, y2, score, class; truth as for `match_detections`."""
        crowd = np.asarray(crowd, bool)
        truth_boxes, truth_labels = np.asarray(truth_boxes).reshape(-1, 4), np.asarray(truth_labels, int)
        detections = detections[detections[:, 4] > self.conf]
        boxes, labels = detections[:, :4], detections[:, 5].astype(int)
        real, real_labels = truth_boxes[~crowd], truth_labels[~crowd]

        overlap = box_iou(boxes, real)
        found, true = np.nonzero(overlap > self.iou)
        differs = labels[found] != real_labels[true]  # of equal overlaps the right class goes first
        paired_found, paired_true = np.zeros(len(boxes), bool), np.zeros(len(real), bool)
        for pair in np.lexsort((differs, -overlap[found, true])):
            i, j = found[pair], true[pair]
            if not paired_found[i] and not paired_true[j]:
                paired_found[i] = paired_true[j] = True
                self.matrix[labels[i], real_labels[j]] += 1
        same = labels[:, None] == truth_labels[None]
        spurious = ~paired_found & ~_in_crowd(boxes, truth_boxes, same, crowd, self.iou)
        np.add.at(self.matrix, (labels[spurious], self.nc), 1)
        np.add.at(self.matrix, (self.nc, real_labels[~paired_true]), 1)
