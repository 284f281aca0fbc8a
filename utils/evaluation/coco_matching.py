"""Matching of detections with ground-truth boxes, and precision and recall, by COCO's rules, on arrays.

The numbers are those of pycocotools (Lin et al., Microsoft COCO, 2014), which loops over images and classes. Here the
best detections of all images and classes are matched in one step, then the second ones, and so on, and only pairs of
boxes that overlap enough are considered.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graftdet.utils.boxes import MEDIUM_AREA, SMALL_AREA

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)
AREA_RANGES = np.array([(0, 1e10), (0, SMALL_AREA), (SMALL_AREA, MEDIUM_AREA), (MEDIUM_AREA, 1e10)])  # all, S, M, L
MAX_DETECTIONS = (1, 10, 100)  # per image and class, best first

TRUE_POSITIVE, FALSE_POSITIVE, IGNORED = 1, 0, -1
PAIRS_PER_CHUNK = 1 << 18  # bounds the memory


@dataclass
class Boxes:
    """Boxes of many images.

    Attributes:
        image, category: Indices (n,) int64.
        xywh: Boxes (n, 4) float64 in pixels.
        area: Areas (n,) float64 in square pixels.
        score: Scores (n,) float64 of detections.
        crowd: Whether ground-truth boxes (n,) are crowd regions.
    """

    image: np.ndarray
    category: np.ndarray
    xywh: np.ndarray
    area: np.ndarray
    score: np.ndarray | None = None
    crowd: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> "Boxes":
        """Return the boxes of `rows`, indices or a mask."""
        return Boxes(**{name: None if values is None else values[rows] for name, values in vars(self).items()})

    def outside(self) -> np.ndarray:
        """Return whether the area is outside each of `AREA_RANGES`, (n, 4) bool."""
        return (self.area[:, None] < AREA_RANGES[:, 0]) | (self.area[:, None] > AREA_RANGES[:, 1])


@dataclass
class Matches:
    """Result of `match`.

    Attributes:
        detections: The detections sorted by image, category and rank.
        order: Indices (n,) of the sorted detections in those that were given.
        rank: Ranks (n,) from 0 in their image and category.
        rows: Indices (r,), ascending, of sorted detections that overlap a ground-truth box of their image and category.
        table: TRUE_POSITIVE, FALSE_POSITIVE or IGNORED (r, 10, 4) int8 of each of `rows` at each of `IOU_THRESHOLDS`
            and `AREA_RANGES`. All other detections are false positives.
    """

    detections: Boxes
    order: np.ndarray
    rank: np.ndarray
    rows: np.ndarray
    table: np.ndarray

    def at_iou_50(self) -> np.ndarray:
        """Return the results (n,) int8 at IoU 0.5, any area, in the order given; IGNORED beyond the best 100."""
        result = np.zeros(len(self.order), np.int8)
        result[self.order[self.rows]] = self.table[:, 0, 0]
        result[self.order[self.rank >= MAX_DETECTIONS[-1]]] = IGNORED
        return result


def match(targets: Boxes, detections: Boxes, num_categories: int) -> Matches:
    """Match detections with the ground-truth boxes of their image and category.

    Best first, each detection is assigned to the unassigned box that it overlaps most, if the IoU reaches
    the threshold. Boxes to be ignored (crowd regions, areas outside the range) are assigned only if there is no other;
    crowd regions may be assigned several times. Of equal scores the detection given first comes first; of equal
    overlaps the last box is assigned.
    """
    target_groups, groups = (boxes.image * num_categories + boxes.category for boxes in (targets, detections))
    order = np.argsort(target_groups, kind="stable")
    targets, target_groups = targets.take(order), target_groups[order]
    order = np.lexsort((-detections.score, groups))
    detections, groups = detections.take(order), groups[order]
    first = np.flatnonzero(np.diff(groups, prepend=-1))  # of each image and category
    sizes = np.diff(first, append=len(detections))
    rank = np.arange(len(detections)) - np.repeat(first, sizes)
    starts, ends = (np.repeat(np.searchsorted(target_groups, groups[first], side), sizes) for side in ("left", "right"))
    rows, table = _assign(targets, *_overlapping_pairs(targets, detections, starts, ends), rank)
    return Matches(detections, order, rank, rows, table)


def iterate_pairs(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the pairs (i, starts[i]), ..., (i, ends[i] - 1) of all i as two arrays (p,), `PAIRS_PER_CHUNK` at once."""
    sizes = ends - starts
    totals = np.cumsum(sizes)
    low = 0
    while low < len(sizes):
        before = totals[low] - sizes[low]
        high = max(int(np.searchsorted(totals, before + PAIRS_PER_CHUNK, "right")), low + 1)
        row = np.repeat(np.arange(low, high), sizes[low:high])
        yield row, np.arange(len(row)) + (starts - totals + sizes + before)[row]
        low = high


