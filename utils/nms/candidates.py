"""Which boxes enter suppression: those whose scores are high enough, best first. NumPy and torch, runs without torch."""

import numpy as np
from graftdet.utils.boxes import is_tensor


def best_candidates(boxes, scores, conf: float, multi_label: bool, classes, inside, most: int) -> np.ndarray:
    """Candidate rows (n, 6) float32 of one picture: x1, y1, x2, y2, score, class, best first, at most `most`.

    The arguments are those of `graftdet.utils.nms.suppression.select_detections`. Of equal scores the lower box index comes first, then the
    lower class. Tensors are filtered on their device.
    """
    find = _find_torch if is_tensor(scores) else _find_numpy
    boxes, score, label = find(boxes, scores, conf, multi_label, classes, most)
    good = np.isfinite(boxes)
    good = None if good.all() else good.all(1)
    if inside is not None:
        left, top, right, bottom = inside
        reaches = (boxes[:, 2] > left) & (boxes[:, 3] > top) & (boxes[:, 0] < right) & (boxes[:, 1] < bottom)
        good = reaches if good is None else good & reaches
    if good is not None and not good.all():
        boxes, score, label = boxes[good], score[good], label[good]
    order = best_first(score)[:most]
    rows = np.empty((len(order), 6), np.float32)
    rows[:, :4], rows[:, 4], rows[:, 5] = boxes[order], score[order], label[order]
    return rows


def best_first(scores: np.ndarray) -> np.ndarray:
    """The order (n,) of `scores` (n,) float32 from high to low, the first of equals first; no NaN.

    The same as a stable argsort of the negative scores, several times as fast: score and place are sorted as one
    integer. The bits of positive floats count up as the floats do, those of negative ones down.
    """
    bits = (np.asarray(scores, np.float32) + 0.0).view(np.uint32)  # + 0.0 makes -0.0 equal to 0.0
    falling = np.where(bits >> 31, bits, ~bits & 0x7FFFFFFF)
    keys = falling.astype(np.uint64) << np.uint64(32) | np.arange(len(bits), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)


def _find_numpy(boxes, scores, conf, multi_label, classes, most):
    """Boxes (n, 4), scores (n,) and classes (n,) above `conf` in the order of boxes, then of classes."""
    scores = np.asarray(scores, np.float32)
    wanted = scores > conf
    if multi_label:
        if classes is not None:
            wanted &= np.isin(np.arange(scores.shape[1]), classes)[None]
        if np.count_nonzero(wanted) > most:
            wanted = scores >= _least_of_best(scores[wanted], most)
            if classes is not None:
                wanted &= np.isin(np.arange(scores.shape[1]), classes)[None]
        box, label = _divided(np.flatnonzero(wanted), scores.shape[1])
        score = scores[box, label]
        return np.asarray(boxes)[box], score, label
    every_box, every_label = _divided(np.flatnonzero(wanted), scores.shape[1])
    first = np.flatnonzero(np.diff(every_box, prepend=-1))
    box, label = every_box[first], every_label[first]
    several = np.diff(first, append=len(every_box)) > 1  # most boxes have one class or none
    if several.any():
        label[several] = (scores if several.all() and len(box) == len(scores) else scores[box[several]]).argmax(1)
    score = scores[box, label]
    wanted = score > conf  # a NaN beside it is not
    if classes is not None:
        wanted &= np.isin(label, classes)
    if np.count_nonzero(wanted) > most:
        wanted &= score >= _least_of_best(score[wanted], most)
    if not wanted.all():
        box, label, score = box[wanted], label[wanted], score[wanted]
    return np.asarray(boxes)[box], score, label


def _divided(numbers: np.ndarray, by: int) -> tuple[np.ndarray, np.ndarray]:
    """What np.divmod gives, which takes four times as long."""
    quotient = numbers // by
    return quotient, numbers - quotient * by


def _least_of_best(scores: np.ndarray, most: int):
    """The least of the `most` highest scores; ties with it are for the caller to cut."""
    return np.partition(scores, -most)[-most]


def _find_torch(boxes, scores, conf, multi_label, classes, most):
    """As `_find_numpy`, on the tensors' device; what is left comes back as numpy."""
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
    if len(score) > most:
        top = score >= score.topk(most, sorted=False).values.min()
        box, label, score = box[top], label[top], score[top]
    rows = torch.column_stack((boxes[box].float(), score, label.float())).cpu().numpy()
    return rows[:, :4], rows[:, 4], rows[:, 5]
