"""The module `timm`: a stand-in for the package where it is not installed, the real one where it is."""

import sys
import types

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, ModelSpec, build_model
from graftdet.models.graph import plugins
from graftdet.models.graph.plugins import load_plugins, timm_models
from graftdet.models.weights.backbones.row_transfer import load_into_row
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

YAML = """nc: 3
backbone:
  - [-1, 1, timm, {args}]
  - [0, 1, Index, [0]]
  - [0, 1, Index, [1]]
head:
  - [[1, 2], 1, AnchorFreeDetect, [nc]]
"""


class TinyNet(nn.Module):
    """Maps at strides 4, 8 and 16 with names as timm flattens them."""

    output_fmt = "NCHW"

    def __init__(self, c1, indices):
        super().__init__()
        self.indices = indices
        self.stem = nn.Conv2d(c1, 8, 3, 4, 1, bias=False)
        for number, c in enumerate((8, 16)):
            self.add_module(f"stages_{number}", nn.Sequential(nn.Conv2d(c, 2 * c, 3, 2, 1), nn.BatchNorm2d(2 * c)))
        self.feature_info = types.SimpleNamespace(reduction=lambda: [4, 8, 16])

    def forward(self, x):
        maps = [self.stem(x)]
        maps.append(self.stages_0(maps[-1]))
        maps.append(self.stages_1(maps[-1]))
        maps = [maps[index] for index in self.indices]
        return maps if self.output_fmt == "NCHW" else [y.permute(0, 2, 3, 1) for y in maps]


class NhwcNet(TinyNet):
    output_fmt = "NHWC"


@pytest.fixture
def forget(monkeypatch):
    """Nothing that a test loads stays."""
    monkeypatch.setattr(plugins, "_loaded", {})
    yield
    for table in (BLOCKS._entries, BLOCKS._options):
        table.pop("timm", None)


@pytest.fixture
def fake(monkeypatch, forget):
    """A package of two models; calls of `create_model` are recorded."""
    calls = []

    def create_model(name, pretrained, features_only, in_chans, out_indices=(0, 1, 2)):
        calls.append((name, pretrained, features_only))
        if name == "classifier":
            raise RuntimeError("features_only not implemented for Vision Transformer models.")
        return {"tiny": TinyNet, "nhwc": NhwcNet}[name](in_chans, out_indices)

    module = types.ModuleType("timm")
    module.list_models, module.create_model = lambda: ["tiny", "nhwc", "classifier"], create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return calls


def model_of(args):
    return build_model(ModelSpec.from_text(YAML.format(args=args), "timm.yaml"))


@pytest.mark.parametrize("name", ["tiny", "nhwc"])
def test_a_model_is_a_row_that_gives_a_list_of_maps(fake, name):
    assert load_plugins(["timm"]) == ["timm"] and load_plugins(["timm"]) == ["timm"]
    model = model_of(f"[{name}, [16, 8]]")
    assert model.shapes[0] == [(32, 40, 40), (16, 80, 80)] and model.stride.tolist() == [16, 8]
    assert {(pretrained, features) for _, pretrained, features in fake} == {(False, True)}
    boxes, scores = model.eval()(torch.rand(1, 3, 64, 64))
    assert boxes.shape == (1, 4 * 4 + 8 * 8, 4) and scores.shape == (1, 80, 3)


def test_a_file_of_the_publisher_is_loaded_by_name(fake, tmp_path):
    load_plugins(["timm"])
    model = model_of("[tiny, [8, 16]]")
    state = {
        name.removeprefix("body.").replace("stages_", "stages."): torch.rand_like(tensor.float())
        for name, tensor in model.model[0].state_dict().items()
    }
    torch.save(state | {"head.weight": torch.zeros(1000, 32)}, tmp_path / "tiny.pth")
    report = load_into_row(model, 0, load_weights(tmp_path / "tiny.pth"))
    assert report.fraction == 1 and not report.by_structure and list(report.skipped) == ["head.weight"]
    torch.testing.assert_close(model.model[0].body.stages_1[0].weight, state["stages.1.0.weight"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("[tinny]", "timm has no model 'tinny'; did you mean 'tiny'"),
        ("[3]", "timm has no model 3"),
        ("[tiny, [8, 32]]", r"out: expected a list of different strides, some of \[4, 8, 16\], got \[8, 32\]"),
        ("[tiny, [8, 16], True]", "weights are never downloaded: omit pretrained and give a file with --weights"),
        ("[classifier]", "timm cannot build classifier as a list of maps .features_only not implemented"),
    ],
)
def test_wrong_rows_are_reported(fake, args, message):
    load_plugins(["timm"])
    with pytest.raises(UserError, match=f"timm.yaml:3:.* row 0 .*{message}"):
        model_of(args)


def test_a_missing_package_is_named(monkeypatch, forget):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="^--plugins timm: is not installed; install it with 'pip install timm'$"):
        load_plugins(["timm"])


def test_a_broken_package_is_named(monkeypatch, forget):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(timm_models, "importlib", types.SimpleNamespace(import_module=fail))
    with pytest.raises(UserError, match="--plugins timm: cannot be imported .RuntimeError: operator torchvision::nms"):
        load_plugins(["timm"])


def test_the_module_without_the_plugin_names_it():
    with pytest.raises(UserError, match="'timm' is not a known module; models of timm are available with --plugins"):
        model_of("[tiny]")


def test_the_real_package(forget):
    pytest.importorskip("timm")
    load_plugins(["timm"])
    assert model_of("[mobilenetv3_small_100, [8, 16]]").shapes[0] == [(24, 80, 80), (48, 40, 40)]
