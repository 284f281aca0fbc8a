"""The criterion of YOLOX against loops over positives and cells."""

import math

import pytest
import torch

from graftdet.models.losses.iou import iou
from graftdet.models.losses.points import flatten_levels, level_points
from graftdet.models.losses.targets import unpack_targets
from graftdet.models.losses.yolox import YOLOXCriterion, decode_boxes

NC, STRIDES, SIZE = 3, (8, 16, 32), (64, 96)


def raw_maps(batch, seed=0):
    make = torch.Generator().manual_seed(seed)
    maps = [torch.randn(batch, 5 + NC, SIZE[0] // s, SIZE[1] // s, generator=make) for s in STRIDES]
    return [y.requires_grad_() for y in maps]


def entropy(logit, target):
    return max(logit, 0) - logit * target + math.log1p(math.exp(-abs(logit)))


def slow(criterion, raw, targets):
    """The losses cell by cell, given the assignment; boxes are decoded from the cell's corner."""
    outputs, classes = flatten_levels([y.detach() for y in raw], 5)
    corners = [
        (x, y, s) for s in STRIDES for y in range(SIZE[0] // s) for x in range(SIZE[1] // s)
    ]  # level after level, row after row
    boxes = torch.zeros(*outputs.shape[:2], 4)
    for image in range(len(outputs)):
        for point, (column, row, stride) in enumerate(corners):
            x, y, w, h = outputs[image, point, :4].tolist()
            center, half = (
                ((x + column) * stride, (y + row) * stride),
                (math.exp(w) * stride / 2, math.exp(h) * stride / 2),
            )
            low, high = [c - k for c, k in zip(center, half)], [c + k for c, k in zip(center, half)]
            boxes[image, point] = torch.tensor(low + high)
    points, strides = level_points([y.shape[2:] for y in raw], STRIDES, outputs)
    truth = unpack_targets(targets, *SIZE)
    scores = (classes.sigmoid() * outputs[..., 4:].sigmoid()).sqrt()
    matches = criterion.assign(scores, boxes, points, strides, truth)
    total, positives = {"box": 0.0, "obj": 0.0, "cls": 0.0}, {}
    for box, point in zip(matches.box.tolist(), matches.point.tolist()):
        image, quality = int(truth.image[box]), iou(boxes[truth.image[box], point], truth.boxes[box]).item()
        positives[image, point] = box
        total["box"] += 1 - quality**2
        for index, logit in enumerate(classes[image, point].tolist()):
            total["cls"] += entropy(logit, quality if index == truth.labels[box] else 0)
    for image in range(len(outputs)):
        for point in range(len(corners)):
            total["obj"] += entropy(outputs[image, point, 4].item(), (image, point) in positives)
    return {name: value / max(len(positives), 1) * criterion.gains[name] for name, value in total.items()}


@pytest.mark.parametrize("counts", [(6, 0, 9), (0, 0)])
def test_losses_equal_a_reference_with_loops(scene, counts):
    raw, targets = raw_maps(len(counts)), scene(1, counts, NC, SIZE).targets
    criterion = YOLOXCriterion(NC, STRIDES)
    losses = criterion(raw, targets)
    assert criterion.gains == {"box": 5, "obj": 1, "cls": 1} and criterion.box_gain == 5
    for name, expected in slow(criterion, raw, targets).items():
        assert losses[name].item() == pytest.approx(expected, rel=1e-4), name
    sum(losses.values()).backward()
    assert all(y.grad is not None and y.grad.isfinite().all() for y in raw)


def test_boxes_are_offsets_from_the_corner_of_the_cell_and_logarithms_of_sides():
    points, strides = torch.tensor([[44.0, 20.0]]), torch.tensor([8.0])  # the cell in column 5, row 2
    box = decode_boxes(torch.tensor([[0.25, -1.5, 0.0, math.log(3.5)]]), points, strides)
    torch.testing.assert_close(box, torch.tensor([[5.25 * 8, 0.5 * 8, 8.0, 28.0]]))
