"""From decoded boxes and scores to detections: confidence, classes, non-maximum suppression. Runs without torch."""

import numpy as np
from graftdet.utils.nms.candidates import best_candidates
from graftdet.utils.nms.overlaps import Covered, Overlaps
from graftdet.utils.registry import Registry

MAX_CANDIDATES = 30_000  # boxes (or pairs of box and class) that enter suppression, best first
BLOCK, LARGEST_BLOCK = 128, 4096  # rows looked at together: few at first, of which most are kept, then more

METHODS = Registry("nms method")
"""How overlapping candidates become detections.

An entry is called as `method(rows, groups, iou, max_det)` with `rows` (n, 6) float32: x1, y1, x2, y2, score, class,
best first, and `groups` (n,) int: only rows of one group compete with each other. It returns at most `max_det` rows
(m, 6) float32, best first.
"""


def select_detections(
    boxes,
    scores,
    conf: float = 0.25,
    iou: float = 0.45,
    max_det: int = 300,
    multi_label: bool = False,
    agnostic: bool = False,
    classes=None,
    inside: tuple[float, float, float, float] | None = None,
    method: str = "standard",
) -> np.ndarray:
    """Turn one picture's decoded output into detections.

    `boxes` (N, 4) xyxy in any unit and `scores` (N, nc), both numpy or both torch on any device and of any float type
    (candidates are filtered there; the rest runs in numpy). Returns (n, 6) float32: x1, y1, x2, y2, score, class, best
    first, n <= `max_det`; of equal scores the lower box index comes first, then the lower class.

    A candidate needs a score above `conf`. With `multi_label` every class of a box above `conf` is a candidate (for
    measuring), else its best class alone. A candidate that overlaps a better one by an IoU above `iou` is dropped, when
    both are of one class or `agnostic` is set. Only the class indices `classes` are kept, and only boxes that reach into
    `inside`, a rectangle xyxy. At most `MAX_CANDIDATES` are looked at; boxes with a coordinate that is no finite number
    are passed over. `method` is a word of `METHODS`.
    """
    suppress = METHODS[method]
    if len(boxes.shape) != 2 or boxes.shape[1] != 4 or len(scores.shape) != 2 or len(scores) != len(boxes):
        raise ValueError(f"expected boxes (N, 4) and scores (N, nc), got {tuple(boxes.shape)}, {tuple(scores.shape)}")
    if not scores.shape[0] or not scores.shape[1]:
        return np.zeros((0, 6), np.float32)
    rows = best_candidates(boxes, scores, conf, multi_label, classes, inside, MAX_CANDIDATES)
    groups = np.zeros(len(rows), np.int32) if agnostic else rows[:, 5].astype(np.int32)
    return suppress(rows, groups, iou, max_det)


def default_method(model) -> str:
    """The word of `METHODS` for what gives the boxes: "none" where it says `needs_nms = False`, else "standard": several
    looks at a picture (`graftdet.models.inference.tta`) and several models (`graftdet.models.inference.ensemble`) give an object several boxes."""
    return "standard" if getattr(model, "needs_nms", True) else "none"


@METHODS.register("standard")
def standard(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """Greedy suppression: a row is kept unless a kept, better row of its group overlaps it by more than `iou`.

    Goes through blocks of rows: first against all rows kept so far, then within the block; ends at `max_det` rows. The
    blocks grow as fewer of their rows are kept.
    """
    overlaps = Overlaps(rows[:, :4], groups, iou)
    covered, kept = Covered(overlaps), np.zeros(0, int)
    start, size = 0, BLOCK
    while start < len(rows) and len(kept) < max_det:
        block = np.arange(start, min(start + size, len(rows)))
        start, size = start + size, min(2 * size, LARGEST_BLOCK)
        block = block[~covered(block)]
        if len(block) > 2 * BLOCK:  # few fell: those kept of the first are to be known before the next are looked at
            start, size = block[2 * BLOCK], BLOCK
            block = block[: 2 * BLOCK]
        rivals = overlaps.matrix(block, block)
        alive = np.ones(len(block), bool)
        chosen = []
        for i in range(len(block)):
            if alive[i]:
                chosen.append(i)
                alive &= ~rivals[i]
        kept = np.concatenate((kept, block[chosen]))
        covered.add(block[chosen])
    return rows[kept[:max_det]]


@METHODS.register("none")
def unsuppressed(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """The best `max_det` rows as they are, for models that give each object one box."""
    return rows[:max_det]


@METHODS.register("blend")
def blend(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """Average overlapping rows instead of dropping them (Bazarevsky et al., BlazeFace, 2019, section 3.4).

    The best row left and all rows of its group that overlap it by more than `iou` become one: its box is the mean of
    theirs weighted by score, its score and class those of the best. So the rows are those of `standard` with other boxes.
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
