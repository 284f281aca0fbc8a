"""Kinds of errors of a detector and the AP that each costs.

Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020, sections 2.2 and 2.3, at IoU
thresholds of 0.5 (foreground) and 0.1 (background).
"""

from dataclasses import dataclass

import numpy as np

from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.evaluation.coco_matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE
from graftdet.utils.evaluation.evaluator import Evaluation
from graftdet.utils.evaluation.metrics import precision_recall_curves

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU
KINDS = {
    "classification": "IoU with an object of another class at least 0.5",
    "localization": "IoU with an object of its class from 0.1 to 0.5",
    "both": "IoU with an object of another class from 0.1 to 0.5",
    "duplicate": "its object is detected with a higher score",
    "background": "IoU with every object below 0.1",
    "missed": "object without detection, not counted as classification or localization",
}


@dataclass(frozen=True)
class ErrorKind:
    """How often an error occurs and what it costs.

    Attributes:
        name: One of `KINDS`, "false positives" or "missed objects" (all of either).
        count: Number of detections, or of missed objects.
        ap_gain: AP50 with these errors corrected, minus AP50; 0 to 1.
    """

    name: str
    count: int
    ap_gain: float


@dataclass
class _Data:
    """Detections and ground truth of all images.

    `kind` (n,) is an index into `KINDS`, -1 for true positives and ignored detections; `target` (n,) the ground-truth
    box that a classification or localization error could have found, -1 for none.
    """

    scores: np.ndarray
    labels: np.ndarray
    hits: np.ndarray
    target_labels: np.ndarray
    found: np.ndarray
    kind: np.ndarray
    target: np.ndarray
    nc: int

    def ap(self, hits: np.ndarray, labels: np.ndarray, removed: np.ndarray | None = None) -> float:
        """AP50 with other results and classes (n,) of the detections, without the ground-truth boxes `removed` (m,)."""
        remaining = self.target_labels if removed is None else self.target_labels[~removed]
        counts = np.bincount(remaining, minlength=self.nc)
        return float(precision_recall_curves(hits, self.scores, labels, counts).mean("at_recall").mean())


def analyze_errors(evaluation: Evaluation) -> list[ErrorKind]:
    """Assign each false positive and each missed object to one kind of error.

    A detection that is a false positive at IoU 0.5 is corrected to a true positive (classification, localization), the
    best of several on one object, or removed; missed objects are removed.

    Args:
        evaluation: Result of `evaluate`.

    Returns:
        The errors of each of `KINDS`, then all false positives and all missed objects.
    """
    data = _classify(evaluation)
    base = data.ap(data.hits, data.labels)
    result = []
    false_positive = data.hits == FALSE_POSITIVE
    covered = np.zeros(len(data.target_labels), bool)
    covered[data.target[data.target >= 0]] = True
    missed = ~data.found & ~covered
    for index, name in enumerate(KINDS):
        if name == "missed":
            result.append(ErrorKind(name, int(missed.sum()), data.ap(data.hits, data.labels, missed) - base))
            continue
        chosen = data.kind == index
        hits, labels = _corrected(data, chosen)
        result.append(ErrorKind(name, int(chosen.sum()), data.ap(hits, labels) - base))
    without = np.where(false_positive, IGNORED, data.hits)
    result.append(ErrorKind("false positives", int(false_positive.sum()), data.ap(without, data.labels) - base))
    removed = data.ap(data.hits, data.labels, ~data.found) - base
    return [*result, ErrorKind("missed objects", int((~data.found).sum()), removed)]


def _corrected(data: _Data, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Results and classes (n,) with the detections `chosen` corrected."""
    hits, labels = data.hits.copy(), data.labels.copy()
    hits[chosen] = IGNORED
    rows = np.flatnonzero(chosen & (data.target >= 0))
    rows = rows[~data.found[data.target[rows]]]
    rows = rows[np.argsort(-data.scores[rows], kind="stable")]
    _, best = np.unique(data.target[rows], return_index=True)  # of several on one object the one with the best score
    rows = rows[best]
    hits[rows], labels[rows] = TRUE_POSITIVE, data.target_labels[data.target[rows]]
    return hits, labels


def _classify(evaluation: Evaluation) -> _Data:
    """Find the kind of each false positive, image by image."""
    truth, results, hits = evaluation.truth, evaluation.results, evaluation.hits
    xywh, scores, labels = results.columns()
    class_of = {given: k for k, given in enumerate(results.category_ids)}
    classes = np.array([class_of.get(given, -1) for given in truth.categories], int)
    boxes = truth.boxes.take(np.flatnonzero((classes[truth.boxes.category] >= 0) & ~truth.boxes.crowd))
    target_labels = classes[boxes.category]
    detected, targets = xywh_to_xyxy(xywh), xywh_to_xyxy(boxes.xywh)
    found = np.zeros(len(targets), bool)
    kind, target = np.full(len(scores), -1), np.full(len(scores), -1)
    images = truth.image_indices(results)
    order, target_order = np.argsort(images, kind="stable"), np.argsort(boxes.image, kind="stable")
    for image in np.unique(images):
        low, high = np.searchsorted(images[order], (image, image + 1))
        own = order[low:high]
        own = own[np.argsort(-scores[own], kind="stable")]
        low, high = np.searchsorted(boxes.image[target_order], (image, image + 1))
        mine = target_order[low:high]
        iou = _iou(detected[own], targets[mine])
        same = labels[own][:, None] == target_labels[mine]
        found[mine] = _assigned(iou, same, hits[own])
        rows = hits[own] == FALSE_POSITIVE
        kind[own[rows]], found_target = _kinds(iou[rows], same[rows])
        target[own[rows]] = np.where(found_target >= 0, mine[found_target] if len(mine) else -1, -1)
    return _Data(scores, labels, hits, target_labels, found, kind, target, len(results.category_ids))


def _assigned(iou: np.ndarray, same: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Whether each object (m,) of an image is detected: the true positives, best first, take the nearest free one."""
    taken = np.zeros(iou.shape[1], bool)
    for row in np.flatnonzero(hits == TRUE_POSITIVE):
        near = np.where(same[row] & ~taken, iou[row], 0)
        taken[len(near) - 1 - int(near[::-1].argmax())] = True
    return taken


def _kinds(iou: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kind (n,) of false positives by their IoU (n, m) with the objects of the image, and the object to find."""
    if not iou.shape[1]:
        return np.full(len(iou), list(KINDS).index("background")), np.full(len(iou), -1)
    own, other = np.where(same, iou, 0), np.where(same, 0, iou)
    best_own, best_other = own.max(1), other.max(1)
    localization = (best_own >= BACKGROUND) & (best_own < FOREGROUND)
    classification = ~localization & (best_other >= FOREGROUND)
    rules = [
        classification,
        localization,
        best_own >= FOREGROUND,
        iou.max(1) < BACKGROUND,
    ]
    names = ["classification", "localization", "duplicate", "background"]
    kinds = np.select(rules, [list(KINDS).index(name) for name in names], list(KINDS).index("both"))
    target = np.where(localization, own.argmax(1), np.where(classification, other.argmax(1), -1))
    return kinds, target


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) and (m, 4), xyxy."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = (high - low).clip(0).prod(2)
    areas = [(one[:, 2:] - one[:, :2]).clip(0).prod(1) for one in (boxes, others)]
    union = areas[0][:, None] + areas[1] - intersection
    return intersection / np.where(union > 0, union, 1)
