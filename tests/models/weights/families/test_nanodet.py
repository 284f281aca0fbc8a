"""NanoDet-m: published names, channel order, normalization and the order of the head's outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.weights.families import FAMILIES
from graftdet.models.weights.families.nanodet import BINS
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

MEAN, STD = np.array([103.53, 116.28, 123.675], np.float32), np.array([57.375, 57.12, 58.395], np.float32)  # B, G, R


def published_state(nc=2, randomize=True):
    """Tensors under the published names, in the published order of layers."""
    family, state = FAMILIES["NanoDet"](), {}
    names = family.layer_order([(24, 3, 3, 3), (nc + 4 * BINS, 96, 1, 1)])
    shapes = [tuple(layer.weight.shape) for layer in execution_order(build_model("nanodet-m.yaml", nc=nc))]
    for name, shape in zip(names, shapes, strict=True):
        state[f"{name}.weight"] = torch.randn(shape) / np.prod(shape[1:]) ** 0.5
        batch_norm = family.batch_norm_of(name)
        for key in ("weight", "bias", "running_mean", "running_var") if batch_norm else ():
            state[f"{batch_norm}.{key}"] = torch.rand(shape[0]) + 0.1
        if not batch_norm:
            state[f"{name}.bias"] = torch.randn(shape[0])
    return state


def execution_order(model):
    """The convolutions of a model in the order in which they run, those of the two other lateral rows moved up."""
    layers, hooks = [], []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda layer, *_: layers.append(layer)))
    model.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    first = next(i for i, layer in enumerate(layers) if layer is model.model[5])
    return [*layers[:first], *(model.model[row] for row in (10, 7, 5)), *layers[first + 3 :]]


def test_every_tensor_of_a_file_is_used(tmp_path):
    state = published_state()
    state |= {"head.gfl_reg.0.weight": torch.zeros(32, 96, 1, 1), "head.distribution_project.project": torch.zeros(8)}
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}}, tmp_path / "a.ckpt")
    weights = load_weights(tmp_path / "a.ckpt")
    assert weights.family == "NanoDet" and weights.nc == 2 and weights.size == 320
    assert sorted(weights.unused) == ["head.distribution_project.project", "head.gfl_reg.0.weight"]
    model = build_from_weights(weights)
    assert not [name for name in model.state_dict() if name not in weights.state and "num_batches" not in name]
    # distances come first, classes behind them
    assert torch.equal(weights.state["model.16.outputs.1.bias"][-2:], state["head.gfl_cls.1.bias"][:2])
    # batch norms compute the same with another eps
    mean, variance = state["backbone.conv1.1.running_mean"], state["backbone.conv1.1.running_var"]
    x = torch.randn(1, 24, 4, 4)
    expected = nn.functional.batch_norm(
        x, mean, variance, state["backbone.conv1.1.weight"], state["backbone.conv1.1.bias"], eps=1e-5
    )
    torch.testing.assert_close(model.model[1].conv1[1](x), expected)
    # RGB in 0..1 instead of normalized BGR in 0..255
    bgr = torch.rand(1, 3, 64, 64) * 255
    normalized = (bgr - torch.from_numpy(MEAN).view(3, 1, 1)) / torch.from_numpy(STD).view(3, 1, 1)
    first = nn.functional.conv2d(normalized, state["backbone.conv1.0.weight"], stride=2, padding=1)
    ours = model.model[1].conv1[0](model.model[0](bgr.flip(1) / 255))
    torch.testing.assert_close(ours, first, rtol=1e-4, atol=1e-4)


def test_another_width_is_named(tmp_path):
    state = published_state()
    state["backbone.stage2.0.branch1.2.weight"] = torch.zeros(88, 24, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: is a NanoDet of other widths"):
        load_weights(tmp_path / "a.pth")


def test_the_published_onnx_gives_its_outputs(published_file, run_onnx):
    path = published_file("nanodet_m.onnx")
    weights = load_weights(path)
    assert weights.merged_batch_norms and weights.size == 416 and weights.names[0] == "person"
    model = build_from_weights(weights)
    bgr = np.random.default_rng(0).integers(0, 256, (416, 416, 3)).astype(np.float32)
    outputs = run_onnx(path, ((bgr - MEAN) / STD).transpose(2, 0, 1)[None])
    with torch.no_grad():
        raw = model.raw_outputs(torch.from_numpy(bgr[..., ::-1].transpose(2, 0, 1)[None] / 255))
    for level, maps in enumerate(raw):
        distances, classes = maps.flatten(2).transpose(1, 2).split([4 * BINS, 80], 2)
        assert np.abs(outputs[level] - classes.sigmoid().numpy()).max() < 1e-4
        assert np.abs(outputs[3 + level] - distances.numpy()).max() < 1e-4


def test_the_published_pth_is_read_whole(published_file):
    weights = load_weights(published_file("nanodet_m.pth"))
    assert weights.nc == 8 and len(weights.unused) == 7
    build_from_weights(weights)
