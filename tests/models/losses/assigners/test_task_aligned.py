"""Task-aligned assignment against loops over images, boxes and points written from TOOD, section 3.2."""

import pytest
import torch

from graftdet.models.losses.assigners.task_aligned import TaskAlignedAssigner
from graftdet.models.losses.targets import unpack_targets


def iou(a, b):
    width, height = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both + 1e-7)


def slow(scene, topk, alpha=0.5, beta=6.0):
    """{(image, point): (index of its box, quality)}."""
    truth, points, cell = scene.truth, scene.points.tolist(), scene.strides.min().item()
    claims = {}  # (image, point) -> [(IoU, box, t)]
    for box, (image, label, wanted) in enumerate(
        zip(truth.image.tolist(), truth.labels.tolist(), truth.boxes.tolist(), strict=True)
    ):
        low, high = list(wanted[:2]), list(wanted[2:])
        center = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        for k in (0, 1):
            if high[k] - low[k] < cell:  # at least as large as a cell
                low[k], high[k] = center[k] - cell * 0.505, center[k] + cell * 0.505
        candidates = []
        for point, (x, y) in enumerate(points):
            if low[0] < x < high[0] and low[1] < y < high[1]:
                both = iou(scene.boxes[image, point].tolist(), wanted)
                t = scene.scores[image, point, label].item() ** alpha * both**beta
                nearness = 1e-12 / (1 + (x - center[0]) ** 2 + (y - center[1]) ** 2)
                candidates.append((t + nearness, point, both, t))
        for _, point, both, t in sorted(candidates, reverse=True)[:topk]:
            claims.setdefault((image, point), []).append((both, -box, t))
    assigned_boxes = {key: max(claimed) for key, claimed in claims.items()}
    assigned = {}
    for key, (both, box, t) in assigned_boxes.items():
        own = [entry for entry in assigned_boxes.values() if entry[1] == box]
        most, greatest = max(entry[2] for entry in own), max(entry[0] for entry in own)
        assigned[key] = (-box, t / most * greatest if most else 0.0)
    return assigned


def assert_same(got, expected):
    assert {key: box for key, (box, _) in got.items()} == {key: box for key, (box, _) in expected.items()}
    for key, (_, quality) in expected.items():
        assert got[key][1] == pytest.approx(quality, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("counts", "nc", "size", "strides"),
    [((4, 0, 7), 3, (96, 128), (8, 16, 32)), ((25,), 1, (64, 64), (8,)), ((3, 5), 80, (64, 128), (8, 16, 32, 64))],
)
@pytest.mark.parametrize("topk", [1, 10])
def test_assignment_equals_a_reference_with_loops(scene, counts, nc, size, strides, topk):
    for seed in range(3):
        drawn = scene(seed, counts, nc, size, strides)
        expected = slow(drawn, topk)
        assert expected
        assert_same(drawn.assigned(TaskAlignedAssigner(topk)), expected)


def test_each_box_inside_has_points_and_one_at_most_with_topk_1(scene):
    drawn = scene(5, (8, 3))
    center = drawn.targets[:, 2:4]
    inside = set(torch.nonzero(((center > 0) & (center < 1)).all(1))[:, 0].tolist())
    inside.discard(len(drawn.targets) - 1)  # the second of two equal boxes gets none
    many = [box for box, _ in drawn.assigned(TaskAlignedAssigner(10)).values()]
    one = [box for box, _ in drawn.assigned(TaskAlignedAssigner(1)).values()]
    assert set(many) >= inside and max(many.count(box) for box in many) <= 10
    assert len(set(one)) == len(one)


def test_no_boxes_assign_nothing(scene):
    drawn = scene(0, (0, 0))
    assert drawn.assigned(TaskAlignedAssigner()) == {}
    far = scene(0, (3,))
    far.truth = unpack_targets(torch.tensor([[0.0, 0, 5, 5, 0.1, 0.1]]), 96, 128)  # outside the image
    assert far.assigned(TaskAlignedAssigner()) == {}


def test_nearest_points_are_assigned_if_no_prediction_overlaps(scene):
    drawn = scene(0, (1,))
    drawn.truth = unpack_targets(torch.tensor([[0.0, 0, 0.53, 0.51, 0.3, 0.3]]), 96, 128)
    drawn.boxes = torch.zeros_like(drawn.boxes)
    nearest = (drawn.points - torch.tensor([0.53 * 128, 0.51 * 96])).square().sum(1).argmin().item()
    assert [point for _, point in drawn.assigned(TaskAlignedAssigner(1))] == [nearest]
