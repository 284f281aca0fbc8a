"""Weights files: own checkpoints, published files and bare state dicts, also into models of other classes."""

import os
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.backends.loading import newest_weights
from graftdet.models.blocks import BLOCKS
from graftdet.models.weights.transfer import build_from_weights, load_into
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError


def tiny(tiny_yaml, nc=None):
    return build_model(ModelSpec.from_text(tiny_yaml, "tiny.yaml"), nc=nc)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k].float(), second[k].float()) for k in first)


def test_a_checkpoint_gives_its_ema_where_it_has_one(tiny_yaml, tmp_path):
    model, ema = tiny(tiny_yaml), tiny(tiny_yaml)
    for name, state in {"flat": ema.half().state_dict(), "nested": {"model": ema.state_dict(), "updates": 3}}.items():
        content = {"yaml": tiny_yaml, "names": list("abc"), "nc": 3, "model": model.state_dict(), "ema": state}
        weights = load_weights(save_checkpoint(tmp_path / f"{name}.pt", content))
        assert weights.source == "checkpoint" and weights.names == ["a", "b", "c"] and weights.nc == 3
        assert same(weights.state, ema.state_dict())
        assert all(t.dtype in (torch.float32, torch.int64) for t in weights.state.values())
    content = {"yaml": tiny_yaml, "nc": 3, "model": model.state_dict(), "ema": None}
    assert same(load_weights(save_checkpoint(tmp_path / "none.pt", content)).state, model.state_dict())


def test_the_model_is_rebuilt_from_a_checkpoint(tiny_weights):
    content = load_checkpoint(tiny_weights)
    model = build_from_weights(load_weights(tiny_weights))
    assert same(model.state_dict(), content["model"]) and model.names == content["names"] and not model.training


