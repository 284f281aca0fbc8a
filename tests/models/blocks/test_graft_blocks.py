"""Blocks that are often inserted into YOLOv5: published counts, slow references, weighted sums and concatenations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, build_model


def count(block) -> int:
    return sum(p.numel() for p in block.parameters())


@pytest.mark.parametrize(
    ("block_name", "args", "parameters"),
    [
        ("C2f", [32, 32, 1, True], 7_360),  # rows of the published yolov8n
        ("C2f", [64, 64, 2, True], 49_664),
        ("C2f", [256, 256, 1, True], 460_288),
        ("C2f", [384, 128, 1], 148_224),
        ("SPPCSPC", [1024, 512], 7_609_344),  # row 51 of the published yolov7
        ("SE", [64, 64, 16], 2 * 64 * 4),
        ("CBAM", [64], 2 * 64 * 4 + 2 * 7 * 7),
        ("ECA", [64], 3),
        ("CoordAtt", [512], 512 * 16 + 16 + 32 + 2 * (16 * 512 + 512)),
        ("SimAM", [64], 0),
        ("GSConv", [64, 32, 3], 64 * 16 * 9 + 32 + 16 * 25 + 32),
        ("PConv", [64], 16 * 16 * 9),
        ("FasterNetBlock", [40], 10 * 10 * 9 + 2 * 40 * 80 + 160),
        ("SimSPPF", [64, 64], count(BLOCKS["SPPF"](64, 64))),
        ("DepthSepConv", [64, 128, 5, 1, True], count(BLOCKS["LC_Block"](64, 128, 1, 5, True))),
        ("MobileNetV3_InvertedResidual", [16, 24, 72, 5], count(BLOCKS["mobilev3_bneck"](16, 24, 72, 5))),
    ],
    ids=str,
)
def test_parameter_counts(block_name, args, parameters):
    with torch.device("meta"):
        assert count(BLOCKS[block_name](*args)) == parameters


def test_efficientnet_v2_small_has_the_published_parameter_count():
    """21,458,488 parameters with a last convolution of 1280 channels and 1000 classes."""
    rows = [
        ("FusedMBConv", 24, 2, 1, 1, 0),
        ("FusedMBConv", 48, 4, 2, 4, 0),
        ("FusedMBConv", 64, 4, 2, 4, 0),
        ("MBConv", 128, 6, 2, 4, 0.25),
        ("MBConv", 160, 9, 1, 6, 0.25),
        ("MBConv", 256, 15, 2, 6, 0.25),
    ]
    with torch.device("meta"):
        c, blocks = 24, [nn.Conv2d(3, 24, 3, bias=False), nn.BatchNorm2d(24)]
        for block_name, c2, number, s, expansion, se in rows:
            for i in range(number):
                blocks.append(BLOCKS[block_name](c, c2, 3, 1 if i else s, expansion, se))
                c = c2
        blocks += [nn.Conv2d(c, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.Linear(1280, 1000)]
    assert sum(map(count, blocks)) == 21_458_488


def test_convnext_tiny_has_the_published_parameter_count():
    """28,589,128 parameters with stem, three reductions, the last norm and 1000 classes."""
    with torch.device("meta"):
        layers, c = [nn.Conv2d(3, 96, 4), nn.LayerNorm(96)], 96
        for c2, number in ((96, 3), (192, 3), (384, 9), (768, 3)):
            layers += [] if c2 == c else [nn.LayerNorm(c), nn.Conv2d(c, c2, 2)]
            layers += [BLOCKS["ConvNextBlock"](c2) for _ in range(number)]
            c = c2
        layers += [nn.LayerNorm(c), nn.Linear(c, 1000)]
    assert sum(map(count, layers)) == 28_589_128


def test_attention_equals_slow_references():
    x = torch.randn(2, 8, 5, 7)
    with torch.no_grad():
        eca = BLOCKS["ECA"](8)
        w = eca.conv.weight.flatten()
        means = F.pad(x.mean((2, 3)), (1, 1))
        gate = torch.stack([(means[:, i : i + 3] * w).sum(1) for i in range(8)], 1).sigmoid()
        assert torch.allclose(eca(x), x * gate[:, :, None, None], atol=1e-6)

        variance = x.var((2, 3), keepdim=True)  # divides by the number of positions minus one
        energy = (x - x.mean((2, 3), keepdim=True)) ** 2 / (4 * (variance + 1e-4)) + 0.5
        assert torch.allclose(BLOCKS["SimAM"](8)(x), x * energy.sigmoid(), atol=1e-6)

        cbam = BLOCKS["CBAM"](8, 8, 4).eval()
        f1, f2 = cbam.channel_attention.f1.weight.flatten(1), cbam.channel_attention.f2.weight.flatten(1)
        mean, largest = x.flatten(2).mean(2), x.flatten(2).max(2).values
        y = x * ((mean @ f1.T).relu() @ f2.T + (largest @ f1.T).relu() @ f2.T).sigmoid()[:, :, None, None]
        planes = torch.stack((y.mean(1), y.max(1).values), 1)
        y = y * F.conv2d(planes, cbam.spatial_attention.conv.weight, padding=3).sigmoid()
        assert torch.allclose(cbam(x), y, atol=1e-5)


def test_coordinate_attention_is_a_product_of_row_and_column_weights():
    """The content of a row changes its weights in every column; a neighboring row changes only through batch norm."""
    block = BLOCKS["CoordAtt"](8).eval()
    x = torch.randn(1, 8, 4, 6)
    with torch.no_grad():
        y = block(x) / x
        rows, columns = x.mean(3), x.mean(2)
        hidden = [block.act(block.bn1(block.conv1(v.unsqueeze(-1)))) for v in (rows, columns)]
        a, b = block.conv_h(hidden[0]).sigmoid(), block.conv_w(hidden[1]).sigmoid()  # (1, 8, 4, 1), (1, 8, 6, 1)
    assert torch.allclose(y, a * b.transpose(2, 3), atol=1e-5)


@pytest.mark.parametrize("block_name", ["SE", "CBAM", "ECA", "CoordAtt", "SimAM"])
def test_attention_rejects_a_change_of_width(block_name):
    with pytest.raises(ValueError, match="keeps the width: 32 channels in, 64 asked for"):
        BLOCKS[block_name](32, 64)
    assert BLOCKS[block_name](32, 32)(torch.randn(2, 32, 3, 3)).shape == (2, 32, 3, 3)


@pytest.mark.parametrize("block_name", ["C3SE", "C3CBAM", "C3CA", "C3ECA"])
@pytest.mark.parametrize("width", [8, 24])
def test_attention_of_narrow_csp_blocks_has_at_least_one_hidden_channel(block_name, width):
    """Between, one channel is left where a sixteenth of the width is less."""
    block = BLOCKS[block_name](width, width)
    assert block(torch.randn(2, width, 4, 4)).shape == (2, width, 4, 4)


def test_attention_of_wide_csp_blocks_uses_its_reduction():
    excite, cbam = (BLOCKS[block_name](64, 64).m[0].attention for block_name in ("C3SE", "C3CBAM"))
    assert excite.l1.out_features == cbam.channel_attention.f1.out_channels == 2


def test_convnext_without_layer_scale():
    """As published: a first scale of 0 or less is none, so that the block is no identity."""
    block, x = BLOCKS["ConvNextBlock"](8, 0), torch.randn(2, 8, 9, 9)
    assert "gamma" not in block.state_dict() and not torch.allclose(block(x), x)
    assert "gamma" in BLOCKS["ConvNextBlock"](8).state_dict()


def test_gsconv_shuffles_channels():
    """As the published reshapes do: even channels of the joint map, then odd ones."""
    block = BLOCKS["GSConv"](4, 8).eval()
    x = torch.randn(3, 4, 5, 5)
    with torch.no_grad():
        y = block.cv1(x)
        joint = torch.cat((y, block.cv2(y)), 1)
        pairs = joint.reshape(3 * 4, 2, 25).permute(1, 0, 2).reshape(2, -1, 4, 5, 5)
        assert torch.equal(block(x), torch.cat((pairs[0], pairs[1]), 1))


def test_space_to_depth_orders_channels_like_focus():
    """The order of the quarters is that of Focus; `SPD` is the same class."""
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6).float()
    y = BLOCKS["space_to_depth"](1)(x)
    assert y.shape == (2, 12, 2, 3)
    for i, (row, column) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
        assert torch.equal(y[:, 3 * i : 3 * i + 3], x[:, :, row::2, column::2])
    assert BLOCKS["SPD"] is BLOCKS["space_to_depth"]
    with pytest.raises(ValueError, match="dimension must be 1"):
        BLOCKS["SPD"](2)


@pytest.mark.parametrize(("block_name", "inputs"), [("BiFPN_Concat2", 2), ("BiFPN_Concat3", 3)])
def test_weighted_concat_normalizes_positive_weights(block_name, inputs):
    block = BLOCKS[block_name](1)
    with torch.no_grad():
        block.w.copy_(torch.tensor([2.0, -1.0, 6.0][:inputs]))
    maps = [torch.randn(2, 3 + i, 4, 4) for i in range(inputs)]
    total = 8.0001 if inputs == 3 else 2.0001
    fractions = [2 / total, 0, 6 / total][:inputs]
    assert torch.allclose(block(maps), torch.cat([s * x for s, x in zip(fractions, maps, strict=True)], 1), atol=1e-6)
    with pytest.raises(ValueError, match=f"joins {inputs} maps"):
        block(maps[:1])


@pytest.mark.parametrize(("block_name", "inputs"), [("BiFPN_Add2", 2), ("BiFPN_Add3", 3)])
def test_weighted_add_starts_with_equal_weights(block_name, inputs):
    block = BLOCKS[block_name](4, 6)
    maps = [torch.randn(2, 4, 5, 5) for _ in range(inputs)]
    expected = block.conv(F.silu(sum(maps) / (inputs + 1e-4)))
    assert torch.allclose(block(maps), expected, atol=1e-6)
    with pytest.raises(ValueError, match="maps differ"):
        block([*maps[1:], torch.randn(2, 4, 1, 5)])


def test_published_rows_build_with_scaled_widths():
    """Widths of attention rows are scaled, those of BiFPN_Add are not; a width of None keeps."""
    model = build_model(
        {
            "nc": 2,
            "anchors": 3,
            "width_multiple": 0.5,
            "backbone": [
                [-1, 1, "conv_bn_hswish", [32, 2]],
                [-1, 1, "CBRM", [64]],
                [-1, 2, "SE", [64]],
                [-1, 1, "CA", []],
                [-1, 1, "ShuffleNetV2_InvertedResidual", [128, 2]],
                [-1, 3, "C2f", [128, True]],
                [-1, 1, "SPPCSPC", [128]],
                [[-1, -2], 1, "BiFPN_Add2", [64, 40]],
                [[-1, -2], 1, "BiFPN_Concat2", [1]],
            ],
            "head": [[[8], 1, "Detect", ["nc", "anchors"]]],
        }
    )
    assert [shape[0] for shape in model.shapes[:-1]] == [16, 32, 32, 32, 64, 64, 64, 40, 104]
    assert len(model.model[5].m) == 3


def test_hard_swish_classes_of_mobilenet_v3_blocks():
    """MobileNetV3_InvertedResidual has the paper's hard swish, mobilev3_bneck the published module Hswish."""
    kinds = {
        w: {type(m) for m in BLOCKS[w](8, 8, 16, 3, 1, False, True).conv}
        for w in ("MobileNetV3_InvertedResidual", "mobilev3_bneck")
    }
    assert nn.Hardswish in kinds["MobileNetV3_InvertedResidual"]
    assert BLOCKS["Hswish"] in kinds["mobilev3_bneck"] - kinds["MobileNetV3_InvertedResidual"]


@pytest.mark.parametrize(
    ("block_name", "args", "message"),
    [
        ("SE", [8], "a reduction of 16 leaves no channels of 8"),
        ("CBAM", [16, 16, 4, 6], "kernel must be odd"),
        ("ECA", [16, 16, 4], "k_size must be odd"),
        ("GSConv", [8, 9], "even width"),
        ("MBConv", [8, 8, 3, 4], "stride must be 1 or 2"),
        ("PConv", [8, 9], "n_div must be 1 to 8"),
        ("MobileOneBlock", [8, 8, 3, 1, 0], "a padding of 1 for it, got 3 and 0"),
        ("MobileOneBlock", [8, 8, 3, 1, 1, 1, 1, True], "state after fuse"),
        ("BasicRFB", [4, 8], "at least 8 channels in"),
    ],
    ids=str,
)
def test_wrong_arguments_are_reported(block_name, args, message):
    with pytest.raises(ValueError, match=message):
        BLOCKS[block_name](*args)
