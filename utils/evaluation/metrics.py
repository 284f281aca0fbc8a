"""Detections against ground truth: matches, precision and recall over confidence, confusion matrix. NumPy only."""

from dataclasses import dataclass, field

import numpy as np
from graftdet.utils.boxes import box_area
from graftdet.utils.evaluation.coco_matching import HIT, IGNORED, RECALLS, pairs

CONFIDENCES = np.linspace(0, 1, 1001)


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
    """Curves from all pictures' detections: `matches` (n,) HIT, MISSED or IGNORED (`graftdet.utils.evaluation.coco_matching`), `scores` (n,),
    `labels` (n,).

    `instances` (nc,) counts the true boxes (without crowd regions) of each class. Above the highest score of a class
    its precision is 1, as nothing is wrong there; a class without a detection has precision 0 everywhere.
    """
    matches, scores, labels = np.asarray(matches), np.asarray(scores, np.float64), np.asarray(labels)
    instances = np.asarray(instances)
    nc = len(instances)
    precision, recall = np.zeros((nc, len(CONFIDENCES))), np.zeros((nc, len(CONFIDENCES)))
    at_recall = np.zeros((nc, len(RECALLS)))
    order = np.flatnonzero(matches != IGNORED)
    order = order[np.lexsort((-scores[order], labels[order]))]
    bounds = np.searchsorted(labels[order], np.arange(nc + 1))
    for k in np.flatnonzero((np.diff(bounds) > 0) & (instances > 0)):
        mine = order[bounds[k] : bounds[k + 1]]
        hits = np.concatenate(([0], np.cumsum(matches[mine] == HIT)))  # of the first 0, 1, 2, ...
        count = np.searchsorted(-scores[mine], -CONFIDENCES, side="right")
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

    def update(
        self, detections: np.ndarray, truth_boxes, truth_labels, crowd, pictures=None, truth_pictures=None
    ) -> None:
        """Add pictures: `detections` (n, 6) x1, y1, x2, y2, score, class; `truth_boxes` (m, 4) xyxy, `truth_labels` (m,)
        and `crowd` (m,) bool. `pictures` (n,) and `truth_pictures` (m,) number their pictures; None: all are of one."""
        truth_boxes, truth_labels = np.asarray(truth_boxes).reshape(-1, 4), np.asarray(truth_labels, int)
        crowd = np.asarray(crowd, bool)
        pictures = np.zeros(len(detections), int) if pictures is None else pictures
        truth_pictures = np.zeros(len(crowd), int) if truth_pictures is None else truth_pictures
        sure = detections[:, 4] > self.conf
        boxes, labels, pictures = detections[sure, :4], detections[sure, 5].astype(int), pictures[sure]

        order = np.argsort(truth_pictures, kind="stable")
        starts, ends = (np.searchsorted(truth_pictures[order], pictures, side) for side in ("left", "right"))
        paired = []
        spurious, missed = np.ones(len(boxes), bool), ~crowd
        for found, true in pairs(starts, ends):
            true = order[true]
            same = labels[found] == truth_labels[true]
            overlap, share = _overlaps(boxes[found], truth_boxes[true])
            spurious[found[crowd[true] & same & (share >= self.iou)]] = (
                False  # no error: somewhere in a crowd of its class
            )
            near = (overlap > self.iou) & ~crowd[true]
            paired.append((found[near], true[near], overlap[near], ~same[near]))
        found, true, overlap, differs = map(np.concatenate, zip(*paired)) if paired else np.zeros((4, 0), int)
        best_first = np.lexsort((differs, -overlap))  # of equal overlaps the right class goes first
        found, true = found[best_first], true[best_first]
        chosen = one_to_one(found, true)
        spurious[found[chosen]] = missed[true[chosen]] = False
        np.add.at(self.matrix, (labels[found[chosen]], truth_labels[true[chosen]]), 1)
        np.add.at(self.matrix, (labels[spurious], self.nc), 1)
        np.add.at(self.matrix, (self.nc, truth_labels[missed]), 1)


def one_to_one(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which of the pairs (first[i], second[i]), best first, are taken when each number may be taken once: indices (k,).

    As one after the other, in a few steps: a pair that is the best one left for both its numbers is taken anyway.
    """
    taken = []
    left = np.arange(len(first))
    while len(left):
        best = [np.unique(numbers[left], return_index=True)[1] for numbers in (first, second)]
        chosen = left[np.intersect1d(*best)]
        taken.append(chosen)
        left = left[~(np.isin(first[left], first[chosen]) | np.isin(second[left], second[chosen]))]
    return np.concatenate([np.zeros(0, int), *taken])


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU of matching rows (n, 4) xyxy, and the part of the first one's area that lies in the second, each (n,)."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    shared, area = box_area(np.concatenate((low, high), -1)), box_area(boxes)
    union = area + box_area(others) - shared
    return shared / (union + (union <= 0)), shared / (area + (area <= 0))  # empty ones: 0 / 1