def test_a_published_file_gives_the_outputs_of_its_weights(tiny_yaml, tmp_path, monkeypatch):
    """An object of a foreign class with our tensors in its tree: the names and the YAML are all that is needed."""
    fake = types.ModuleType("models.yolo")
    fake.DetectionModel = type("DetectionModel", (nn.Module,), {"__module__": "models.yolo"})
    monkeypatch.setitem(sys.modules, "models.yolo", fake)
    model = tiny(tiny_yaml, nc=5).eval()
    foreign = fake.DetectionModel()
    foreign.model = nn.Sequential(*[holder(layer) for layer in model.model])
    spec = ModelSpec.from_text(tiny_yaml, "tiny.yaml")
    rows = [row.written for row in spec.rows]
    foreign.yaml = {"nc": 5, "ch": 3, "anchors": spec.anchors, "backbone": rows[:5], "head": rows[5:]}
    foreign.names, foreign.stride = [f"thing{i}" for i in range(5)], torch.tensor([8.0, 16.0])
    torch.save({"model": foreign.half(), "ema": None}, tmp_path / "published.pt")
    monkeypatch.delitem(sys.modules, "models.yolo")

    loaded = load_model(tmp_path / "published.pt")
    assert loaded.names == foreign.names and loaded.stride == 16 and loaded.nc == 5
    images = torch.rand(2, 3, 64, 96)
    halved = tiny(tiny_yaml, nc=5).eval()
    halved.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()})
    with torch.no_grad():
        for actual, expected in zip(loaded(images), halved(images), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def holder(layer):
    """A module that holds the parameters, buffers and children of `layer` and nothing else."""
    empty = nn.Module()
    for name, value in layer._parameters.items():
        empty.register_parameter(name, value)
    for name, value in layer._buffers.items():
        empty.register_buffer(name, value)
    for name, child in layer._modules.items():
        empty.add_module(name, holder(child))
    return empty


def test_box_outputs_are_transferred_with_other_classes(tiny_yaml, tiny_weights):
    torch.manual_seed(1)
    model = tiny(tiny_yaml, nc=7)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = load_weights(tiny_weights)
    report = load_into(model, weights)
    assert report.partial == [f"model.8.m.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    assert not report.missing and not report.skipped
    for name in report.partial:
        now = model.state_dict()[name].view(3, 12, -1)
        assert torch.equal(now[:, :5], weights.state[name].view(3, 8, -1)[:, :5])
        assert torch.equal(now[:, 5:], before[name].view(3, 12, -1)[:, 5:])
    new = sum(before[name].numel() * 7 // 12 for name in report.partial)
    total = sum(p.numel() for p in model.parameters())
    assert report.fraction == pytest.approx((total - new) / total)
    assert "class outputs: 0 of 7 matched by name, all are newly initialized" in str(report)


def test_everything_is_transferred_with_equal_classes(tiny_yaml, tiny_weights):
    report = load_into(tiny(tiny_yaml), load_weights(tiny_weights))
    assert report.fraction == 1 and not report.missing and not report.partial and "100.0%" in str(report)


def test_tensors_that_do_not_fit_are_reported(tiny_yaml, tiny_weights, tmp_path):
    weights = load_weights(tiny_weights)
    wider = build_model(ModelSpec.from_text(tiny_yaml.replace("[24, 3, 2]", "[32, 3, 2]"), "wider.yaml"))
    report = load_into(wider, weights)
    assert "model.4.conv.weight" in report.missing and "shape (24, 16, 3, 3)" in report.skipped["model.4.conv.weight"]
    assert 0 < report.fraction < 1
    torch.save({"other.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="none of its 1 tensor fits"):
        load_into(wider, load_weights(tmp_path / "other.pt"))


def test_models_that_cannot_be_built(tiny_yaml, tiny_weights, tmp_path):
    good = load_checkpoint(tiny_weights)

    def error_of(name, **changes):
        path = save_checkpoint(tmp_path / f"{name}.pt", {**good, **changes})
        with pytest.raises(UserError) as caught:
            load_model(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    unknown = error_of("unknown", yaml=tiny_yaml.replace("C3, [16, False]", "MyBlock, [16]"))
    assert "'MyBlock'" in unknown and "--plugins" in unknown and "row 7" in unknown
    near = error_of("near", yaml=tiny_yaml.replace("C3, [16, False]", "Conw, [16]"))
    assert "'Conw'" in near and "did you mean 'Conv'" in near and near.count("plugins FILE.py") == 1
    assert near.count("load_model(..., plugins=['FILE.py'])") == 1 and "load_model" in unknown
    assert "without a match" in error_of("less", model={k: v for k, v in good["model"].items() if "model.0" not in k})
    assert "2 names for 3 classes" in error_of("names", names=["a", "b"])
    assert "no model" in error_of("empty", model={})
    assert "not valid YAML" in error_of("yaml", yaml="nc: [")
    torch.save(good["model"], tmp_path / "bare.pt")
    with pytest.raises(UserError, match="bare.pt.*without their YAML.*--cfg"):
        load_model(tmp_path / "bare.pt")


def test_inputs_of_a_loaded_model_may_be_arrays_or_tensors(tiny_weights):
    model = load_model(tiny_weights)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8)
    expected = model(torch.from_numpy(images.astype(np.float32) / 255))
    for given in (images, torch.from_numpy(images), images.astype(np.float32) / 255):
        for a, b in zip(model(given), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    boxes, scores = expected
    assert boxes.shape == (2, 3 * (8 * 12 + 4 * 6), 4) and scores.shape == (2, boxes.shape[1], 3)


def test_the_newest_run_is_found(tmp_path):
    with pytest.raises(UserError, match="--weights"):
        newest_weights(tmp_path)
    for number, name in enumerate(("exp", "exp3", "exp2")):
        path = tmp_path / name / "weights" / "best.pt"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
        os.utime(path, (number, number))
    assert newest_weights(tmp_path) == tmp_path / "exp2" / "weights" / "best.pt"


def test_load_model_loads_the_given_plugins(tiny_weights, tmp_path):
    (tmp_path / "own.py").write_text("from torch import nn\n\n\nclass GivenToLoadModel(nn.Identity):\n    pass\n")
    assert "GivenToLoadModel" not in BLOCKS
    load_model(tiny_weights, plugins=[str(tmp_path / "own.py")])
    assert "GivenToLoadModel" in BLOCKS
