"""GhostNet: published counts, surplus channels, published variants, Index, published weights by name, fusing."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, build_model
from graftdet.models.analysis.summary import summarize
from graftdet.models.weights.backbones.row_transfer import load_into_row
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError

HEAD = [[[-1], 1, "Detect", ["nc", "anchors"]]]


def model_of(*rows, **keys):
    return build_model({"nc": 2, "anchors": 3, "backbone": list(rows), "head": HEAD, **keys})


def scrambled(module):
    """`module` in eval mode with random batch norms."""
    generator = torch.Generator().manual_seed(1)
    for bn in module.modules():
        if isinstance(bn, nn.BatchNorm2d):
            for tensor in (bn.weight.data, bn.bias.data, bn.running_mean, bn.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return module.eval()


def test_whole_network_has_the_published_counts():
    backbone = BLOCKS["GhostNet"](3)
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(960, 1280, 1), nn.Flatten(), nn.Linear(1280, 1000))
    count = sum(p.numel() for module in (backbone, classifier) for p in module.parameters())
    assert count == 5_182_508
    assert sum(p.numel() for p in backbone.parameters()) == 2_671_428
    row = summarize(model_of([-1, 1, "GhostNet", []], [0, 1, "Index", [2]]), (224, 224))[0]
    assert row.macs / 1e6 + 2.5 == pytest.approx(155, rel=0.03)  # the classifier has 2.5 M
    assert list(row.shapes) == [(40, 28, 28), (112, 14, 14), (960, 7, 7)]


def test_stages_select_maps_and_unused_layers_are_not_built():
    maps = BLOCKS["GhostNet"](3, 1.0, [8, 4])
    assert [m.shape[1] for m in maps.eval()(torch.zeros(1, 3, 64, 64))] == [160, 40]
    assert len(maps.blocks) == 9  # no last convolution
    half = BLOCKS["GhostNet"](3, 0.5).eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in half] == [20, 56, 480]


@pytest.mark.parametrize("arguments", [[1.0, [4, 10]], [1.0, []], [1.0, [4, 4]], [1.0, 9], [0], ["wide"]])
def test_wrong_stages_and_widths_are_reported(arguments):
    with pytest.raises(UserError, match=r"row 0 .*GhostNet.*((stages|width): expected|'width' must be a number)"):
        model_of([-1, 1, "GhostNet", arguments])


def test_width_multiple_does_not_apply_to_the_backbone():
    rows = [[-1, 1, "GhostNet", [1.0, [4, 6, 9]]], [0, 1, "Index", [1]], [-1, 1, "GhostModule", [64]]]
    model = model_of(*rows, width_multiple=0.25)
    assert [shape[0] for shape in model.shapes[0]] == [40, 112, 960]
    assert model.shapes[1][0] == 112 and model.shapes[2][0] == 16


def test_index_selects_a_map_and_wrong_indices_are_reported():
    maps = [torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 1, 1)]
    assert BLOCKS["Index"](1)(maps) is maps[1]
    with pytest.raises(UserError, match=r"row 1 .*Index.*index 3 of 3 maps"):
        model_of([-1, 1, "GhostNet", []], [0, 1, "Index", [3]])
    with pytest.raises(UserError, match=r"row 1 .*Index.*it joins maps: give 'from' as a list"):
        model_of([-1, 1, "Conv", [8]], [0, 1, "Index", [0]])
    with pytest.raises(UserError, match=r"row 0 gives a list of 3 maps; pick one"):
        model_of([-1, 1, "GhostNet", []], [0, 1, "Conv", [8]])


def test_a_head_reads_the_maps_of_a_backbone():
    model = build_model(
        {"nc": 2, "anchors": 3, "backbone": [[-1, 1, "GhostNet", []]], "head": [[[0], 1, "Detect", ["nc", "anchors"]]]}
    )
    assert model.stride.tolist() == [8, 16, 32]


@pytest.mark.parametrize("ratio", [2, 3, 5])
def test_surplus_ghost_channels_are_dropped(ratio):
    exact, cut = BLOCKS["GhostModule"](6, 15 * ratio, 1, ratio), BLOCKS["GhostModule"](6, 15 * ratio - 1, 1, ratio)
    cut.load_state_dict(exact.state_dict())
    x = torch.randn(2, 6, 5, 5)
    assert torch.equal(cut.eval()(x), exact.eval()(x)[:, :-1])


def test_ghost_module_equals_a_reference_and_is_plain_at_ratio_one():
    block = scrambled(BLOCKS["GhostModule"](4, 6, 3, 3, 5, 2))
    x = torch.randn(2, 4, 9, 9)
    conv, bn = block.primary_conv[0], block.primary_conv[1]
    first = F.relu(bn(F.conv2d(x, conv.weight, stride=2, padding=1)))
    cheap = block.cheap_operation
    ghosts = F.relu(cheap[1](F.conv2d(first, cheap[0].weight, padding=2, groups=2)))
    assert torch.allclose(block(x), torch.cat((first, ghosts), 1))
    plain = BLOCKS["GhostModule"](4, 6, 1, 1)
    assert plain.eval()(x).shape == (2, 6, 9, 9) and plain.cheap_operation is None


def test_squeeze_excite_equals_a_reference_with_rounded_width():
    block = BLOCKS["SqueezeExcite"](72)
    assert block.conv_reduce.out_channels == 20  # 18 to the nearest multiple of 4
    x = torch.randn(2, 72, 3, 3)
    mean = x.mean((2, 3), keepdim=True)
    gate = (F.relu6(block.conv_expand(F.relu(block.conv_reduce(mean))) + 3)) / 6
    assert torch.allclose(block(x), x * gate, atol=1e-6)


def test_published_variants():
    """SE optionally without biases; GBNeck has one batch norm per Ghost module and a convolution as shortcut."""
    block = BLOCKS["GhostNetBottleneck"](16, 16, 32, 3, 1, 0.25, se_bias=False)
    assert block.se.conv_reduce.bias is None and block.se.conv_expand.bias is None
    excite = BLOCKS["SEModule"](8, 2)
    assert sum(p.numel() for p in excite.parameters()) == 2 * 8 * 4
    with torch.no_grad():
        excite.conv2.weight.zero_()
    x = torch.randn(1, 8, 2, 2)
    assert torch.allclose(excite(x), 0.5 * x)
    neck = scrambled(BLOCKS["GBNeck"](8, 8, 24, 5, 1, True))
    x = torch.randn(2, 8, 7, 7)
    side = neck.shortcut
    want = side[3](side[2](side[1](side[0](x)))) + neck.ghost2(neck.se(neck.ghost1(x)))
    assert torch.allclose(neck(x), want)
    assert BLOCKS["GBNeck"](8, 12, 24, 3, 2, True).eval()(x).shape == (2, 12, 4, 4)


def published_state():
    """Weights named as in the published ImageNet file, classifier included."""
    state = BLOCKS["GhostNet"](3).state_dict()
    state |= {
        name: torch.rand(t.shape) + 1e-3 for name, t in state.items() if t.ndim == 1
    }  # batch norms, some of little variance
    state |= {"conv_head.weight": torch.zeros(1280, 960, 1, 1), "classifier.weight": torch.zeros(1000, 1280)}
    return state


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_published_weights_load_by_name_into_a_row(prefix):
    model = model_of([-1, 1, "GhostNet", [1.0, [4, 6, 8]], "net"], ["net", 1, "Index", [0]])
    before = copy.deepcopy(model.model[1:].state_dict())
    state = published_state()
    report = load_into_row(model, "net", WeightsFile("x.pth", "state dict", {prefix + k: v for k, v in state.items()}))
    own = model.model[0].state_dict()
    batch_norms = {name.removesuffix("running_var") + "weight" for name in own if name.endswith("running_var")}
    assert all(torch.equal(own[name], state[name]) for name in own.keys() - batch_norms)
    alone = BLOCKS["GhostNet"](3, 1.0, [4, 6, 8]).eval()  # its batch norms have another eps
    alone.load_state_dict({name: state[name] for name in own})
    for a, b in zip(model.model[0].eval()(x := torch.rand(1, 3, 64, 64)), alone(x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())
    assert report.fraction == 1 and not report.missing
    skipped = {name.removeprefix(prefix) for name in report.skipped}
    assert {"classifier.weight", "conv_head.weight", "blocks.9.0.conv.weight"} <= skipped
    assert all(torch.equal(v, before[k]) for k, v in model.model[1:].state_dict().items())


def test_weights_that_do_not_fit_are_reported():
    model = model_of([-1, 1, "GhostNet", [0.5, [4]]], [0, 1, "Index", [0]])
    with pytest.raises(UserError, match="row 7: the model has no such row"):
        load_into_row(model, 7, WeightsFile("x.pth", "state dict", published_state()))
    with pytest.raises(UserError, match=r"none of its .* fits row 1 \(Index\)"):
        load_into_row(model, 1, WeightsFile("x.pth", "state dict", published_state()))
    with pytest.raises(UserError, match=r"conv_stem.weight has shape \(16, 3, 3, 3\), the row has \(8, 3, 3, 3\)"):
        load_into_row(model, 0, WeightsFile("x.pth", "state dict", published_state()))


@pytest.mark.parametrize("name", ["ghostnet", "ghost-blocks"])
def test_fusing_changes_no_output(name):
    model = scrambled(build_model(f"{name}.yaml", nc=2))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.raw_outputs(x)
        after = model.fuse().raw_outputs(x)
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))
    left = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(".ghost1.1" in n or ".ghost2.1" in n for n in left)  # GBNeck's, behind a join
