"""SimOTA against loops over images, boxes and points written from YOLOX, section 2.1, with PicoDet's and its own cost."""

import math

import pytest

from graftdet.models.losses.assigners.simota import SimOTAAssigner, YOLOXAssigner
from graftdet.models.losses.targets import unpack_targets


def corners_to_area(a):
    return (a[2] - a[0]) * (a[3] - a[1])


def ious(a, b):
    """IoU and generalized IoU."""
    width, height = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    union = corners_to_area(a) + corners_to_area(b) - width * height
    area = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    iou = width * height / (union + 1e-7)
    return iou, iou - (area - union) / (area + 1e-7)


def varifocal(scores, label, quality):
    total = 0.0
    for index, p in enumerate(scores):
        p = min(max(p, 1e-6), 1 - 1e-6)
        if index == label and quality > 0:
            total -= quality * (quality * math.log(p) + (1 - quality) * math.log(1 - p))
        else:
            total -= 0.75 * p**2 * math.log(1 - p)
    return total


def picodet_cost(scores, label, iou, giou):
    return varifocal(scores, label, iou) + 6 * (1 - giou)


def yolox_cost(scores, label, iou, giou):
    scores = [min(max(p, 1e-6), 1 - 1e-6) for p in scores]
    entropy = -sum(math.log(p if index == label else 1 - p) for index, p in enumerate(scores))
    return entropy - 3 * math.log(iou + 1e-8)


def slow(scene, cost_of, radius=2.5, topk=10):
    """{(image, point): (index of its box, IoU)}."""
    truth, strides = scene.truth, scene.strides.tolist()
    claims = {}
    for box, (image, label, wanted) in enumerate(
        zip(truth.image.tolist(), truth.labels.tolist(), truth.boxes.tolist(), strict=True)
    ):
        center = ((wanted[0] + wanted[2]) / 2, (wanted[1] + wanted[3]) / 2)
        candidates = []
        for point, (x, y) in enumerate(scene.points.tolist()):
            inside = wanted[0] < x < wanted[2] and wanted[1] < y < wanted[3]
            near = max(abs(x - center[0]), abs(y - center[1])) < radius * strides[point]
            if inside or near:
                iou, giou = ious(scene.boxes[image, point].tolist(), wanted)
                cost = cost_of(scene.scores[image, point].tolist(), label, iou, giou)
                candidates.append((cost + 1e4 * (not (inside and near)), point, iou))
        number = max(int(sum(sorted((iou for _, _, iou in candidates), reverse=True)[:topk])), 1)
        for cost, point, iou in sorted(candidates)[:number]:
            claims.setdefault((image, point), []).append((cost, box, iou))
    return {key: min(claimed)[1:] for key, claimed in claims.items()}


@pytest.mark.parametrize(
    ("assigner", "cost"), [(SimOTAAssigner(), picodet_cost), (YOLOXAssigner(), yolox_cost)], ids=["picodet", "yolox"]
)
@pytest.mark.parametrize(
    ("counts", "nc", "size", "strides"),
    [((4, 0, 7), 3, (96, 128), (8, 16, 32)), ((25,), 1, (64, 64), (8,)), ((3, 5), 80, (64, 128), (8, 16, 32, 64))],
)
def test_assignment_equals_a_reference_with_loops(scene, counts, nc, size, strides, assigner, cost):
    for seed in range(3):
        drawn = scene(seed, counts, nc, size, strides)
        got, expected = drawn.assigned(assigner), slow(drawn, cost)
        assert {key: box for key, (box, _) in got.items()} == {key: box for key, (box, _) in expected.items()}
        for key, (_, iou) in expected.items():
            assert got[key][1] == pytest.approx(iou, rel=1e-3, abs=1e-6)


def test_better_predictions_get_more_points(scene):
    drawn = scene(3, (2,))
    before = len(drawn.assigned(SimOTAAssigner()))
    drawn.boxes = drawn.truth.boxes[:1].expand_as(drawn.boxes[0])[None].clone()  # all points predict the first box
    assigned_boxes = [box for box, _ in drawn.assigned(SimOTAAssigner()).values()]
    assert assigned_boxes.count(0) == 10 > before


def test_no_boxes_assign_nothing(scene):
    assert scene(0, (0, 0)).assigned(SimOTAAssigner()) == {}
    far = scene(0, (1,))
    far.truth = unpack_targets(far.targets + far.targets.new_tensor([0, 0, 9, 9, 0, 0]), 96, 128)
    assert far.assigned(SimOTAAssigner()) == {}
