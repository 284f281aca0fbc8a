"""Anchors that fit a dataset: best possible recall, and new anchors by k-means and mutation if it is too low.

k-means over box sizes is how YOLOv2 chose its anchors (Redmon and Farhadi, 2016, section 2 "Dimension Clusters"); the
mutation that follows maximizes the matching criterion of the anchor-based head: both sides of a box within a ratio
`anchor_t` of those of its anchor. All sizes are (width, height) in pixels at the training size. NumPy only.
"""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

MIN_RECALL = 0.98
MIN_RECALL_OF_TRANSFERRED = 0.9  # other anchors make the outputs of trained weights useless
_CHUNK = 4096  # boxes at once: their arrays stay in the processor's cache
_MAX_BOXES = 20_000  # more of them take time and do not change the anchors


def best_ratios(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return how well box sizes (n, 2) fit the best of anchors (k, 2): (n,) in 0..1, in the type of `sizes`.

    A box fits an anchor as well as the smaller of their two side ratios. Ratios are computed as differences of
    logarithms, with boxes along the last axis, one chunk at a time.
    """
    with np.errstate(divide="ignore"):  # a side of 0 is infinitely far from every anchor
        logs = np.log(sizes).T.copy()  # (2, n)
        log_anchors = np.log(anchors.astype(logs.dtype)).T[:, :, None]  # (2, k, 1)
    distance = np.empty(len(sizes), logs.dtype)
    for start in range(0, len(sizes), _CHUNK):
        chunk = logs[:, None, start : start + _CHUNK]
        differences = np.abs(chunk - log_anchors)  # (2, k, up to _CHUNK)
        distance[start : start + _CHUNK] = np.maximum(differences[0], differences[1]).min(0)
    return np.exp(-distance)


def best_possible_recall(sizes: np.ndarray, anchors: np.ndarray, anchor_t: float = 4.0) -> float:
    """Return the fraction of boxes, sizes (n, 2), that match at least one of the anchors (..., 2); 1 without boxes."""
    if not len(sizes):
        return 1.0
    return float((best_ratios(sizes, anchors.reshape(-1, 2)) > 1 / anchor_t).mean())


def sizes_at(boxes_wh: np.ndarray, sizes_hw: np.ndarray, size: int) -> np.ndarray:
    """Scale box sizes (n, 2) to images whose longer side is `size`.

    Args:
        boxes_wh: Width and height (n, 2) in pixels.
        sizes_hw: Height and width (n, 2) of the image of each box.
        size: Longer side in training.
    """
    return boxes_wh * (size / np.maximum(sizes_hw.max(1, keepdims=True), 1))


def kmeans(sizes: np.ndarray, k: int, generator: np.random.Generator, iterations: int = 30) -> np.ndarray:
    """Cluster sizes (n, 2): Lloyd's algorithm on sizes divided by their standard deviation, k-means++ initialization.

    An empty cluster moves to the box farthest from its center.

    Returns:
        Cluster centers (k, 2).
    """
    deviation = np.maximum(sizes.std(0), 1e-9)
    points = sizes / deviation
    centers = points[generator.integers(len(points))][None]
    while len(centers) < k:
        distance = ((points[:, None] - centers[None]) ** 2).sum(2).min(1)
        total = distance.sum()
        probabilities = distance / total if total > 0 else None  # fewer distinct boxes than centers: any of them
        centers = np.vstack([centers, points[generator.choice(len(points), p=probabilities)]])
    for _ in range(iterations):
        distance = ((points[:, None] - centers[None]) ** 2).sum(2)  # (n, k)
        nearest = distance.argmin(1)
        moved = centers.copy()
        for index in range(k):
            members = points[nearest == index]
            moved[index] = members.mean(0) if len(members) else points[distance.min(1).argmax()]
        if np.allclose(moved, centers):
            break
        centers = moved
    return centers * deviation


def compute_anchors(
    sizes: np.ndarray, levels: int, per_level: int, anchor_t: float = 4.0, generations: int = 1000, seed: int = 0
) -> np.ndarray:
    """Compute anchors for box sizes (n, 2) by k-means and mutation.

    Boxes below 2 pixels in both directions are ignored, unless there are no others. With fewer boxes than anchors,
    sizes are sampled around the existing ones.

    Returns:
        Anchors (levels, per_level, 2) in pixels, smallest first.
    """
    generator, count = np.random.default_rng(seed), levels * per_level
    large = (sizes >= 2).any(1)
    sizes = np.maximum(sizes[large] if large.any() else sizes, 1e-3).astype(np.float64)
    if len(sizes) > _MAX_BOXES:
        sizes = sizes[generator.choice(len(sizes), _MAX_BOXES, replace=False)]
    if len(sizes) < count:
        repeated = np.resize(sizes, (count, 2))
        sizes = repeated * generator.uniform(0.8, 1.25, repeated.shape)

    anchors = np.maximum(kmeans(sizes, count, generator), 2.0)
    sizes_float32 = sizes.astype(np.float32)  # precise enough to compare thousands of mutations
    best = _fitness(sizes_float32, anchors, anchor_t)
    for _ in range(generations):
        change = np.ones_like(anchors)
        while (change == 1).all():
            mutated = generator.random(anchors.shape) < 0.9
            change = 1 + mutated * generator.random() * generator.normal(size=anchors.shape) * 0.1
        candidate = np.maximum(anchors * change.clip(0.3, 3.0), 2.0)
        fitness = _fitness(sizes_float32, candidate, anchor_t)
        if fitness > best:
            best, anchors = fitness, candidate
    return anchors[np.argsort(anchors.prod(1))].reshape(levels, per_level, 2)


def order_by_stride(anchors: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Return anchors (levels, A, 2), levels reversed if needed so that larger strides (levels,) have larger ones."""
    areas = anchors.prod(2).mean(1)
    area_change, stride_change = areas[-1] - areas[0], strides[-1] - strides[0]
    return anchors[::-1].copy() if area_change * stride_change < 0 else anchors


@dataclass(frozen=True)
class AnchorFit:
    """Anchors for a dataset.

    Attributes:
        anchors: Anchors (levels, A, 2) to use, in pixels.
        recall_before: Best possible recall of the previous anchors.
        recall: Best possible recall of `anchors`.
        changed: Whether `anchors` are new.
    """

    anchors: np.ndarray
    recall_before: float
    recall: float
    changed: bool

    def __str__(self) -> str:
        if not self.changed:
            return f"anchors: best possible recall {self.recall:.4f}, unchanged"
        sizes = ", ".join(f"{w:.0f}x{h:.0f}" for w, h in self.anchors.reshape(-1, 2))
        return f"anchors: best possible recall {self.recall_before:.4f} -> {self.recall:.4f} with {sizes}"


def fit_anchors(
    sizes: np.ndarray,
    anchors: np.ndarray,
    strides: np.ndarray,
    anchor_t: float = 4.0,
    placeholders: bool = False,
    seed: int = 0,
    min_recall: float = MIN_RECALL,
) -> AnchorFit:
    """Compute new anchors if the best possible recall of the given ones is below `min_recall`.

    Args:
        sizes: Box sizes (n, 2); without boxes the anchors do not change.
        anchors: Anchors (levels, A, 2) in pixels.
        strides: Strides (levels,).
        anchor_t: Maximum ratio between the sides of a box and of its anchor.
        placeholders: The anchors have no values of their own yet and are replaced in any case.
        seed: Seed of k-means and mutation.
        min_recall: Recall from which the given anchors are good enough.
    """
    before = 0.0 if placeholders else best_possible_recall(sizes, anchors, anchor_t)
    unchanged = AnchorFit(order_by_stride(anchors, strides), before, before, changed=False)
    if not len(sizes) or (before >= min_recall and not placeholders):
        return unchanged
    levels, per_level, _ = anchors.shape
    computed = order_by_stride(compute_anchors(sizes, levels, per_level, anchor_t, seed=seed), strides)
    recall = best_possible_recall(sizes, computed, anchor_t)
    return AnchorFit(computed, before, recall, changed=True) if recall > before or placeholders else unchanged


def fit_head_anchors(
    head: Any,
    boxes: list[np.ndarray],
    sizes_hw: np.ndarray,
    size: int,
    anchor_t: float,
    transferred: bool = False,
) -> AnchorFit | None:
    """Give a head new anchors if its own do not fit the dataset, and report their recall.

    Args:
        head: A `graftdet.models.heads.base.Head`; its anchors are in units of the strides.
        boxes: Boxes (n, 4) xyxy in pixels of each image.
        sizes_hw: Height and width (images, 2) of each image.
        size: Longer side of the images in training.
        anchor_t: Maximum ratio between the sides of a box and of its anchor.
        transferred: Whether the head's own anchors came with its weights; they may miss more boxes then.

    Returns:
        The anchors and their recall; None for a head without anchors.
    """
    if head.anchors is None:
        return None
    stacked = np.concatenate(boxes)
    sizes = sizes_at(stacked[:, 2:] - stacked[:, :2], np.repeat(sizes_hw, [len(rows) for rows in boxes], 0), size)
    strides = np.asarray(head.strides, dtype=np.float64)
    anchors = head.anchors.cpu().numpy().astype(np.float64) * strides[:, None, None]
    min_recall = MIN_RECALL_OF_TRANSFERRED if transferred else MIN_RECALL
    fit = fit_anchors(sizes, anchors, strides, anchor_t, head.placeholder_anchors, min_recall=min_recall)
    logger.info(fit)
    if fit.changed:
        head.set_anchors(fit.anchors)
    return fit


def _fitness(sizes: np.ndarray, anchors: np.ndarray, anchor_t: float) -> float:
    """The mean ratio of boxes to their best anchor, counting only boxes that match it."""
    best = best_ratios(sizes, anchors)
    return float((best * (best > 1 / anchor_t)).mean())
