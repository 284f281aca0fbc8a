"""Anchors that fit a data set: best possible recall, and new anchors by k-means and mutation when it is too low.

k-means over box sizes is how YOLOv2 chose its anchors (Redmon and Farhadi, 2016, section 2 "Dimension Clusters"); the
mutation that follows maximises what the matching rule of the anchor-based head asks for: both sides of a box within a
ratio `anchor_t` of its anchor's. All sizes are (width, height) in pixels at the training size. NumPy only.
"""

from dataclasses import dataclass

import numpy as np

ENOUGH_RECALL = 0.98
_STRETCH = 4096  # boxes at a time: what they take stays in the processor's cache
_MOST_BOXES = 20_000  # more than these do not change the anchors, only the time


def worst_ratios(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(n, 2) box sizes and (k, 2) anchors -> (n, k), in (0, 1]: the smaller of the two sides' ratios, 1 for equal sizes."""
    ratios = sizes[:, None] / anchors[None]  # (n, k, 2)
    return np.minimum(ratios, 1 / ratios).min(2)


def best_ratios(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """`worst_ratios(...).max(1)`, (n,), to rounding and much faster: ratios of logarithms are differences, and the
    boxes lie along the rows, a stretch at a time. Computed in the type of `sizes`."""
    with np.errstate(divide="ignore"):  # without a side: as far from any other as can be
        logs = np.log(sizes).T.copy()  # (2, n)
        log_anchors = np.log(anchors.astype(logs.dtype)).T[:, :, None]  # (2, k, 1)
    away = np.empty(len(sizes), logs.dtype)
    for start in range(0, len(sizes), _STRETCH):
        some = logs[:, None, start : start + _STRETCH]
        apart = np.abs(some - log_anchors)  # (2, k, up to _STRETCH)
        away[start : start + _STRETCH] = np.maximum(apart[0], apart[1]).min(0)
    return np.exp(-away)


def best_possible_recall(sizes: np.ndarray, anchors: np.ndarray, anchor_t: float = 4.0) -> float:
    """The share of boxes, sizes (n, 2), that at least one of the anchors (..., 2) may match; 1 when there are none."""
    if not len(sizes):
        return 1.0
    return float((best_ratios(sizes, anchors.reshape(-1, 2)) > 1 / anchor_t).mean())


def sizes_at(boxes_wh: np.ndarray, shapes_hw: np.ndarray, size: int) -> np.ndarray:
    """Box sizes (n, 2) in pixels of pictures of shapes (n, 2) (height, width) -> (n, 2) with the longer side at `size`."""
    return boxes_wh * (size / np.maximum(shapes_hw.max(1, keepdims=True), 1))


def kmeans(sizes: np.ndarray, k: int, generator: np.random.Generator, iterations: int = 30) -> np.ndarray:
    """Cluster sizes (n, 2) into k centres (k, 2): Lloyd's algorithm on sizes divided by their deviation, k-means++ start.

    A cluster that runs empty moves to the box farthest from its centre.
    """
    deviation = np.maximum(sizes.std(0), 1e-9)
    points = sizes / deviation
    centres = points[generator.integers(len(points))][None]
    while len(centres) < k:
        distance = ((points[:, None] - centres[None]) ** 2).sum(2).min(1)
        total = distance.sum()
        chances = distance / total if total > 0 else None  # fewer different boxes than centres: any will do
        centres = np.vstack([centres, points[generator.choice(len(points), p=chances)]])
    for _ in range(iterations):
        distance = ((points[:, None] - centres[None]) ** 2).sum(2)  # (n, k)
        nearest = distance.argmin(1)
        moved = centres.copy()
        for index in range(k):
            members = points[nearest == index]
            moved[index] = members.mean(0) if len(members) else points[distance.min(1).argmax()]
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres * deviation


def fit_anchors(
    sizes: np.ndarray, levels: int, per_level: int, anchor_t: float = 4.0, generations: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return anchors (levels, per_level, 2) in pixels for box sizes (n, 2), smallest first.

    Boxes below 2 pixels both ways are left out, unless there are no others. With fewer boxes than anchors, sizes are
    drawn around those there are.
    """
    generator, count = np.random.default_rng(seed), levels * per_level
    large = (sizes >= 2).any(1)
    sizes = np.maximum(sizes[large] if large.any() else sizes, 1e-3).astype(np.float64)
    if len(sizes) > _MOST_BOXES:
        sizes = sizes[generator.choice(len(sizes), _MOST_BOXES, replace=False)]
    if len(sizes) < count:
        repeated = np.resize(sizes, (count, 2))
        sizes = repeated * generator.uniform(0.8, 1.25, repeated.shape)

    anchors = np.maximum(kmeans(sizes, count, generator), 2.0)
    single = sizes.astype(np.float32)  # precise enough to compare thousands of trials
    best = _fitness(single, anchors, anchor_t)
    for _ in range(generations):
        change = np.ones_like(anchors)
        while (change == 1).all():
            hit = generator.random(anchors.shape) < 0.9
            change = 1 + hit * generator.random() * generator.normal(size=anchors.shape) * 0.1
        tried = np.maximum(anchors * change.clip(0.3, 3.0), 2.0)
        fitness = _fitness(single, tried, anchor_t)
        if fitness > best:
            best, anchors = fitness, tried
    return anchors[np.argsort(anchors.prod(1))].reshape(levels, per_level, 2)


def order_by_stride(anchors: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Return anchors (levels, A, 2) with the levels turned so that larger anchors go with larger strides (levels,)."""
    areas = anchors.prod(2).mean(1)
    grows, coarsens = areas[-1] - areas[0], strides[-1] - strides[0]
    return anchors[::-1].copy() if grows * coarsens < 0 else anchors


@dataclass(frozen=True)
class AnchorCheck:
    """`anchors` (levels, A, 2) to use, in pixels; the recall before and with them; whether they are new."""

    anchors: np.ndarray
    recall_before: float
    recall: float
    changed: bool

    def __str__(self) -> str:
        if not self.changed:
            return f"anchors: best possible recall {self.recall:.4f}, kept"
        sizes = ", ".join(f"{w:.0f}x{h:.0f}" for w, h in self.anchors.reshape(-1, 2))
        return f"anchors: best possible recall {self.recall_before:.4f} -> {self.recall:.4f} with {sizes}"


def check_anchors(
    sizes: np.ndarray,
    anchors: np.ndarray,
    strides: np.ndarray,
    anchor_t: float = 4.0,
    placeholders=False,
    seed: int = 0,
) -> AnchorCheck:
    """Keep anchors (levels, A, 2) in pixels when they fit the box sizes (n, 2), else find better ones.

    They fit when the best possible recall is at least 0.98. `placeholders`: they have no values of their own yet, so
    new ones are taken in any case. Without a box to learn from the anchors stay.
    """
    before = 0.0 if placeholders else best_possible_recall(sizes, anchors, anchor_t)
    kept = AnchorCheck(order_by_stride(anchors, strides), before, before, changed=False)
    if not len(sizes) or (before >= ENOUGH_RECALL and not placeholders):
        return kept
    levels, per_level, _ = anchors.shape
    fitted = order_by_stride(fit_anchors(sizes, levels, per_level, anchor_t, seed=seed), strides)
    recall = best_possible_recall(sizes, fitted, anchor_t)
    return AnchorCheck(fitted, before, recall, changed=True) if recall > before or placeholders else kept


def fit_head(head, boxes: list[np.ndarray], frames_hw: np.ndarray, size: int, anchor_t: float) -> AnchorCheck | None:
    """Give a head new anchors when its own do not fit; None for a head without anchors.

    head: a `graftdet.models.heads.base.Head`. boxes: xyxy
    pixels (n, 4) of each picture, of shapes frames_hw (pictures, 2); size: the longer side in training.
    """
    if head.anchors is None:
        return None
    stacked = np.concatenate(boxes)
    sizes = sizes_at(stacked[:, 2:] - stacked[:, :2], np.repeat(frames_hw, [len(rows) for rows in boxes], 0), size)
    strides = np.asarray(head.strides, dtype=np.float64)
    anchors = head.anchors.cpu().numpy().astype(np.float64) * strides[:, None, None]
    check = check_anchors(sizes, anchors, strides, anchor_t, head.placeholder_anchors)
    if check.changed:
        head.set_anchors(check.anchors)
    return check


def _fitness(sizes: np.ndarray, anchors: np.ndarray, anchor_t: float) -> float:
    """The mean closeness of boxes to their best anchor, counting only those that it may match."""
    best = best_ratios(sizes, anchors)
    return float((best * (best > 1 / anchor_t)).mean())
