"""Weights of a backbone into its row under the names of several publishers, and real files."""

import re

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, build_model
from graftdet.models.weights.backbones.row_transfer import load_into_row
from graftdet.models.weights.weights_file import WeightsFile, load_weights
from graftdet.utils.errors import UserError


def model_of(*row):
    head = [[[-1], 1, "Detect", ["nc", "anchors"]]]
    return build_model({"nc": 2, "anchors": 3, "backbone": [[-1, 1, *row], [0, 1, "Index", [2]]], "head": head})


def with_statistics(module):
    """`module` in eval mode with random batch norms, some of little variance."""
    generator = torch.Generator().manual_seed(1)
    for batch_norm in module.modules():
        if isinstance(batch_norm, nn.BatchNorm2d):
            for tensor in (batch_norm.weight.data, batch_norm.bias.data, batch_norm.running_mean):
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
            batch_norm.running_var.copy_(torch.rand(tensor.shape, generator=generator) + 1e-3)
            batch_norm.eps = 1e-5
    return module.eval()


def timm_mobilenet_v2(name):
    """torchvision's name -> timm's: blocks of stages, convolutions and batch norms by their position."""
    parts = name.split(".")
    if parts[1] == "0":
        return f"{['conv_stem', 'bn1'][int(parts[2])]}.{parts[-1]}"
    stages = [count for count in (1, 2, 3, 4, 3, 3, 1) for _ in range(1)]
    index = int(parts[1]) - 1
    stage = next(s for s in range(7) if index < sum(stages[: s + 1]))
    layer, *inner = parts[3:-1]
    number = (1 if stage == 0 else 0) + int(layer) + (int(inner[0]) if inner else 0) * 10
    position = {0: "conv_pw", 10: "bn1", 1: "conv_dw", 11: "bn2", 2: "conv_pwl", 3: "bn3"}[number]
    return f"blocks.{stage}.{index - sum(stages[:stage])}.{position}.{parts[-1]}"


def paddle(name):
    """Other words for containers, and PaddlePaddle's for statistics, as they are after reading."""
    return re.sub(r"^(\w+)\.", lambda found: f"net.{found[1].upper()}.", name)


@pytest.mark.parametrize(
    ("row", "rename"),
    [
        (["MobileNetV2", [0.5]], timm_mobilenet_v2),
        (["MobileNetV3", ["small"]], paddle),
        (["ShuffleNetV2", [0.5]], paddle),
        (["GhostNet", [0.5, [4, 6, 8]]], paddle),
        (["MobileViT", ["xxs"]], paddle),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
@pytest.mark.parametrize("sort", [False, True], ids=["file", "sorted"])
def test_other_names_load_by_structure_and_give_the_same_maps(row, rename, sort):
    if sort and row[0] == "MobileViT":
        pytest.skip("its layer norms cannot be told apart without an order")
    torch.manual_seed(0)
    alone = with_statistics(BLOCKS[row[0]](3, *row[1]))
    state = {rename(name): tensor for name, tensor in alone.state_dict().items()} | {"fc.weight": torch.zeros(10, 9)}
    assert len(state) == len(alone.state_dict()) + 1
    model = model_of(*row).eval()
    report = load_into_row(model, 0, WeightsFile("x.pth", "state dict", dict(sorted(state.items())) if sort else state))
    images = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(model.model[0](images), alone(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())
    assert report.by_structure and report.fraction == 1 and not report.missing
    assert set(report.skipped) == {"fc.weight"} and "left over in the file: 1 tensor (fc)" in str(report)
    assert "matched by order and shapes" in str(report)


def test_ambiguous_structure_is_refused_with_the_reason():
    state = {
        f"{copy}.x.{name}": tensor
        for copy in ("teacher", "student")
        for name, tensor in BLOCKS["MobileNetV1"](3, 0.25).state_dict().items()
    }
    with pytest.raises(UserError, match=r"none of its .* fits row 0 \(MobileNetV1\); .*layers occur more than once"):
        load_into_row(model_of("MobileNetV1", [0.25]), 0, WeightsFile("x.pth", "state dict", state))


def test_names_win_where_they_give_as_much():
    state = BLOCKS["MobileNetV1"](3, 0.25).state_dict()
    both = {f"teacher.x.{name}": tensor + 1 for name, tensor in state.items()} | state
    model = model_of("MobileNetV1", [0.25])
    report = load_into_row(model, 0, WeightsFile("x.pth", "state dict", both))
    assert not report.by_structure and report.left_over == ["teacher"]
    assert torch.equal(model.model[0].conv_stem.weight, state["conv_stem.weight"])


@pytest.mark.parametrize(
    ("file", "row", "first"),
    [
        ("retina-mobilenet0.25.pth", ["MobileNetV1", [0.25]], "body.stage1.0.0.weight"),
        ("nanodet_m.pth", ["ShuffleNetV2", [1.0]], "model.1.conv1.0.weight"),
    ],
)
def test_backbones_of_real_detectors_load_whole_and_their_batch_norms_fit(published_file, file, row, first):
    weights = load_weights(published_file(file))
    model = model_of(*row)
    report = load_into_row(model, 0, weights)
    assert report.by_structure and report.fraction == 1 and 0.1 < report.deviation < 0.4
    stem = next(module for module in model.model[0].modules() if isinstance(module, nn.Conv2d))
    assert torch.equal(stem.weight, weights.state[first])


def test_a_real_backbone_that_is_connected_otherwise_is_reported(published_file):
    report = load_into_row(model_of("ShuffleNetV2", [0.5]), 0, load_weights(published_file("yolo-fastestv2.pth")))
    assert report.fraction == 1 and "connected differently" in str(report)


def two_rows():
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "nn.Identity", []], [-1, 1, "C3", [16]], [-1, 1, "Conv", [16, 3, 2]]]
    return build_model({"nc": 2, "anchors": 3, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc", "anchors"]]]})


@pytest.mark.parametrize("renamed", [False, True], ids=["name", "structure"])
def test_several_rows_take_the_weights_of_one_file(renamed):
    torch.manual_seed(0)
    model, other = two_rows(), with_statistics(two_rows())
    state = {name: tensor for name, tensor in other.state_dict().items() if name.startswith(("model.0.", "model.2."))}
    if renamed:
        state = {name.replace("model.0.", "stem.").replace("model.2.", "stage."): state[name] for name in state}
    before = model.model[3].conv.weight.clone()
    report = load_into_row(model, "0-2", WeightsFile("x.pth", "state dict", state))
    assert report.fraction == 1 and report.by_structure == renamed and not report.missing
    assert torch.equal(model.model[2].cv1.conv.weight, other.model[2].cv1.conv.weight)
    assert torch.equal(model.model[0].bn.weight, other.model[0].bn.weight) != renamed  # rescaled from another eps
    assert torch.equal(model.model[3].conv.weight, before)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("2-9", "rows 2-9: the model has rows 0 to 4; expected a range such as 0-9"),
        ("3-2", "rows 3-2: the model has rows 0 to 4"),
        ("0-2", "x.pth: none of its 1 tensor fits rows 0-2; expected weights of Conv, C3"),
    ],
)
def test_wrong_ranges_are_reported(rows, message):
    with pytest.raises(UserError, match=message):
        load_into_row(two_rows(), rows, WeightsFile("x.pth", "state dict", {"fc.weight": torch.zeros(3)}))
