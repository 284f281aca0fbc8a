"""What an assigner of points to true boxes gives, and what such assigners share.

An assigner is called as `assign(scores (B, N, nc) 0..1, boxes (B, N, 4) xyxy pixels, points (N, 2) pixels, strides (N,),
TrueBoxes) -> Assignment`, in float32, without gradients. It looks at pairs of a box and a point that may learn it, all
pictures' in one list: few of all points are candidates of a box, and no picture waits for one that has more boxes.
"""

from dataclasses import dataclass

import torch


@dataclass
class Assignment:
    """K positives, each a point of a picture that learns a true box; no point of a picture comes twice.

    `box` (K,) int64, the place in `TrueBoxes`; `point` (K,) int64, of N; `quality` (K,) float32 in 0..1, what the score
    of the box's class should be there.
    """

    box: torch.Tensor
    point: torch.Tensor
    quality: torch.Tensor


def points_inside(points, boxes_xyxy, least_side=0.0):
    """Points (N, 2) and boxes (M, 4) xyxy, in pixels -> (M, N) bool: strictly inside.

    Boxes with a side below `least_side` are taken as that long around their centre: smaller than the cells of the finest
    level they would contain no point at all.
    """
    centre, sides = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    # a little longer than a cell: between four cells, too, a centre has points on either side
    half = torch.where(sides < least_side, least_side * 1.01, sides) / 2  # (M, 2)
    return _within(points, centre, half[:, 0, None], half[:, 1, None])


def points_near(points, boxes_xyxy, radius):
    """Points (N, 2) whose x and y differ by less than `radius` (N,) from those of the boxes' (M, 4) centres: (M, N)."""
    return _within(points, (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, radius, radius)


def _within(points, centre, reach_x, reach_y):
    in_x = (points[:, 0] - centre[:, 0, None]).abs_() < reach_x  # one axis after the other: (M, N), never (M, N, 2)
    return in_x.logical_and_((points[:, 1] - centre[:, 1, None]).abs_() < reach_y)


def by_box(values, box, boxes: int, empty: float):
    """Values (P,) of pairs, in the order of `box` (P,), as a table (boxes, W), a row a box filled up with `empty`; and
    where each box's values start, (boxes,), and how many they are."""
    counts = torch.bincount(box, minlength=boxes)
    starts = counts.cumsum(0) - counts
    table = values.new_full((boxes, int(counts.max())), empty)
    table[box, torch.arange(len(box), device=box.device) - starts[box]] = values
    return table, starts, counts


def best_of_each(values, box, boxes: int, numbers):
    """The indices, of P pairs in the order of `box` (P,), of the greatest values of each box, as many as it has and
    `numbers` (boxes,) allows."""
    table, starts, counts = by_box(values, box, boxes, -torch.inf)
    numbers = torch.minimum(numbers, counts)
    best = table.topk(int(numbers.max()), 1).indices  # (boxes, most)
    taken = torch.arange(best.shape[1], device=box.device) < numbers[:, None]
    return (best + starts[:, None])[taken]


def one_box_a_point(values, place):
    """Of K pairs that claim places (K,), the indices of those with the greatest value at each; of equals the first."""
    order = values.argsort(descending=True, stable=True)
    order = order[place[order].argsort(stable=True)]
    first = torch.ones_like(order, dtype=torch.bool)
    first[1:] = place[order][1:] != place[order][:-1]
    return order[first]
