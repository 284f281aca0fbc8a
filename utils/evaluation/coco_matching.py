"""Which detection finds which true box, and how precise that makes a detector: COCO's rules on arrays, all pictures at once.

The numbers are those of pycocotools (Lin et al., Microsoft COCO, 2014), which goes through every picture and class in
turn. Here the best detections of all pictures and classes are matched in one step, then the second ones, and so on, and
only pairs of boxes that overlap enough are looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from graftdet.utils.boxes import MEDIUM_AREA, SMALL_AREA

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = np.array(
    [(0, 1e10), (0, SMALL_AREA), (SMALL_AREA, MEDIUM_AREA), (MEDIUM_AREA, 1e10)]
)  # all, small, medium, large
LIMITS = (1, 10, 100)  # detections a picture and class that count, best first

HIT, MISSED, IGNORED = 1, 0, -1
PAIRS = 1 << 18  # so many at once bound the memory


@dataclass
class Boxes:
    """Boxes of many pictures: `image`, `category` (n,) int64 numbers from 0; `xywh` (n, 4), `area` (n,) float64 pixels;
    `score` (n,) float64 of detections, `crowd` (n,) bool of true boxes."""

    image: np.ndarray
    category: np.ndarray
    xywh: np.ndarray
    area: np.ndarray
    score: np.ndarray | None = None
    crowd: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> "Boxes":
        """The boxes of `rows`, indices or a mask."""
        return Boxes(**{name: None if values is None else values[rows] for name, values in vars(self).items()})

    def outside(self) -> np.ndarray:
        """(n, 4) bool: the area is not in that range of `AREAS`."""
        return (self.area[:, None] < AREAS[:, 0]) | (self.area[:, None] > AREAS[:, 1])


@dataclass
class Matches:
    """`found` sorted by picture, category and rank: `order` (n,) from there into what was given, `rank` (n,) from 0 in
    its picture and category. `rows` (r,), ascending, are those that overlap a true box of theirs; `table` (r, 10, 4) int8
    has HIT, MISSED or IGNORED of each of them at each of `IOUS` and `AREAS`. All others are missed."""

    found: Boxes
    order: np.ndarray
    rank: np.ndarray
    rows: np.ndarray
    table: np.ndarray

    def at_half(self) -> np.ndarray:
        """(n,) int8 at IoU 0.5, boxes of any size, in the order that was given; IGNORED beyond the best 100."""
        result = np.zeros(len(self.order), np.int8)
        result[self.order[self.rows]] = self.table[:, 0, 0]
        result[self.order[self.rank >= LIMITS[-1]]] = IGNORED
        return result


def match(truth: Boxes, found: Boxes, num_categories: int) -> Matches:
    """Match detections with the true boxes of their picture and category.

    Best first, a detection takes the true box that it overlaps most of those that are left, at the IoU in question or
    above; one that is to be ignored, a crowd or one outside of the range of areas, only where there is no other. Crowds
    may be taken again and again. Of equal scores the detection given first comes first; of equal overlaps the last box is
    taken.
    """
    of_truth, of_found = (boxes.image * num_categories + boxes.category for boxes in (truth, found))
    order = np.argsort(of_truth, kind="stable")
    truth, of_truth = truth.take(order), of_truth[order]
    order = np.lexsort((-found.score, of_found))
    found, of_found = found.take(order), of_found[order]
    first = np.flatnonzero(np.diff(of_found, prepend=-1))  # of each picture and category
    sizes = np.diff(first, append=len(found))
    rank = np.arange(len(found)) - np.repeat(first, sizes)
    starts, ends = (np.repeat(np.searchsorted(of_truth, of_found[first], side), sizes) for side in ("left", "right"))
    rows, table = _match(truth, *_overlapping(truth, found, starts, ends), rank)
    return Matches(found, order, rank, rows, table)


def pairs(starts: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each i all pairs (i, starts[i]), ..., (i, ends[i] - 1), as two arrays (p,), in turn and about `PAIRS` at a time."""
    sizes = ends - starts
    through = np.cumsum(sizes)
    low = 0
    while low < len(sizes):
        before = through[low] - sizes[low]
        high = max(int(np.searchsorted(through, before + PAIRS, "right")), low + 1)
        row = np.repeat(np.arange(low, high), sizes[low:high])
        yield row, np.arange(len(row)) + (starts - through + sizes + before)[row]
        low = high


def _overlapping(truth: Boxes, found: Boxes, starts: np.ndarray, ends: np.ndarray):
    """Pairs that overlap by the least of `IOUS` or more: rows in `found` and in `truth` and the overlap, each (p,). With
    a crowd it is the share of the detection that lies in it."""
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for row, true in pairs(starts, ends):
        x, y, w, h = found.xywh[row].T
        u, v, p, q = truth.xywh[true].T
        width = (np.minimum(x + w, u + p) - np.maximum(x, u)).clip(0)
        height = (np.minimum(y + h, v + q) - np.maximum(y, v)).clip(0)
        shared = width * height
        whole = np.where(truth.crowd[true], w * h, w * h + p * q - shared)
        overlap = np.divide(shared, whole, out=np.zeros(len(row)), where=shared > 0)
        near = overlap >= IOUS[0]
        parts.append((row[near], true[near], overlap[near]))
    return [np.concatenate(columns) for columns in zip(*parts)]


