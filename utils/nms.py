"""From decoded boxes and scores to detections: confidence, classes, non-maximum suppression. Runs without torch."""

import numpy as np

from .boxes import is_tensor
from .registry import Registry

MAX_CANDIDATES = 30_000  # boxes (or pairs of box and class) that enter suppression, best first
BLOCK = 256

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
    method: str = "standard",
) -> np.ndarray:
    """Turn one picture's decoded output into detections.

    `boxes` (N, 4) xyxy in any unit and `scores` (N, nc), both numpy or both torch on any device and of any float type
    (candidates are filtered there; the rest runs in numpy). Returns (n, 6) float32: x1, y1, x2, y2, score, class, best
    first, n <= `max_det`; of equal scores the lower box index comes first, then the lower class.

    A candidate needs a score above `conf`. With `multi_label` every class of a box above `conf` is a candidate (for
    measuring), else its best class alone. A candidate that overlaps a better one by an IoU above `iou` is dropped, when
    both are of one class or `agnostic` is set. `classes` keeps these class indices only. At most `MAX_CANDIDATES` are
    looked at; boxes with a coordinate that is no finite number are passed over. `method` is a word of `METHODS`.
    """
    suppress = METHODS[method]
    if len(boxes.shape) != 2 or boxes.shape[1] != 4 or len(scores.shape) != 2 or len(scores) != len(boxes):
        raise ValueError(f"expected boxes (N, 4) and scores (N, nc), got {tuple(boxes.shape)}, {tuple(scores.shape)}")
    if not scores.shape[0] or not scores.shape[1]:
        return np.zeros((0, 6), np.float32)
    find = _candidates_torch if is_tensor(scores) else _candidates_numpy
    rows = find(boxes, scores, conf, multi_label, classes)
    rows = rows[np.isfinite(rows[:, :4]).all(1)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][:MAX_CANDIDATES]
    groups = np.zeros(len(rows), int) if agnostic else rows[:, 5].astype(int)
    return suppress(rows, groups, iou, max_det)


def default_method(model) -> str:
    """The word of `METHODS` for what gives the boxes: "none" where it says `needs_nms = False`, else "standard": several
    looks at a picture (`utils.tta`) and several models (`utils.ensemble`) give an object several boxes."""
    return "standard" if getattr(model, "needs_nms", True) else "none"


@METHODS.register("standard")
def standard(rows: np.ndarray, groups: np.ndarray, iou: float, max_det: int) -> np.ndarray:
    """Greedy suppression: a row is kept unless a kept, better row of its group overlaps it by more than `iou`.

    Goes through blocks of rows: first against all rows kept so far, then within the block; ends at `max_det` rows.
    """
    kept = np.zeros(0, int)
    for start in range(0, len(rows), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(rows)))
        if len(kept):
            block = block[~_overlaps(rows, groups, block, kept, iou).any(1)]
        overlaps = _overlaps(rows, groups, block, block, iou)
        alive = np.ones(len(block), bool)
        chosen = []
        for i in range(len(block)):
            if alive[i]:
                chosen.append(i)
                alive &= ~overlaps[i]
        kept = np.concatenate((kept, block[chosen]))
        if len(kept) >= max_det:
            break
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
    blended = []
    left = np.arange(len(rows))
    while len(left) and len(blended) < max_det:
        together = _overlaps(rows, groups, left[:1], left, iou)[0]
        together[0] = True  # a box without area overlaps nothing, not even itself
        cluster = rows[left[together]]
        best = cluster[0].copy()
        weights = cluster[:, 4:5].astype(np.float64)
        if weights.sum() > 0:
            best[:4] = (cluster[:, :4] * weights).sum(0) / weights.sum()
        blended.append(best)
        left = left[~together]
    return np.stack(blended) if blended else rows[:0]


def _overlaps(rows, groups, first, second, iou) -> np.ndarray:
    """(len(first), len(second)) bool: same group and IoU above `iou`; `first` and `second` are row indices."""
    same = groups[first][:, None] == groups[second][None]
    a, b = np.nonzero(same)  # pairs of one group only: with many classes these are few
    overlaps = np.zeros(same.shape, bool)
    x1, y1, x2, y2 = rows[first, :4].T
    u1, v1, u2, v2 = rows[second, :4].T
    if len(a) * 4 > same.size:
        x1, y1, x2, y2 = (v[:, None] for v in (x1, y1, x2, y2))
        overlaps = _above(x1, y1, x2, y2, u1, v1, u2, v2, iou) & same
    else:
        overlaps[a, b] = _above(x1[a], y1[a], x2[a], y2[a], u1[b], v1[b], u2[b], v2[b], iou)
    return overlaps


def _above(x1, y1, x2, y2, u1, v1, u2, v2, iou):
    """IoU of boxes (x1, y1, x2, y2) and (u1, v1, u2, v2), which broadcast, above `iou`; without a division."""
    width = (np.minimum(x2, u2) - np.maximum(x1, u1)).clip(0)
    height = (np.minimum(y2, v2) - np.maximum(y1, v1)).clip(0)
    intersection = width * height
    return intersection > iou * ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection)


def _candidates_numpy(boxes, scores, conf, multi_label, classes) -> np.ndarray:
    """Rows (n, 6) above `conf` in the order of boxes, then of classes; see `select_detections`."""
    scores = np.asarray(scores, np.float32)
    if multi_label:
        wanted = scores > conf
        if classes is not None:
            wanted &= np.isin(np.arange(scores.shape[1]), classes)[None]
        box, label = np.nonzero(wanted)
    else:
        best = scores.argmax(1)
        box = np.flatnonzero(scores[np.arange(len(scores)), best] > conf)
        label = best[box]
        if classes is not None:
            wanted = np.isin(label, classes)
            box, label = box[wanted], label[wanted]
    score = scores[box, label]
    if len(score) > MAX_CANDIDATES:  # keep the best, ties at the limit included: the caller sorts and cuts
        top = score >= np.partition(score, -MAX_CANDIDATES)[-MAX_CANDIDATES]
        box, label, score = box[top], label[top], score[top]
    return np.column_stack((boxes[box], score, label)).astype(np.float32)


def _candidates_torch(boxes, scores, conf, multi_label, classes) -> np.ndarray:
    """As `_candidates_numpy`, on the tensors' device; what is left comes back as numpy."""
    import torch

    boxes, scores = boxes.detach(), scores.detach().float()
    if classes is not None:
        classes = torch.as_tensor(np.asarray(classes), device=scores.device)
    if multi_label:
        wanted = scores > conf
        if classes is not None:
            wanted &= torch.isin(torch.arange(scores.shape[1], device=scores.device), classes)
        box, label = wanted.nonzero(as_tuple=True)
        score = scores[box, label]
    else:
        score, label = scores.max(1)
        wanted = score > conf
        if classes is not None:
            wanted &= torch.isin(label, classes)
        (box,) = wanted.nonzero(as_tuple=True)
        score, label = score[box], label[box]
    if len(score) > MAX_CANDIDATES:
        top = score >= score.topk(MAX_CANDIDATES, sorted=False).values.min()
        box, label, score = box[top], label[top], score[top]
    return torch.column_stack((boxes[box].float(), score, label.float())).cpu().numpy()
