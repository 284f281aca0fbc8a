"""Which boxes of a picture overlap by more than a threshold, for many pairs at once. NumPy only.

Most pairs lie apart: they are found by whole numbers of 16 bits, of which a processor compares many at once; the
overlap itself is computed for what is left.
"""

import numpy as np

STEPS = 65_535  # the centres of all boxes lie on a grid of so many steps
LEAST_IOU = 0.1  # below, boxes far apart in size and place overlap enough: nothing to be found by their centres
CELLS = 2048  # of all groups together
DENSE = 4  # above one pair in so many, computing all is faster than picking


class Overlaps:
    """Pairs of boxes that are of one group and overlap by an IoU above `iou`.

    `boxes_xyxy` (n, 4) finite floats in any unit; `groups` (n,) int. Boxes without area overlap nothing.
    """

    def __init__(self, boxes_xyxy: np.ndarray, groups: np.ndarray, iou: float):
        self.iou = iou
        x1, y1, x2, y2 = self._sides = np.ascontiguousarray(boxes_xyxy.T, dtype=np.float32)
        self._areas = (x2 - x1).clip(0) * (y2 - y1).clip(0)
        self._groups = None if not len(groups) or (groups == groups[0]).all() else groups.astype(np.int32)
        self._near = [_Near(x1, x2, iou), _Near(y1, y2, iou)] if iou >= LEAST_IOU and len(groups) else []

    def matrix(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(len(first), len(second)) bool: which pairs of the boxes `first` and `second`, indices, overlap."""
        maybe = None if self._groups is None else self._groups[first][:, None] == self._groups[second]
        for near in self._near:
            close = near.matrix(first, second)
            maybe = close if maybe is None else np.logical_and(maybe, close, out=maybe)
        if maybe is not None:
            places = np.flatnonzero(maybe)
            if len(places) * DENSE < maybe.size:
                a = places // len(second)
                b = places - a * len(second)  # np.divmod takes four times as long
                maybe.reshape(-1)[places] = self.above(first[a], second[b])
                return maybe
        overlaps = self.above(first[:, None], second[None])
        return overlaps if maybe is None else np.logical_and(overlaps, maybe, out=overlaps)

    def above(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """IoU above the threshold, for indices that broadcast; without a division."""
        x1, y1, x2, y2 = self._sides
        width = np.minimum(x2[first], x2[second]) - np.maximum(x1[first], x1[second])
        height = np.minimum(y2[first], y2[second]) - np.maximum(y1[first], y1[second])
        intersection = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
        union = self._areas[first] + self._areas[second] - intersection
        return intersection > self.iou * union


class Covered:
    """Which boxes are overlapped by a growing choice of others.

    The picture is divided into cells, for each group anew. Each cell has a row that says which of the group's chosen come
    near it, so the pairs worth computing are read from the rows of the cells that the boxes in question lie in.
    """

    def __init__(self, overlaps: Overlaps):
        self._overlaps, self._chosen = overlaps, np.zeros(0, int)
        count = len(overlaps._areas)
        self._groups = np.zeros(count, np.int32) if overlaps._groups is None else overlaps._groups
        groups = int(self._groups.max()) + 1 if count else 1
        self._side = side = int(np.clip((CELLS / groups) ** 0.5, 1, 32)) if overlaps._near else 1
        self._cells = self._groups * (side * side)
        for axis, near in enumerate(overlaps._near):
            self._cells = self._cells + (near.places.astype(np.int32) * side >> 16) * (side if axis else 1)
        self._rows = np.zeros((groups, side, side, 8), bool)
        self._members = np.zeros((groups, 8), int)  # the chosen of each group
        self._counts = [0] * groups

    def add(self, chosen: np.ndarray) -> None:
        """Choose these boxes, indices, too."""
        self._chosen = np.concatenate((self._chosen, chosen))
        spans = [near.span(chosen, self._side).tolist() for near in self._overlaps._near] or [
            [(0, 1)] * len(chosen)
        ] * 2
        groups = self._groups[chosen].tolist()
        for box, group, (x1, x2), (y1, y2) in zip(chosen.tolist(), groups, *spans, strict=True):
            column = self._counts[group]
            if column == self._members.shape[1]:
                self._rows = np.concatenate((self._rows, np.zeros_like(self._rows)), axis=3)
                self._members = np.concatenate((self._members, np.zeros_like(self._members)), axis=1)
            self._rows[group, y1:y2, x1:x2, column] = True
            self._members[group, column] = box
            self._counts[group] = column + 1

    def __call__(self, boxes: np.ndarray) -> np.ndarray:
        """(n,) bool: which of `boxes` (n,), indices, one of the chosen overlaps."""
        covered = np.zeros(len(boxes), bool)
        columns = self._members.shape[1]
        places = np.flatnonzero(self._rows.reshape(-1, columns)[self._cells[boxes]])
        if len(places) * DENSE > len(boxes) * len(self._chosen):
            return self._overlaps.matrix(self._chosen, boxes).any(0)
        which = places // columns
        box = boxes[which]
        pairs = self._overlaps.above(self._members[self._groups[box], places - which * columns], box)
        covered[which[pairs]] = True
        return covered


class _Near:
    """Whether boxes can overlap enough, by their centres along one axis.

    With an IoU of at least t, the wider side w and the narrower v of two boxes have v >= t w and share at least t w. So
    their centres are at most (w + v) / 2 - t w apart: of the one's side s, at most s (1 - t) where it is the wider, and
    s (1 / t - 1) / 2 where it is the narrower. The latter is less from t = 0.5 on.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, iou: float):
        centres = (low.astype(np.float64) + high) / 2
        reach = (high - low).clip(0) * (max(1 - iou, (1 / iou - 1) / 2) + 1e-3)  # more than rounding may add
        origin, span = centres.min(), max(centres.max() - centres.min(), 1e-30)
        scale = STEPS / span
        self.places = ((centres - origin) * scale).astype(np.uint16)
        lowest = np.floor((centres - reach - origin) * scale - 1).clip(0, STEPS)
        highest = np.ceil((centres + reach - origin) * scale + 1).clip(0, STEPS)
        self._from = lowest.astype(np.uint16)
        self._lengths = (highest - lowest).astype(np.uint16)

    def span(self, boxes: np.ndarray, cells: int) -> np.ndarray:
        """(n, 2) first cell and the one after the last, of `cells` along the axis, in which overlapping boxes can lie."""
        first = self._from[boxes].astype(np.int32)
        return np.stack((first * cells >> 16, ((first + self._lengths[boxes]) * cells >> 16) + 1), axis=1)

    def matrix(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """(len(first), len(second)) bool; no pair that overlaps enough is missing."""
        distances = self.places[second] - self._from[first][:, None]  # those before it wrap round to large numbers
        return distances <= self._lengths[first][:, None]
