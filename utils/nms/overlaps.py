"""Pairs of boxes whose IoU is above a threshold, for many pairs at once. NumPy only.

Most pairs are far apart. They are excluded by comparing 16-bit integers, of which a processor compares many at once;
the IoU is computed for the remaining pairs.
"""

import numpy as np

STEPS = 65_535  # of the grid that box centers are rounded to
MIN_IOU = 0.1  # below this threshold centers exclude too few pairs
CELLS = 2048  # of the grids of all groups together
DENSE = 4  # if more than one pair in so many remains, computing all pairs is faster


class Overlaps:
    """Finds boxes of the same group that overlap by an IoU above `iou`. Boxes without area overlap nothing.

    Args:
        boxes_xyxy: (n, 4) finite floats in any unit.
        groups: (n,) int.
        iou: Threshold.
    """

    def __init__(self, boxes_xyxy: np.ndarray, groups: np.ndarray, iou: float):
        self.iou = iou
        x1, y1, x2, y2 = self._sides = np.ascontiguousarray(boxes_xyxy.T, dtype=np.float32)
        self._areas = (x2 - x1).clip(0) * (y2 - y1).clip(0)
        self._groups = None if not len(groups) or (groups == groups[0]).all() else groups.astype(np.int32)
        self._near = [_Near(x1, x2, iou), _Near(y1, y2, iou)] if iou >= MIN_IOU and len(groups) else []

    def matrix(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return (len(first), len(second)) bool: which pairs of two arrays of box indices overlap."""
        maybe = None if self._groups is None else self._groups[first][:, None] == self._groups[second]
        for near in self._near:
            close = near.matrix(first, second)
            maybe = close if maybe is None else np.logical_and(maybe, close, out=maybe)
        if maybe is not None:
            pairs = np.flatnonzero(maybe)
            if len(pairs) * DENSE < maybe.size:
                a = pairs // len(second)
                b = pairs - a * len(second)  # np.divmod takes four times as long
                maybe.reshape(-1)[pairs] = self.above(first[a], second[b])
                return maybe
        overlaps = self.above(first[:, None], second[None])
        return overlaps if maybe is None else np.logical_and(overlaps, maybe, out=overlaps)

    def above(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return whether the IoU is above the threshold, for index arrays that broadcast; without division."""
        x1, y1, x2, y2 = self._sides
        width = np.minimum(x2[first], x2[second]) - np.maximum(x1[first], x1[second])
        height = np.minimum(y2[first], y2[second]) - np.maximum(y1[first], y1[second])
        intersection = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
        union = self._areas[first] + self._areas[second] - intersection
        return intersection > self.iou * union


class Covered:
    """Finds boxes that overlap one of a growing set of selected boxes.

    The image is divided into cells, separately for each group. A table has, for each cell, the selected boxes of the
    group that a box in this cell may overlap; the IoU is computed for these pairs only.

    Args:
        overlaps: All boxes.
    """

    def __init__(self, overlaps: Overlaps):
        self._overlaps, self._selected = overlaps, np.zeros(0, int)
        count = len(overlaps._areas)
        self._groups = np.zeros(count, np.int32) if overlaps._groups is None else overlaps._groups
        groups = int(self._groups.max()) + 1 if count else 1
        self._side = side = int(np.clip((CELLS / groups) ** 0.5, 1, 32)) if overlaps._near else 1
        self._cells = self._groups * (side * side)
        for axis, near in enumerate(overlaps._near):
            self._cells = self._cells + (near.centers.astype(np.int32) * side >> 16) * (side if axis else 1)
        self._rows = np.zeros((groups, side, side, 8), bool)
        self._members = np.zeros((groups, 8), int)  # the selected boxes of each group
        self._counts = [0] * groups

    def add(self, boxes: np.ndarray) -> None:
        """Add box indices to the selected ones."""
        self._selected = np.concatenate((self._selected, boxes))
        spans = [near.span(boxes, self._side).tolist() for near in self._overlaps._near] or [[(0, 1)] * len(boxes)] * 2
        groups = self._groups[boxes].tolist()
        for box, group, (x1, x2), (y1, y2) in zip(boxes.tolist(), groups, *spans, strict=True):
            column = self._counts[group]
            if column == self._members.shape[1]:
                self._rows = np.concatenate((self._rows, np.zeros_like(self._rows)), axis=3)
                self._members = np.concatenate((self._members, np.zeros_like(self._members)), axis=1)
            self._rows[group, y1:y2, x1:x2, column] = True
            self._members[group, column] = box
            self._counts[group] = column + 1

    def __call__(self, boxes: np.ndarray) -> np.ndarray:
        """Return (n,) bool: which of the box indices `boxes` (n,) overlap a selected box."""
        covered = np.zeros(len(boxes), bool)
        columns = self._members.shape[1]
        pairs = np.flatnonzero(self._rows.reshape(-1, columns)[self._cells[boxes]])
        if len(pairs) * DENSE > len(boxes) * len(self._selected):
            return np.any(self._overlaps.matrix(self._selected, boxes), axis=0)
        which = pairs // columns
        box = boxes[which]
        overlapping = self._overlaps.above(self._members[self._groups[box], pairs - which * columns], box)
        covered[which[overlapping]] = True
        return covered


class _Near:
    """Finds boxes that may overlap enough, by their centers along one axis.

    If the IoU of two boxes is at least t, their wider side w and narrower side v have v >= t w, and their intersection
    is at least t w long. So their centers are at most (w + v) / 2 - t w apart. For a box with side s that is at most
    s (1 - t) if it is the wider one, and s (1 / t - 1) / 2 if it is the narrower one, which is less from t = 0.5 on.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, iou: float):
        centers = (low.astype(np.float64) + high) / 2
        reach = (high - low).clip(0) * (max(1 - iou, (1 / iou - 1) / 2) + 1e-3)  # more than the rounding error
        origin, span = centers.min(), max(centers.max() - centers.min(), 1e-30)
        scale = STEPS / span
        self.centers = ((centers - origin) * scale).astype(np.uint16)
        lowest = np.floor((centers - reach - origin) * scale - 1).clip(0, STEPS)
        highest = np.ceil((centers + reach - origin) * scale + 1).clip(0, STEPS)
        self._from = lowest.astype(np.uint16)
        self._lengths = (highest - lowest).astype(np.uint16)

    def span(self, boxes: np.ndarray, cells: int) -> np.ndarray:
        """Return (n, 2): the range of cells, of `cells` on the axis, that may contain centers of overlapping boxes."""
        first = self._from[boxes].astype(np.int32)
        return np.stack((first * cells >> 16, ((first + self._lengths[boxes]) * cells >> 16) + 1), axis=1)

    def matrix(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return (len(first), len(second)) bool; True for at least all pairs that overlap enough."""
        distances = self.centers[second] - self._from[first][:, None]  # negative ones wrap around to large numbers
        return distances <= self._lengths[first][:, None]