def _overlapping_pairs(
    targets: Boxes, detections: Boxes, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs with an IoU of at least 0.5: indices of detections and of targets, and the IoU, each (p,). For crowds it
    is the fraction of the detection inside.
    """
    chunks = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for row, target in iterate_pairs(starts, ends):
        x, y, w, h = detections.xywh[row].T
        target_x, target_y, target_w, target_h = targets.xywh[target].T
        width = (np.minimum(x + w, target_x + target_w) - np.maximum(x, target_x)).clip(0)
        height = (np.minimum(y + h, target_y + target_h) - np.maximum(y, target_y)).clip(0)
        intersection = width * height
        union = np.where(targets.crowd[target], w * h, w * h + target_w * target_h - intersection)
        iou = np.divide(intersection, union, out=np.zeros(len(row)), where=intersection > 0)
        near = iou >= IOU_THRESHOLDS[0]
        chunks.append((row[near], target[near], iou[near]))
    rows, matched, ious = (np.concatenate(columns) for columns in zip(*chunks, strict=True))
    return rows, matched, ious


def _assign(
    targets: Boxes, row: np.ndarray, target: np.ndarray, iou: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`Matches.rows` and `Matches.table` of overlapping pairs: one step for all detections of a rank."""
    order = np.lexsort((target, iou, row, rank[row]))
    row, target, iou = row[order], target[order], iou[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))  # pair of each detection
    rows, bounds = row[first], np.append(first, len(row))
    ignored = targets.outside() | targets.crowd[:, None]  # (m, 4)
    assigned = np.zeros((len(targets), len(IOU_THRESHOLDS), len(AREA_RANGES)), bool)
    table = np.full((len(rows), len(IOU_THRESHOLDS), len(AREA_RANGES)), FALSE_POSITIVE, np.int8)
    steps = np.flatnonzero(np.diff(rank[rows], prepend=-1, append=-1))
    for start, end in itertools.pairwise(steps):
        low, high = bounds[start], bounds[end]
        candidates, count = target[low:high], high - low
        free = (iou[low:high, None] >= IOU_THRESHOLDS)[:, :, None] & ~(
            assigned[candidates] & ~targets.crowd[candidates, None, None]
        )
        # (p, 10, 4): boxes that are not ignored come first, then later ones, which overlap more
        priority = np.arange(1, count + 1, dtype=np.int32)[:, None]
        priority = priority + np.where(ignored[candidates], 0, count).astype(np.int32)
        priority = np.where(free, priority[:, None], 0)
        best = np.maximum.reduceat(priority, first[start:end] - low)  # (detections of this rank, 10, 4)
        which, t, a = np.nonzero(best)
        chosen = best[which, t, a]
        assigned[candidates[(chosen - 1) % count], t, a] = True
        table[start + which, t, a] = np.where(chosen > count, TRUE_POSITIVE, IGNORED)
    order = np.argsort(rows)
    return rows[order], table[order]


def precision_and_recall(targets: Boxes, matches: Matches, num_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute precision and recall of the best 100 detections per image and category.

    Returns:
        Precision (10 IoU thresholds, 101 recall thresholds, categories, 4 area ranges) and recall (10 IoU thresholds,
        categories, 3 `MAX_DETECTIONS`) for boxes of any area; -1 where a category has no ground truth in the range.
    """
    ignored = targets.outside() | targets.crowd[:, None]
    positives = np.stack([np.bincount(targets.category[~column], minlength=num_categories) for column in ignored.T], 1)
    detections = matches.detections
    best = np.flatnonzero(matches.rank < MAX_DETECTIONS[-1])
    order = best[np.lexsort((-detections.score[best], detections.category[best]))]  # equal scores: first image first
    position = np.full(len(detections), -1)
    position[order] = np.arange(len(order))
    counted = np.flatnonzero(position[matches.rows] >= 0)
    counted = counted[np.argsort(position[matches.rows[counted]])]
    rows, table = matches.rows[counted], matches.table[counted]
    category = detections.category[rows]

    recall = np.full((len(IOU_THRESHOLDS), num_categories, len(MAX_DETECTIONS)), -1.0)
    present = np.flatnonzero(positives[:, 0])
    for column, limit in enumerate(MAX_DETECTIONS):
        is_hit = (table[:, :, 0] == TRUE_POSITIVE) & (matches.rank[rows, None] < limit)
        for t, hits in enumerate(is_hit.T):
            counts = np.bincount(category[hits], minlength=num_categories)
            recall[t, present, column] = counts[present] / positives[present, 0]

    precision = np.full((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS), num_categories, len(AREA_RANGES)), -1.0)
    bounds = np.searchsorted(category, np.arange(num_categories + 1))  # of each category in `rows`
    begins = np.searchsorted(detections.category[order], np.arange(num_categories))  # and in `order`
    outside = detections.outside()
    for a in range(len(AREA_RANGES)):
        in_range = np.concatenate(([0], np.cumsum(~outside[order, a])))  # detections that count if they match nothing
        counts = in_range[position[rows] + 1]
        for k in np.flatnonzero(positives[:, a]):
            own = slice(bounds[k], bounds[k + 1])
            before = counts[own] - in_range[begins[k]]
            precision[:, :, k, a] = _precision(table[own, :, a], outside[rows[own], a], before, positives[k, a])
    return precision, recall


def _precision(matches: np.ndarray, outside: np.ndarray, counts: np.ndarray, positives: int) -> np.ndarray:
    """Precision (10, 101) of a category and area at each of `RECALL_THRESHOLDS`: the maximum at that recall or above.

    Args:
        matches: Results (r, 10) of the detections that overlap a target, best first.
        outside: Whether their areas (r,) are out of range.
        counts: Number (r,) of detections in range up to each of them, including those that overlap nothing.
        positives: Number of targets.
    """
    result = np.zeros((len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)))
    for t, column in enumerate(matches.T):
        # a true positive counts whatever its own area; a detection assigned to an ignored box does not count
        correction = ((column == TRUE_POSITIVE) & outside).astype(np.int64) - ((column == IGNORED) & ~outside)
        hits = np.flatnonzero(column == TRUE_POSITIVE)  # precision peaks and recall rises at these only
        number = np.arange(1.0, len(hits) + 1)
        precision = number / ((counts + np.cumsum(correction))[hits] + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(number / positives, RECALL_THRESHOLDS, side="left")
        result[t, reached < len(hits)] = envelope[reached[reached < len(hits)]]
    return result
