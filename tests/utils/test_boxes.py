import math

import numpy as np
import pytest
import torch
from graftdet.utils.boxes import box_area, ciou, cxcywh_to_xyxy, xyxy_to_cxcywh

KINDS = [np.asarray, torch.as_tensor]


def random_boxes(n, seed=0):
    low = np.random.default_rng(seed).uniform(0, 50, (n, 2))
    size = np.random.default_rng(seed + 1).uniform(1, 40, (n, 2))
    return np.concatenate((low, low + size), axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_conversion_known_value_and_round_trip(kind):
    assert xyxy_to_cxcywh(kind([[10, 20, 30, 60]])).tolist() == [[20, 40, 20, 40]]
    assert cxcywh_to_xyxy(kind([[20, 40, 20, 40]])).tolist() == [[10, 20, 30, 60]]
    assert cxcywh_to_xyxy(kind([[5, 5, 3, 3]])).tolist() == [[3.5, 3.5, 6.5, 6.5]]  # integers do not lose halves
    boxes = kind(random_boxes(50))
    assert np.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    assert tuple(xyxy_to_cxcywh(boxes[:0]).shape) == (0, 4)


def test_inverted_box_has_no_area():
    assert box_area(np.array([[5.0, 5, 1, 9], [0, 0, 2, 3]])).tolist() == [0, 6]


def reference_ciou(a, b):
    """Written from the formulas of the paper, one pair at a time."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = a, b
    inter = max(0, min(x1 + w1 / 2, x2 + w2 / 2) - max(x1 - w1 / 2, x2 - w2 / 2)) * max(
        0, min(y1 + h1 / 2, y2 + h2 / 2) - max(y1 - h1 / 2, y2 - h2 / 2)
    )
    iou = inter / (w1 * h1 + w2 * h2 - inter)
    cw = max(x1 + w1 / 2, x2 + w2 / 2) - min(x1 - w1 / 2, x2 - w2 / 2)
    ch = max(y1 + h1 / 2, y2 + h2 / 2) - min(y1 - h1 / 2, y2 - h2 / 2)
    v = 4 / math.pi**2 * (math.atan(w2 / h2) - math.atan(w1 / h1)) ** 2
    alpha = v / (1 - iou + v) if v else 0
    return iou - ((x1 - x2) ** 2 + (y1 - y2) ** 2) / (cw**2 + ch**2) - alpha * v


def test_ciou_equals_the_formula():
    a, b = xyxy_to_cxcywh(random_boxes(200)), xyxy_to_cxcywh(random_boxes(200, seed=9))
    expected = [reference_ciou(x, y) for x, y in zip(a, b)]
    assert np.allclose(ciou(torch.tensor(a), torch.tensor(b)), expected, atol=1e-6)


def test_ciou_of_equal_boxes_is_one_and_gradient_is_finite():
    boxes = torch.tensor([[5.0, 5, 4, 2], [0, 0, 0, 0], [1, 1, 1e-4, 3]], requires_grad=True)
    targets = torch.tensor([[5.0, 5, 4, 2], [3, 3, 1, 1], [1, 1, 2, 2]])
    values = ciou(boxes, targets)
    assert values[0].item() == pytest.approx(1, abs=1e-5)
    values.sum().backward()
    assert torch.isfinite(boxes.grad).all()


def test_ciou_alpha_carries_no_gradient():
    """Concentric boxes of equal area and other shape: with alpha as a constant the gradient has a closed form."""
    boxes = torch.tensor([[0.0, 0, 2, 2]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 0, 8, 8 / 3]], dtype=torch.float64)  # contains the box: IoU = w h / target area
    ciou(boxes, targets).backward()
    area, iou = 64 / 3, 4 / (64 / 3)
    difference = math.atan(3) - math.atan(1)
    v = 4 / math.pi**2 * difference**2
    slope_v = 4 / math.pi**2 * 2 * difference * -(2 / (2**2 + 2**2))  # d atan(w/h) / dw = h / (w^2 + h^2)
    expected = 2 / area - v / (1 - iou + v) * slope_v
    assert boxes.grad[0, 2].item() == pytest.approx(expected, rel=1e-5)
