"""Modules of YOLOv5-Lite: RepVGG as one convolution, adding, shuffling, and checks of every block."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, build_model
from graftdet.utils.errors import UserError

HEAD = [[[-1], 1, "Detect", ["nc", "anchors"]]]
ARGUMENTS = {  # module -> arguments after the input width of 16
    "CBH": [24, 3, 2],
    "DWConvblock": [32, 5, 2],
    "ES_SEModule": [4],
    "LC_SEModule": [4],
    "ES_Bottleneck": [32, 2],
    "LC_Block": [32, 2, 5, True],
    "Dense": [32, 1, 0.2],
    "conv_bn_relu_maxpool": [24],
    "Shuffle_Block": [32, 2],
    "stem": [24],
    "MBConvBlock": [16, 5, 1],
    "SEBlock": [4],
    "SELayer": [4],
    "mobilev3_bneck": [24, 72, 5, 2, True, True],
    "C3_GC": [32],
    "LC3": [32],
    "RepVGGBlock": [16],
    "ESBlock": [32, 2, 0.5],
    "DPConv": [24],
    "CSPDP": [24],
    "GhostModule": [31, 1, 2, 5],
    "GhostNetBottleneck": [24, 48, 3, 2, 0.25],
    "GBNeck": [24, 48, 3, 2, True],
    "SEModule": [2],
    "SqueezeExcite": [],
    "ConvBnAct": [24],
    "DynamicConv": [24, 3, 2],
    "DynamicConvBnAct": [24],
    "DynamicGhostModule": [31],
    "DynamicGhostBottleneck": [24, 3, 2, 0.25, 0.2],
    "C3_GhostModule": [24],
}


def model_of(*rows, **keys):
    return build_model({"nc": 2, "anchors": 3, "backbone": list(rows), "head": HEAD, **keys})


@pytest.mark.parametrize("block_name", ARGUMENTS)
def test_small_maps_copies_float64_and_gradients(block_name):
    """Maps of one position, odd sizes, float64, copies, finite gradients, a state dict there and back."""
    torch.manual_seed(0)
    block = BLOCKS[block_name](16, *ARGUMENTS[block_name])
    assert block.eval()(torch.randn(1, 16, 1, 1)).isfinite().all()
    x = torch.randn(2, 16, 13, 7)
    want = block(x)
    assert torch.allclose(copy.deepcopy(block)(x), want)
    other = BLOCKS[block_name](16, *ARGUMENTS[block_name])
    other.load_state_dict(block.state_dict())
    assert torch.equal(other.eval()(x), want)
    assert torch.allclose(copy.deepcopy(block).double()(x.double()).float(), want, atol=1e-4)
    x = torch.randn(2, 16, 12, 12, requires_grad=True)
    block.train()(x).square().mean().backward()
    grads = [p.grad for p in block.parameters() if p.requires_grad]
    assert x.grad.isfinite().all() and all(g is not None and g.isfinite().all() for g in grads)


@pytest.mark.parametrize("block_name", ARGUMENTS)
def test_repeated_rows_have_the_shape_of_a_single_one(block_name):
    model = model_of([-1, 1, "Conv", [16, 3, 2]], [-1, 2, block_name, ARGUMENTS[block_name]])
    single = model_of([-1, 1, "Conv", [16, 3, 2]], [-1, 1, block_name, ARGUMENTS[block_name]])
    if block_name not in ("conv_bn_relu_maxpool", "stem"):  # stems always stride
        assert model.shapes[1] == single.shapes[1]


@pytest.mark.parametrize("arguments", [(8, 8), (8, 12, 3, 2), (8, 8, 3, 1, 1, 2), (6, 12, 3, 1, 1, 3)])
def test_repvgg_becomes_exactly_one_convolution(arguments):
    torch.manual_seed(0)
    block = BLOCKS["RepVGGBlock"](*arguments).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    x = torch.randn(2, arguments[0], 7, 9, dtype=torch.float64)
    want = block(x)
    block.fuse()
    assert torch.allclose(block(x), want, rtol=1e-12, atol=1e-12)
    layers = [m for m in block.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    assert len(layers) == 1 and layers[0].kernel_size == (3, 3) and layers[0].bias is not None
    block.fuse()  # again changes nothing
    assert torch.allclose(block(x), want, rtol=1e-12, atol=1e-12)


def test_repvgg_rejects_other_kernels_than_3x3():
    with pytest.raises(UserError, match="3x3 kernel with padding 1, got kernel 5"):
        model_of([-1, 1, "RepVGGBlock", [16, 5, 2]])


def test_fusing_a_model_with_repvgg_changes_no_output():
    model = build_model("v5Lite-g.yaml", nc=2).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.raw_outputs(x)
        after = model.fuse().raw_outputs(x)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_add_weights_the_second_map_and_other_inputs_are_reported():
    first, second = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    assert torch.allclose(BLOCKS["ADD"](0.25)([first, second]), first + 0.25 * second)
    assert torch.equal(BLOCKS["ADD"]()([first, second]), first + second)
    rows = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [[-1, 0], 1, "ADD", [1]]]
    with pytest.raises(UserError, match=r"row 2 .*ADD.*row 1 is 160x160 and row 0 is 320x320"):
        model_of(*rows)
    with pytest.raises(UserError, match="row 1 .*ADD.*list of two rows"):
        model_of(rows[0], [-1, 1, "ADD", [1]])


def test_shuffle_block_interleaves_two_branches():
    block = BLOCKS["Shuffle_Block"](8, 8, 1).eval()
    x = torch.randn(1, 8, 4, 4)
    y = block(x)
    assert torch.equal(y[:, 0::2], x[:, :4]) and torch.allclose(y[:, 1::2], block.branch2(x[:, 4:]))


def test_widths_that_do_not_fit_are_reported():
    with pytest.raises(UserError, match=r"row 0 .*MBConvBlock.*keeps the width, but the row asks for 3 to 24"):
        model_of([-1, 1, "MBConvBlock", [24, 3, 1]])
    with pytest.raises(UserError, match=r"row 0 .*SELayer.*reduction of 4 leaves no channels of 3"):
        model_of([-1, 1, "SELayer", [4]])


def test_hard_swish_and_se_block_equal_references():
    x = torch.linspace(-5, 5, 64).view(1, 1, 8, 8)
    assert torch.allclose(BLOCKS["Hswish"]()(x), (F.relu6(x + 3) / 6))
    excite = BLOCKS["SEBlock"](4, 2)
    x = torch.randn(2, 4, 3, 3)
    gate = torch.sigmoid(excite.up(F.relu(excite.down(x.mean((2, 3), keepdim=True)))))
    assert torch.allclose(excite(x), x * gate)


def test_global_context_equals_a_reference():
    block = BLOCKS["C3_GC"](8, 8).eval()
    gc, x = block.gc, torch.randn(2, 8, 3, 5)
    attention = torch.softmax(gc.conv_mask(x).reshape(2, -1), 1).reshape(2, 1, 3, 5)
    context = (x * attention).sum((2, 3), keepdim=True)
    want = x * torch.sigmoid(gc.channel_mul_conv(context)) + gc.channel_add_conv(context)
    assert torch.allclose(gc(x), want, atol=1e-6)
    assert torch.allclose(block(x), block.cv3(torch.cat((block.m(block.cv1(x)), block.cv2(want)), 1)), atol=1e-6)


@pytest.mark.parametrize(("name", "parameters"), [("e", 787_085), ("s", 1_649_853), ("c", 4_591_901), ("g", 5_574_845)])
def test_yolov5_lite_yamls_have_the_published_parameter_counts(name, parameters):
    model = build_model(f"v5Lite-{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.stride.tolist() == [8, 16, 32]
