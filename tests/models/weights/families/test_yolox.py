"""YOLOX: published names, sizes, channel order and range of the input."""

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.yolox import _NAMES, _layers
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError


def published_state(model):
    """The tensors of a model under their published names."""
    rows = {own: published for published, own in _NAMES}
    state = {}
    for name, tensor in model.state_dict().items():
        row = ".".join(name.split(".")[:2]) + "."
        rest = name.removeprefix(row)
        if not row.startswith("model.24."):
            for number in "123":
                rest = rest.replace(f"cv{number}.", f"conv{number}.")
        state[rows[row] + rest] = tensor
    return state


@pytest.mark.parametrize("name", ["yolox-nano.yaml", "yolox-tiny.yaml"])
def test_every_tensor_of_a_file_is_used(name, tmp_path):
    torch.manual_seed(0)
    original = build_model(name, nc=2).eval()
    batch_norm = original.model[0].conv.bn
    batch_norm.running_mean.normal_(), batch_norm.running_var.uniform_(500, 5000)
    torch.save({"start_epoch": 300, "model": published_state(original), "optimizer": None}, tmp_path / "a.pth")
    weights = load_weights(tmp_path / "a.pth")
    assert (weights.family, f"yolox-{weights.model}.yaml") == ("YOLOX", name)
    assert (weights.nc, weights.size, list(weights.unused)) == (2, 416, [])
    model = build_from_weights(weights)
    bgr = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        for ours, theirs in zip(model.raw_outputs(bgr.flip(1) / 255), original.raw_outputs(bgr), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_names_of_all_layers_in_order():
    for name, depth in (("yolox-nano.yaml", 1), ("yolox-m.yaml", 2)):
        model = build_model(name)
        named = {key.removesuffix(".weight") for key, tensor in published_state(model).items() if tensor.dim() == 4}
        layers = list(_layers(depth, "nano" in name))
        assert set(layers) == named and len(layers) == len(named)
        assert sum(isinstance(layer, nn.Conv2d) for layer in model.modules()) == len(layers)


def test_a_word_behind_a_hyphen_is_a_size():
    assert ModelSpec.read("yolox-tiny.yaml").size == "tiny" and ModelSpec.read("yolox-x.yaml").width_multiple == 1.25
    with pytest.raises(UserError, match="has no size 'huge', expected one of s, tiny"):
        ModelSpec.read("yolox-huge.yaml")


def test_parameters_are_the_published_ones():
    published = {"nano": 0.91, "tiny": 5.06, "s": 9.0, "m": 25.3}
    for size, millions in published.items():
        model = build_model(f"yolox-{size}.yaml")
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)


def test_other_sizes_are_named(tmp_path):
    state = published_state(build_model("yolox-nano.yaml"))
    state["backbone.backbone.stem.conv.conv.weight"] = torch.zeros(40, 12, 3, 3)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: is a YOLOX of another size \(stem of 40 channels, 1 bottlenecks"):
        load_weights(tmp_path / "a.pth")
    state = published_state(build_model("yolox-nano.yaml"))
    del state["head.cls_preds.0.bias"]
    torch.save(state, tmp_path / "b.pth")
    with pytest.raises(UserError, match=r"b\.pth: is of the family YOLOX, but incomplete"):
        load_weights(tmp_path / "b.pth")
    assert FAMILIES["YOLOX"]().layer_order([(40, 12, 3, 3), (40, 1, 3, 3)]) is None


@pytest.mark.parametrize(("name", "nc"), [("yolox_nano-a", 3), ("yolox_nano-b", 80)])
def test_the_published_onnx_gives_its_outputs(published_file, run_onnx, name, nc):
    path = published_file(f"{name}.onnx")
    weights = load_weights(path)
    assert (weights.model, weights.nc, weights.size, weights.merged_batch_norms) == ("nano", nc, 416, True)
    bgr = np.random.default_rng(0).integers(0, 256, (416, 416, 3)).astype(np.float32)
    expected = run_onnx(path, bgr.transpose(2, 0, 1)[None])[0]
    with torch.no_grad():
        raw = build_from_weights(weights).raw_outputs(torch.from_numpy(bgr[..., ::-1].transpose(2, 0, 1)[None] / 255))
    rows = torch.cat([maps.flatten(2) for maps in raw], 2).transpose(1, 2)
    rows[..., 4:] = rows[..., 4:].sigmoid()
    assert np.abs(expected - rows.numpy()).max() < 1e-4