def _match(truth: Boxes, row: np.ndarray, true: np.ndarray, overlap: np.ndarray, rank: np.ndarray):
    """`Matches.rows` and `Matches.table` of pairs that overlap: a step for all detections of one rank."""
    order = np.lexsort((true, overlap, row, rank[row]))
    row, true, overlap = row[order], true[order], overlap[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))  # pair of each detection
    rows, bounds = row[first], np.append(first, len(row))
    ignored = truth.outside() | truth.crowd[:, None]  # (m, 4)
    taken = np.zeros((len(truth), len(IOUS), len(AREAS)), bool)
    table = np.full((len(rows), len(IOUS), len(AREAS)), MISSED, np.int8)
    steps = np.flatnonzero(np.diff(rank[rows], prepend=-1, append=-1))
    for start, end in zip(steps[:-1], steps[1:]):
        low, high = bounds[start], bounds[end]
        mine, count = true[low:high], high - low
        free = (overlap[low:high, None] >= IOUS)[:, :, None] & ~(taken[mine] & ~truth.crowd[mine, None, None])
        worth = np.arange(1, count + 1, dtype=np.int32)[:, None] + np.where(ignored[mine], 0, count).astype(np.int32)
        worth = np.where(
            free, worth[:, None], 0
        )  # (p, 10, 4): what is not ignored first, then the later, of more overlap
        best = np.maximum.reduceat(worth, first[start:end] - low)  # (detections of this rank, 10, 4)
        which, t, a = np.nonzero(best)
        chosen = best[which, t, a]
        taken[mine[(chosen - 1) % count], t, a] = True
        table[start + which, t, a] = np.where(chosen > count, HIT, IGNORED)
    order = np.argsort(rows)
    return rows[order], table[order]


def precision_and_recall(truth: Boxes, matches: Matches, num_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision (10 IoUs, 101 recalls, categories, 4 areas) of the best 100 detections a picture and category, and recall
    (10, categories, 3 `LIMITS`) of boxes of any size; -1 where a category has no true box of that size."""
    ignored = truth.outside() | truth.crowd[:, None]
    positives = np.stack([np.bincount(truth.category[~column], minlength=num_categories) for column in ignored.T], 1)
    found = matches.found
    inside = np.flatnonzero(matches.rank < LIMITS[-1])
    order = inside[
        np.lexsort((-found.score[inside], found.category[inside]))
    ]  # of equal scores the first picture first
    place = np.full(len(found), -1)
    place[order] = np.arange(len(order))
    by_place = np.flatnonzero(place[matches.rows] >= 0)
    by_place = by_place[np.argsort(place[matches.rows[by_place]])]
    rows, table = matches.rows[by_place], matches.table[by_place]
    category = found.category[rows]

    recall = np.full((len(IOUS), num_categories, len(LIMITS)), -1.0)
    some = np.flatnonzero(positives[:, 0])
    for column, limit in enumerate(LIMITS):
        for t, hits in enumerate(((table[:, :, 0] == HIT) & (matches.rank[rows, None] < limit)).T):
            recall[t, some, column] = np.bincount(category[hits], minlength=num_categories)[some] / positives[some, 0]

    precision = np.full((len(IOUS), len(RECALLS), num_categories, len(AREAS)), -1.0)
    bounds = np.searchsorted(category, np.arange(num_categories + 1))  # of each category in `rows`
    begins = np.searchsorted(found.category[order], np.arange(num_categories))  # and in `order`
    outside = found.outside()
    for a in range(len(AREAS)):
        counted = np.concatenate(([0], np.cumsum(~outside[order, a])))  # detections that count if they hit nothing
        through = counted[place[rows] + 1]
        for k in np.flatnonzero(positives[:, a]):
            mine = slice(bounds[k], bounds[k + 1])
            before = through[mine] - counted[begins[k]]
            precision[:, :, k, a] = _precision(table[mine, :, a], outside[rows[mine], a], before, positives[k, a])
    return precision, recall


def _precision(matches: np.ndarray, outside: np.ndarray, counted: np.ndarray, positives: int) -> np.ndarray:
    """Precision (10, 101) of a category and area at each of `RECALLS`: the highest at that recall or above.

    `matches` (r, 10): the detections that overlap a true box, best first; `outside` (r,): their areas are not in range;
    `counted` (r,): how many detections in range there are up to each of them, with those that overlap nothing. Precision
    peaks, and recall rises, where a box is hit: only these places are looked at.
    """
    result = np.zeros((len(IOUS), len(RECALLS)))
    for t, column in enumerate(matches.T):
        # What is hit counts whatever its own area, and what took an ignored box does not.
        more = ((column == HIT) & outside).astype(np.int64) - ((column == IGNORED) & ~outside)
        at = np.flatnonzero(column == HIT)
        number = np.arange(1.0, len(at) + 1)
        precision = number / ((counted + np.cumsum(more))[at] + np.spacing(1))
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        reached = np.searchsorted(number / positives, RECALLS, side="left")
        result[t, reached < len(at)] = highest[reached[reached < len(at)]]
    return result
