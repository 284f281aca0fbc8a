"""PicoDet: published blocks with their unused branches, ESNet and CSP-PAN."""

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, build_model
from graftdet.models.analysis.summary import summarize, summary_text, totals
from graftdet.utils.errors import UserError
from graftdet.utils.training.optim import parameter_groups

PUBLISHED = {
    "picodet-csp-pan": 4_633_964,
    "PicoDet-s": 894_160,
    "PicoDet-m": 1_900_664,
    "PicoDet-l": 3_255_760,
    "PicoDet-x": 3_767_824,
}
HEAD = [[[-1], 1, "Detect", ["nc", "anchors"]]]


def model_of(*rows, **keys):
    return build_model({"nc": 2, "anchors": 3, "backbone": list(rows), "head": HEAD, **keys})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    model = build_model(f"{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]
    assert model.stride.tolist() == [4, 8, 16, 32]


def test_unused_branches_are_frozen_and_reported():
    model = build_model("picodet-csp-pan.yaml")
    assert totals(summarize(model, (128, 128)))["unused"] == 1_949_072
    assert "(1,949,072 of them unused)" in summary_text(model, (128, 128))
    trained = sum(p.numel() for group in parameter_groups(model).values() for p in group)
    assert trained == 4_633_964 - 1_949_072


@pytest.mark.parametrize(("arguments", "unused"), [((16, 16, 1), ("branch2", "branch4")), ((16, 32, 2), ("branch3",))])
def test_frozen_parameters_are_those_without_a_gradient(arguments, unused):
    block = BLOCKS["ES_Bottleneck"](*arguments)
    for parameter in block.parameters():
        parameter.requires_grad_(True)
    block(torch.randn(2, 16, 8, 8)).square().mean().backward()
    unreached = {n for n, p in block.named_parameters() if p.grad is None}
    frozen = {n for n, p in BLOCKS["ES_Bottleneck"](*arguments).named_parameters() if not p.requires_grad}
    assert unreached == frozen and {n.split(".")[0] for n in frozen} == set(unused)


def test_stride_one_passes_half_of_the_channels_through():
    block = BLOCKS["ES_Bottleneck"](16, 16, 1).eval()
    x = torch.randn(1, 16, 5, 5)
    assert torch.equal(block(x)[:, 0::2], x[:, :8])  # shuffled: passed and changed channels in turn
    native = BLOCKS["ESBlock"](16, 16, 1, 0.5).eval()
    assert torch.equal(native(x)[:, 0::2], x[:, :8])


@pytest.mark.parametrize("block_name", ["ES_Bottleneck", "ESBlock"])
def test_wrong_widths_and_strides_are_reported(block_name):
    with pytest.raises(UserError, match=rf"row 1 .*{block_name}.*as wide out as in"):
        model_of([-1, 1, "CBH", [16, 3, 2]], [-1, 1, block_name, [32, 1]])
    with pytest.raises(UserError, match=rf"row 0 .*{block_name}.*stride must be 1 or 2"):
        model_of([-1, 1, block_name, [32, 3]])


def test_only_the_first_of_repeated_blocks_has_stride_two():
    model = model_of([-1, 1, "CBH", [16, 3, 2]], [-1, 3, "ES_Bottleneck", [32, 2]], [-1, 3, "ESBlock", [64, 2, 0.5]])
    assert [b.s for b in model.model[1]] == [2, 1, 1] == [b.s for b in model.model[2]]
    assert model.model[2][1].conv_pw[0].out_channels == 16  # the ratio stays


def test_activation_after_the_concatenation_of_bottleneck_csp():
    """PicoDet files of YOLOv5-Lite need a LeakyReLU that they do not name; YOLOv5 has SiLU; a row may name it."""
    rows = [[-1, 1, "CBH", [16, 3, 2]], [-1, 1, "BottleneckCSP", [16]]]
    assert isinstance(model_of(*rows).model[1].act, nn.SiLU)
    lite = model_of(*rows, [-1, 1, "ES_Bottleneck", [16, 1]]).model[1].act
    assert isinstance(lite, nn.LeakyReLU) and lite.negative_slope == 0.1
    rows[1][3] = [16, {"act": "nn.ReLU()"}]
    assert isinstance(model_of(*rows, [-1, 1, "ES_Bottleneck", [16, 1]]).model[1].act, nn.ReLU)


@pytest.mark.parametrize(("scale", "widths"), [(0.75, [96, 192, 384]), (1.0, [128, 256, 512]), (1.25, [160, 320, 640])])
def test_esnet_has_the_published_widths_and_ratios(scale, widths):
    net = BLOCKS["ESNet"](3, scale).eval()
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == widths and [m.shape[2] for m in maps] == [8, 4, 2]
    assert [len(stage) for stage in net.stages] == [3, 7, 3]
    inner = [block.conv_pw[0].out_channels * 2 / widths[i] for i, stage in enumerate(net.stages) for block in stage]
    ratios = net.RATIOS_S if scale == 0.75 else net.RATIOS_ML
    assert inner == pytest.approx(ratios, abs=0.045)  # to the nearest multiple of 8


@pytest.mark.parametrize(
    ("arguments", "message"), [([1.0, [0.5]], "ratios: expected a list of 13"), ([-1], "scale: expected")]
)
def test_esnet_reports_what_is_wrong(arguments, message):
    with pytest.raises(UserError, match=message):
        model_of([-1, 1, "ESNet", arguments])


@pytest.mark.parametrize("size", "sml")
def test_esnet_models_have_four_levels_and_5x5_kernels(size):
    model = build_model(f"picodet-esnet-{size}.yaml")
    assert model.stride.tolist() == [8, 16, 32, 64]
    extra = model.spec.rows[22]
    assert extra.module == "ADD" and [model.spec.rows[s].module for s in extra.sources] == ["DPConv", "DPConv"]
    assert all(p.requires_grad for p in model.parameters())
    kernels = {m.dw.conv.kernel_size for m in model.modules() if type(m).__name__ == "DPConv"}
    assert kernels == {(5, 5)}


@pytest.mark.parametrize("name", ["PicoDet-s", "picodet-esnet-s"])
def test_fusing_changes_no_output(name):
    model = build_model(f"{name}.yaml", nc=2).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.raw_outputs(x)
        after = model.fuse().raw_outputs(x)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))
    left = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) == (5 if name == "PicoDet-s" else 0)  # BottleneckCSP has one behind its join
