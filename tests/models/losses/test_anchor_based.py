"""The anchor-based criterion: published loss values, the assigner against a slow reference, gains."""

import json
import math
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graftdet.models import build_model
from graftdet.models.losses.anchor_based import AnchorBasedCriterion
from graftdet.models.losses.assigners.anchor_ratio import AnchorRatioAssigner

PUBLISHED = json.loads((Path(__file__).parents[2] / "fixtures" / "loss_yolov5n.json").read_text())


def weights_by_name(name, shape):
    """Values that depend on the name and shape of a tensor only, so that any implementation can reproduce them."""
    values = np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, tuple(shape)).astype(np.float32)
    if len(shape) > 1:
        return torch.from_numpy(values * (2 / math.prod(shape[1:])) ** 0.5)
    if name.endswith("running_var"):
        return torch.from_numpy(1 + 0.5 * np.abs(values))
    return torch.from_numpy(1 + 0.2 * values if name.endswith("weight") else 0.1 * values)


def waves(size):
    """An image (1, 3, size, size) with a sine wave per channel."""
    channel, y, x = np.meshgrid(np.arange(3), np.arange(size), np.arange(size), indexing="ij")
    return torch.from_numpy(
        (0.5 + 0.5 * np.sin(0.07 * x * (channel + 1) + 0.05 * y + 0.3 * channel)).astype(np.float32)[None]
    )


def test_published_loss_values():
    model = build_model("yolov5n.yaml").eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked") or name.endswith(".anchors"):
            continue
        tensor.copy_(weights_by_name(name, tensor.shape))
    image = waves(PUBLISHED["imgsz"])
    with torch.no_grad():
        raw = model.raw_outputs(torch.cat([image, image.flip(3)]))
    targets = torch.tensor(PUBLISHED["targets"])
    criterion = AnchorBasedCriterion(80, model.head.anchors)
    losses = criterion(raw, targets)
    for name, value in PUBLISHED["weighted_loss"].items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-5)
    assert float(sum(losses.values())) * 2 == pytest.approx(PUBLISHED["total_times_batch"], rel=1e-5)
    matches = [len(criterion.assign(targets, a, *y.shape[2:4])[2]) for a, y in zip(criterion.anchors, raw, strict=True)]
    assert matches == PUBLISHED["matches_per_level"]


def slow_assign(targets, anchors, height, width, ratio=4.0, reach=0.5):
    """Box by box: (image, anchor, row, column, class) of every match."""
    matches = []
    for image, label, cx, cy, w, h in targets.tolist():
        x, y, w, h = cx * width, cy * height, w * width, h * height
        cells = [(int(x), int(y))]
        if x % 1 < reach and x > 1:
            cells.append((int(x) - 1, int(y)))
        if y % 1 < reach and y > 1:
            cells.append((int(x), int(y) - 1))
        if (width - x) % 1 < reach and width - x > 1:
            cells.append((int(x) + 1, int(y)))
        if (height - y) % 1 < reach and height - y > 1:
            cells.append((int(x), int(y) + 1))
        for a, (aw, ah) in enumerate(anchors.tolist()):
            if max(w / aw, aw / w, h / ah, ah / h) < ratio:
                matches += [(int(image), a, row, column, int(label)) for column, row in cells]
    return sorted(matches)


@pytest.mark.parametrize("reach", [0.5, 1.0])
def test_assigner_matches_the_slow_reference(reach):
    torch.manual_seed(1)
    targets = torch.rand(60, 6)
    targets[:, 0] = torch.randint(0, 4, (60,))
    targets[:, 1] = torch.randint(0, 7, (60,))
    anchors = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 6.0]])
    (image, anchor, row, column), boxes, labels, matched = AnchorRatioAssigner(reach=reach)(targets, anchors, 9, 13)
    got = sorted(zip(*(t.tolist() for t in (image, anchor, row, column, labels)), strict=True))
    assert got == slow_assign(targets, anchors, 9, 13, reach=reach) and len(got) > 60
    assert torch.equal(matched, anchors[anchor])
    assert (boxes[:, :2] > -reach - 1e-5).all() and (boxes[:, :2] < 1 + reach + 1e-5).all()


def test_empty_targets_give_objectness_loss_only():
    model = build_model("yolov5n.yaml", nc=3)
    losses = AnchorBasedCriterion(3, model.head.anchors)(model(torch.rand(2, 3, 64, 64)), torch.zeros(0, 6))
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    assert values["box"] == values["cls"] == 0 and values["obj"] > 0
    sum(losses.values()).backward()


def test_gains_scale_with_levels_classes_and_size():
    h = SimpleNamespace(
        box=0.05, cls=0.5, obj=1.0, cls_pw=1.0, obj_pw=1.0, anchor_t=4.0, fl_gamma=0.0, label_smoothing=0.0
    )
    model = build_model("yolov5n6.yaml", nc=20)
    gains = model.criterion(h, 320).gains
    assert gains == pytest.approx({"box": 0.05 * 3 / 4, "cls": 0.5 * 20 / 80 * 3 / 4, "obj": 1.0 * 0.25 * 3 / 4})


@pytest.mark.parametrize("levels", [1, 2, 6, 8])
def test_any_number_of_levels(levels):
    anchors = torch.tensor([[10.0, 13.0]]).expand(levels, 1, 2)
    raw = [torch.zeros(1, 1, 2 ** (levels - i), 2 ** (levels - i), 5 + 2) for i in range(levels)]
    balance = AnchorBasedCriterion(2, anchors).balance
    assert AnchorBasedCriterion(2, anchors)(raw, torch.zeros(0, 6))["obj"].item() == pytest.approx(
        math.log(2) * sum(balance[:levels])
    )
    assert balance[5:] == (0.02,) * max(levels - 5, 0)


def test_one_class_has_no_class_loss_and_training_reduces_the_losses():
    torch.manual_seed(0)
    model = build_model("yolov5n.yaml", nc=1)
    images, targets = torch.rand(2, 3, 64, 64), torch.tensor([[0, 0, 0.5, 0.5, 0.4, 0.5], [1, 0, 0.3, 0.6, 0.3, 0.2]])
    criterion = AnchorBasedCriterion(1, model.head.anchors)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    totals = []
    for _ in range(15):
        losses = criterion(model(images), targets)
        assert float(losses["cls"].detach()) == 0
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]


@pytest.mark.parametrize("options", [{"fl_gamma": 1.5}, {"label_smoothing": 0.1}, {"cls_pw": 2.0, "obj_pw": 0.5}])
def test_options_change_the_loss(options):
    torch.manual_seed(0)
    model = build_model("yolov5n.yaml", nc=3)
    raw = [y.detach() for y in model(torch.rand(1, 3, 64, 64))]
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.5]])
    plain = AnchorBasedCriterion(3, model.head.anchors)(raw, targets)
    other = AnchorBasedCriterion(3, model.head.anchors, **options)(raw, targets)
    assert float(plain["cls"]) != float(other["cls"]) and float(plain["box"]) == float(other["box"])


def test_half_precision_raw_maps_are_computed_in_float32():
    model = build_model("yolov5n.yaml", nc=3)
    raw = [y.detach() for y in model(torch.rand(1, 3, 64, 64))]
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.5]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = AnchorBasedCriterion(3, model.head.anchors)([y.bfloat16() for y in raw], targets)
    assert all(value.dtype == torch.float32 for value in losses.values())
