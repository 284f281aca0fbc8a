"""IoU variants against the papers' formulas in plain Python, known values, finite gradients."""

import math

import pytest
import torch

from graftdet.models.losses.iou import IOU_FUNCTIONS, ciou_cxcywh


def slow_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union, union


def hull(a, b):
    return max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def center_and_size(a):
    return (a[0] + a[2]) / 2, (a[1] + a[3]) / 2, a[2] - a[0], a[3] - a[1]


def slow_giou(a, b):
    """Rezatofighi et al., 2019, algorithm 1."""
    iou_value, union = slow_iou(a, b)
    area = math.prod(hull(a, b))
    return iou_value - (area - union) / area


def slow_ciou(a, b):
    """Zheng et al., 2020, equations 10 to 12."""
    iou_value, _ = slow_iou(a, b)
    (x1, y1, w1, h1), (x2, y2, w2, h2) = center_and_size(a), center_and_size(b)
    v = 4 / math.pi**2 * (math.atan(w2 / h2) - math.atan(w1 / h1)) ** 2
    alpha = v / (1 - iou_value + v) if v else 0.0
    width, height = hull(a, b)
    return iou_value - ((x1 - x2) ** 2 + (y1 - y2) ** 2) / (width**2 + height**2) - alpha * v


def slow_siou(a, b):
    """Gevorgyan, 2022: angle, distance and shape costs as the paper writes them."""
    iou_value, _ = slow_iou(a, b)
    (x1, y1, w1, h1), (x2, y2, w2, h2) = center_and_size(a), center_and_size(b)
    sigma = math.hypot(x2 - x1, y2 - y1)
    angle = 1 - 2 * math.sin(math.asin(abs(y2 - y1) / sigma) - math.pi / 4) ** 2 if sigma else 0.0
    width, height = hull(a, b)
    gamma = 2 - angle
    distance = sum(1 - math.exp(-gamma * (d / side) ** 2) for d, side in ((x2 - x1, width), (y2 - y1, height)))
    shape = sum((1 - math.exp(-abs(p - q) / max(p, q))) ** 4 for p, q in ((w1, w2), (h1, h2)))
    return iou_value - (distance + shape) / 2


SLOW = {"iou": lambda a, b: slow_iou(a, b)[0], "giou": slow_giou, "ciou": slow_ciou, "siou": slow_siou}


def random_boxes(count, seed):
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 50
    return torch.cat(
        (corner, corner + 1 + torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1)) * 40), 1
    )


@pytest.mark.parametrize("name", SLOW)
def test_equals_the_formula(name):
    boxes, targets = random_boxes(60, 0), random_boxes(60, 7)
    expected = [SLOW[name](a, b) for a, b in zip(boxes.double().tolist(), targets.double().tolist(), strict=True)]
    got = IOU_FUNCTIONS[name](boxes, targets)
    torch.testing.assert_close(got, torch.tensor(expected), atol=2e-5, rtol=1e-5)
    assert torch.equal(IOU_FUNCTIONS[name](boxes[:, None], targets[None]).diagonal(), got)  # broadcasts


@pytest.mark.parametrize(
    ("name", "box", "target", "expected"),
    [
        ("iou", (0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ("giou", (0, 0, 1, 1), (3, 0, 4, 1), -0.5),  # half of the hull is outside the union
        ("ciou", (0, 0, 2, 2), (2, 0, 4, 2), -4 / 20),
        (
            "siou",
            (0, 0, 2, 2),
            (2, 0, 4, 2),
            -(1 - math.exp(-0.5)) / 2,
        ),  # along an axis: no angle, distance (2 / 4)^2 x 2
        ("siou", (0, 0, 2, 2), (2, 2, 4, 4), -(1 - math.exp(-0.25))),  # at 45 degrees: the angle halves it
    ],
)
def test_known_values(name, box, target, expected):
    got = IOU_FUNCTIONS[name](torch.tensor(box), torch.tensor(target))
    assert got.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize(
    "box",
    [(10, 10, 30, 20), (10, 10, 10, 10), (10, 10, 30, 10), (0, 0, 1e4, 1e4), (90, 90, 95, 99), (10, 10, 30.001, 20)],
    ids=["equal", "point", "line", "large", "apart", "almost equal"],
)
@pytest.mark.parametrize("target", [(10, 10, 30, 20), (15, 15, 15, 15)], ids=["box", "point"])
def test_gradients_are_finite(name, box, target):
    box = torch.tensor(box, dtype=torch.float32, requires_grad=True)
    iou_value = IOU_FUNCTIONS[name](box, torch.tensor(target, dtype=torch.float32))
    iou_value.backward()
    assert iou_value.isfinite() and iou_value <= 1 + 1e-6 and box.grad.isfinite().all()
    if target[2] > 15 and torch.equal(box.detach(), torch.tensor(target, dtype=torch.float32)):
        assert iou_value.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", SLOW)
def test_descent_reaches_the_target(name):
    box = torch.tensor([20.0, 5.0, 35.0, 40.0], requires_grad=True)
    target = torch.tensor([10.0, 10.0, 40.0, 25.0])
    optimizer = torch.optim.Adam([box], lr=0.5)
    for _ in range(150):
        optimizer.zero_grad()
        (1 - IOU_FUNCTIONS[name](box, target)).backward()
        optimizer.step()
    assert IOU_FUNCTIONS["iou"](box, target) > 0.9


def test_half_precision_is_computed_in_float32():
    box = torch.tensor([0.0, 0.0, 1000.0, 1000.0]).half()  # whose area is beyond float16
    for name in SLOW:
        assert IOU_FUNCTIONS[name](box, box).item() == pytest.approx(1, abs=1e-5)


def test_ciou_of_equal_boxes_is_one_and_gradient_is_finite():
    boxes = torch.tensor([[5.0, 5, 4, 2], [0, 0, 0, 0], [1, 1, 1e-4, 3]], requires_grad=True)
    targets = torch.tensor([[5.0, 5, 4, 2], [3, 3, 1, 1], [1, 1, 2, 2]])
    values = ciou_cxcywh(boxes, targets)
    assert values[0].item() == pytest.approx(1, abs=1e-5)
    values.sum().backward()
    assert torch.isfinite(boxes.grad).all()


def test_ciou_alpha_carries_no_gradient():
    """Concentric boxes of equal area and other shape: with alpha as a constant the gradient has a closed form."""
    boxes = torch.tensor([[0.0, 0, 2, 2]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 0, 8, 8 / 3]], dtype=torch.float64)  # contains the box: IoU = w h / target area
    ciou_cxcywh(boxes, targets).backward()
    area, iou = 64 / 3, 4 / (64 / 3)
    difference = math.atan(3) - math.atan(1)
    v = 4 / math.pi**2 * difference**2
    slope_v = 4 / math.pi**2 * 2 * difference * -(2 / (2**2 + 2**2))  # d atan(w/h) / dw = h / (w^2 + h^2)
    expected = 2 / area - v / (1 - iou + v) * slope_v
    assert boxes.grad[0, 2].item() == pytest.approx(expected, rel=1e-5)
