"""Building: published architectures, strides, fusing, batch norms."""

import copy

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.utils.config import CONFIGS
from tests.models.graph.small_models import model_of

# parameter counts of the published architectures at 80 classes
PUBLISHED = {
    "yolov5n": 1872157,
    "yolov5s": 7235389,
    "yolov5m": 21190557,
    "yolov5l": 46563709,
    "yolov5n6": 3246940,
    "yolov5s6": 12626620,
    "yolov5m6": 35731932,
    "yolov5s-ghost": 3897605,
    "yolov5s-transformer": 7235645,
    "yolov5s-LeakyReLU": 7235389,
    "yolov3-tiny": 8852366,
    "yolov3": 61949149,
    "yolov3-spp": 62998749,
    "yolov5-fpn": 41117565,
    "yolov5-panet": 46563709,
    "yolov5-p2": 47493372,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    with torch.device("cpu"):
        model = build_model(f"{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


def test_strides_of_many_levels():
    assert build_model("yolov3-tiny.yaml").stride.tolist() == [16, 32]
    assert build_model("yolov5-p34.yaml").stride.tolist() == [8, 16]
    assert build_model("yolov5n6.yaml").stride.tolist() == [8, 16, 32, 64]


def test_a_stride_that_does_not_fit_the_probe_size():
    rows = [[-1, 1, "Conv", [8, 3, 2]]] * 9
    assert model_of(*rows).stride.tolist() == [512]


def test_strides_that_do_not_divide_the_probe_size_are_integers():
    model = model_of([-1, 1, "Conv", [8, 3, 3]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]])
    assert model.stride.tolist() == [12] and model.size_multiple == 12


@pytest.mark.parametrize("name", ["yolov5n", "yolov5s-ghost", "yolov5s-transformer", "yolov3-tiny"])
def test_fuse_preserves_the_outputs(name):
    torch.manual_seed(0)
    model = build_model(f"{name}.yaml")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    model.eval()
    fused = copy.deepcopy(model).fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        for before, after in zip(model.raw_outputs(images), fused.raw_outputs(images), strict=True):
            assert (before - after).abs().max() <= 1e-4 * before.abs().max()


def test_batch_norms_follow_the_recipe():
    layers = [m for m in build_model("yolov5n.yaml").modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers and all((m.eps, m.momentum) == (1e-3, 0.03) for m in layers)


def test_a_model_names_its_file():
    assert build_model("graft-n.yaml").spec.file == "graft-n.yaml"


def test_other_channels_and_classes():
    model = build_model("yolov5n.yaml", nc=4, ch=1)
    boxes, scores = model.eval()(torch.rand(1, 1, 64, 96))
    assert boxes.shape == (1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 4) and scores.shape[-1] == 4
    assert model.names == ["0", "1", "2", "3"]


def test_comments_in_other_encodings_are_accepted(tmp_path):
    text = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
    (tmp_path / "gbk.yaml").write_bytes("# 模型\n".encode("gbk") + text.encode())
    assert build_model(tmp_path / "gbk.yaml").nc == 80
