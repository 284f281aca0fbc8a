"""Dynamic soft label assignment against loops over images, boxes and points, with and without the center prior."""

import math

import pytest

from graftdet.models.losses.assigners.soft_label import SoftLabelAssigner


def overlap(a, b):
    """IoU of two boxes xyxy."""
    width, height = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height + 1e-7)


def class_cost(scores, label, iou):
    """Quality focal loss against the IoU for the box's class and 0 for the others."""
    total = 0.0
    for index, p in enumerate(scores):
        p, wanted = min(max(p, 1e-6), 1 - 1e-6), iou if index == label else 0.0
        total -= (wanted * math.log(p) + (1 - wanted) * math.log(1 - p)) * (wanted - p) ** 2
    return total


def slow(scene, center_radius, topk=13):
    """{(image, point): (index of its box, IoU)}."""
    strides, claims = scene.strides.tolist(), {}
    truth = zip(scene.truth.image.tolist(), scene.truth.labels.tolist(), scene.truth.boxes.tolist(), strict=True)
    for box, (image, label, wanted) in enumerate(truth):
        center = [(wanted[k] + wanted[k + 2]) / 2 for k in (0, 1)]
        half = [(wanted[k + 2] - wanted[k]) / 2 for k in (0, 1)]
        half = [value if 2 * value >= min(strides) else min(strides) * 1.01 / 2 for value in half]
        candidates = []
        for point, place in enumerate(scene.points.tolist()):
            if not all(abs(place[k] - center[k]) < half[k] for k in (0, 1)):
                continue
            iou = overlap(scene.boxes[image, point].tolist(), wanted)
            cost = class_cost(scene.scores[image, point].tolist(), label, iou) - 3 * math.log(iou + 1e-7)
            if center_radius is not None:
                cost += 10 ** (math.dist(place, center) / strides[point] - center_radius)
            candidates.append((cost, point, iou))
        number = max(int(sum(sorted((iou for _, _, iou in candidates), reverse=True)[:topk])), 1)
        for cost, point, iou in sorted(candidates)[:number]:
            claims.setdefault((image, point), []).append((cost, box, iou))
    return {key: min(claimed)[1:] for key, claimed in claims.items()}


@pytest.mark.parametrize("center_radius", [None, 3.0])
@pytest.mark.parametrize(
    ("counts", "nc", "size", "strides"),
    [((4, 0, 7), 3, (96, 128), (8, 16, 32)), ((25,), 1, (64, 64), (8,)), ((3, 5), 80, (64, 128), (8, 16, 32, 64))],
)
def test_assignment_equals_a_reference_with_loops(scene, counts, nc, size, strides, center_radius):
    for seed in range(3):
        drawn = scene(seed, counts, nc, size, strides)
        got, expected = drawn.assigned(SoftLabelAssigner(center_radius=center_radius)), slow(drawn, center_radius)
        assert {key: box for key, (box, _) in got.items()} == {key: box for key, (box, _) in expected.items()}
        for key, (_, iou) in expected.items():
            assert got[key][1] == pytest.approx(iou, rel=1e-3, abs=1e-6)
