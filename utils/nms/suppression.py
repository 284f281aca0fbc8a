"""Detections from decoded boxes and scores: confidence, classes, non-maximum suppression. Runs without torch."""

from collections.abc import Sequence

import numpy as np

from graftdet.utils.nms.candidates import ArrayOrTensor, best_candidates
from graftdet.utils.nms.overlaps import Covered, Overlaps
from graftdet.utils.registry import Registry

MAX_CANDIDATES = 30_000  # boxes (or pairs of box and class) that enter suppression, best first
BLOCK, MAX_BLOCK = 128, 4096  # rows processed together: few at first, because most of these are selected

METHODS = Registry("nms method")
"""How overlapping candidates become detections.

An entry is called as `method(rows, groups, iou, max_det)` with `rows` (n, 6) float32: x1, y1, x2, y2, score, class,
best first, and `groups` (n,) int: only rows of the same group suppress each other. It returns at most `max_det` rows
(m, 6) float32, best first.
"""


def select_detections(
    boxes: ArrayOrTensor,
    scores: ArrayOrTensor,
    conf: float = 0.25,
    iou: float = 0.45,
    max_det: int = 300,
    multi_label: bool = False,
    agnostic: bool = False,
    classes: Sequence[int] | None = None,
    inside: tuple[float, float, float, float] | None = None,
    method: str = "standard",
) -> np.ndarray:
    """Select the detections of one image. Boxes with coordinates that are not finite are skipped.

    Args:
        boxes: (N, 4) xyxy in any unit, a NumPy array, or a tensor on any device and of any float type (filtered there;
            the rest runs in NumPy).
        scores: (N, nc), of the same kind.
        conf: Candidates have scores above it; the best `MAX_CANDIDATES` are used.
        iou: A candidate that overlaps a better one by an IoU above it is suppressed, if both are of the same class.
        max_det: Maximum number of detections.
        multi_label: Each class of a box with a score above `conf` is a candidate (for validation), not only its best.
        agnostic: Boxes of different classes suppress each other.
        classes: Class indices to select; None: all.
        inside: Rectangle xyxy that boxes must overlap.
        method: Name in `METHODS`.

    Returns:
        (n, 6) float32: x1, y1, x2, y2, score, class, best first; of equal scores the lower box index comes first, then
        the lower class.
    """
    suppress = METHODS[method]
    if len(boxes.shape) != 2 or boxes.shape[1] != 4 or len(scores.shape) != 2 or len(scores) != len(boxes):
        raise ValueError(f"expected boxes (N, 4) and scores (N, nc), got {tuple(boxes.shape)}, {tuple(scores.shape)}")
    if not scores.shape[0] or not scores.shape[1]:
        return np.zeros((0, 6), np.float32)
    rows = best_candidates(boxes, scores, conf, multi_label, classes, inside, MAX_CANDIDATES)
    groups = np.zeros(len(rows), np.int32) if agnostic else rows[:, 5].astype(np.int32)
    return suppress(rows, groups, iou, max_det)


def default_method(model: object) -> str:
    """Return the name in `METHODS` for the boxes of `model`: "none" if it has `needs_nms = False`, else "standard".

    Test-time augmentation and ensembles return several boxes per object, whatever the model.
    """
    return "standard" if getattr(model, "needs_nms", True) else "none"


@METHODS.register("standard")
def standard(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """Greedy suppression: a row is selected unless it overlaps a better selected row of its group by more than `iou`.

    Rows are processed in blocks, first against all selected rows, then within the block, until `max_det` rows are
    selected. Blocks grow as fewer of their rows are selected.
    """
    overlaps = Overlaps(rows[:, :4], groups, iou)
    covered, selected = Covered(overlaps), np.zeros(0, int)
    start, size = 0, BLOCK
    while start < len(rows) and len(selected) < max_det:
        block = np.arange(start, min(start + size, len(rows)))
        start, size = start + size, min(2 * size, MAX_BLOCK)
        block = block[~covered(block)]
        if len(block) > 2 * BLOCK:  # few were suppressed: select among the first rows before the next ones
            start, size = block[2 * BLOCK], BLOCK
            block = block[: 2 * BLOCK]
        overlapping = overlaps.matrix(block, block)
        remaining = np.ones(len(block), bool)
        chosen = []
        for i in range(len(block)):
            if remaining[i]:
                chosen.append(i)
                remaining &= ~overlapping[i]
        selected = np.concatenate((selected, block[chosen]))
        covered.add(block[chosen])
    return rows[selected[:max_det]]


@METHODS.register("none")
def unsuppressed(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """No suppression: the best `max_det` rows, for models that return one box per object."""
    return rows[:max_det]


@METHODS.register("blend")
def blend(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """Average overlapping rows instead of dropping them (Bazarevsky et al., BlazeFace, 2019, section 3.4).

    The best remaining row and all rows of its group that overlap it by more than `iou` are replaced by one: the box is
    the mean of theirs weighted by score, score and class are those of the best. Only the boxes differ from `standard`.
    """
    overlaps = Overlaps(rows[:, :4], groups, iou)
    blended: list[np.ndarray] = []
    left = np.arange(len(rows))
    while len(left) and len(blended) < max_det:
        together = overlaps.matrix(left[:1], left)[0]
        together[0] = True  # a box without area overlaps nothing, not even itself
        cluster = rows[left[together]]
        best = cluster[0].copy()
        weights = cluster[:, 4:5].astype(np.float64)
        if weights.sum() > 0:
            best[:4] = (cluster[:, :4] * weights).sum(0) / weights.sum()
        blended.append(best)
        left = left[~together]
    return np.stack(blended) if blended else rows[:0]
