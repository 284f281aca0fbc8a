"""Blocks that public model files name: parameter counts as published, attention against slow references."""

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, build_model
from graftdet.utils.errors import UserError

COUNTS = [  # module, arguments (input width first), parameters in published model summaries
    ("SPPCSP", (1024, 512), 7_610_368),
    ("SPPCSP", (512, 256), 1_904_640),
    ("BottleneckCSP2", (512, 256, 3), 2_298_880),
    ("DownC", (80, 160), 70_880),
    ("StemBlock", (3, 32, 3, 2), 8_256),
    ("HGStem", (3, 32, 48), 25_248),
    ("HGBlock", (48, 48, 128, 3, 6), 155_072),
    ("HGBlock", (512, 192, 1024, 5, 6, True, False), 1_695_360),
    ("RepC3", (512, 256, 3), 2_232_320),
]
YOLOV4_BACKBONE = [
    [-1, 1, "Conv", [32, 3, 1]],
    [-1, 1, "Conv", [64, 3, 2]],
    [-1, 1, "Bottleneck", [64]],
    [-1, 1, "Conv", [128, 3, 2]],
    [-1, 2, "BottleneckCSP", [128]],
    [-1, 1, "Conv", [256, 3, 2]],
    [-1, 8, "BottleneckCSP", [256]],
    [-1, 1, "Conv", [512, 3, 2]],
    [-1, 8, "BottleneckCSP", [512]],
    [-1, 1, "Conv", [1024, 3, 2]],
    [-1, 4, "BottleneckCSP", [1024]],
]
YOLOV4_HEAD = [
    [-1, 1, "SPPCSP", [512]],
    [-1, 1, "Conv", [256, 1, 1]],
    [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
    [8, 1, "Conv", [256, 1, 1]],
    [[-1, -2], 1, "Concat", [1]],
    [-1, 2, "BottleneckCSP2", [256]],
    [-1, 1, "Conv", [128, 1, 1]],
    [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
    [6, 1, "Conv", [128, 1, 1]],
    [[-1, -2], 1, "Concat", [1]],
    [-1, 2, "BottleneckCSP2", [128]],
    [-1, 1, "Conv", [256, 3, 1]],
    [-2, 1, "Conv", [256, 3, 2]],
    [[-1, 16], 1, "Concat", [1]],
    [-1, 2, "BottleneckCSP2", [256]],
    [-1, 1, "Conv", [512, 3, 1]],
    [-2, 1, "Conv", [512, 3, 2]],
    [[-1, 11], 1, "Concat", [1]],
    [-1, 2, "BottleneckCSP2", [512]],
    [-1, 1, "Conv", [1024, 3, 1]],
    [[22, 26, 30], 1, "Detect", ["nc", "anchors"]],
]
RESNET50 = [(3, 64, 1, True, 1), (64, 64, 1, False, 3), (256, 128, 2, False, 4), (512, 256, 2, False, 6)]
RESNET50 += [(1024, 512, 2, False, 3)]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("name", "args", "count"), COUNTS)
def test_counts_of_blocks(name, args, count):
    assert parameters(BLOCKS[name](*args)) == count


def test_count_of_yolov4_csp():
    """5.25155e+07 parameters in published summaries, which fits four classes (5,385 parameters per class)."""
    values = {"nc": 4, "anchors": 3, "backbone": YOLOV4_BACKBONE, "head": YOLOV4_HEAD}
    assert abs(parameters(build_model(values)) - 52_515_500) <= 50


def test_count_of_resnet50():
    """25,557,032 parameters with the classifier of torchvision."""
    with torch.device("meta"):
        assert sum(parameters(BLOCKS["ResNetLayer"](*args)) for args in RESNET50) == 25_557_032 - 2_049_000


def test_count_of_repvgg_a0():
    """8.31 million parameters after `fuse()`, of which 1,281,000 are the classifier's."""
    stages = [(48, 48, 2), (48, 96, 4), (96, 192, 14)]
    strided = [BLOCKS["RepVGGBlock"](c1, c2, 3, 2) for c1, c2 in ((3, 48), (48, 48), (48, 96), (96, 192), (192, 1280))]
    blocks = strided + [BLOCKS["RepBlock"](c2, c2, n - 1) for _, c2, n in stages]
    for module in [m for block in blocks for m in block.modules() if isinstance(m, BLOCKS["RepVGGBlock"])]:
        module.fuse()
    assert round((sum(map(parameters, blocks)) + 1_281_000) / 1e6, 2) == 8.31


def test_rows_without_width_multiple_and_with_it():
    rows = [
        [-1, 1, "HGStem", [8, 12]],
        [-1, 3, "HGBlock", [8, 24, 3]],
        [-1, 2, "RepC3", [32]],
        [-1, 1, "SEAM", [32, 2, 4]],
    ]
    head = [[[-1], 1, "Detect", ["nc", "anchors"]]]
    model = build_model({"nc": 1, "anchors": 1, "width_multiple": 0.5, "backbone": rows, "head": head})
    stem, block, fusion, attention = model.model[:4]
    assert (stem.stem4.conv.out_channels, block.ec.conv.out_channels, len(block.m)) == (12, 24, 3)
    assert (fusion.cv1.conv.out_channels, len(fusion.m), len(attention.DCovN)) == (16, 2, 2)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match="keeps the width: 16 channels in, 8 asked for"):
        BLOCKS["NAM"](16, 8)
    rows = [[-1, 1, "Conv", [16]], [-1, 1, "EMA", [16, {"factor": 5}]]]
    with pytest.raises(UserError, match="row 1"):
        build_model({"nc": 1, "anchors": 1, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc", "anchors"]]]})


@pytest.mark.parametrize(("h", "w"), [(16, 8), (7, 11)])
def test_shifted_windows_equal_a_slow_reference(h, w, block_of):
    """Each position of the rolled map attends to those of its window that were its neighbors before rolling."""
    attention = block_of("C3STR", 32, 32, 2).m.tr[1].attn
    nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(1, h, w, 16)
    rows, columns = -(-h // 8) * 8, -(-w // 8) * 8
    padded = torch.zeros(1, rows, columns, 16)
    padded[:, :h, :w] = x
    q, k, v = attention.qkv(padded)[0].flatten(0, 1).split(16, 1)  # (rows x columns, 16), one head
    y = torch.zeros(rows * columns, 16)
    cells = [(i, j) for i in range(rows) for j in range(columns)]

    def group(i, j):  # without rolling, the windows begin at -4, 4, 12 ...
        return (i + 4) // 8, (j + 4) // 8

    for i, j in cells:
        others = [(a, b) for a, b in cells if group(a, b) == group(i, j)]
        index = torch.tensor([a * columns + b for a, b in others])
        bias = [attention.relative_position_bias_table[(i - a + 7) * 15 + j - b + 7, 0] for a, b in others]
        weights = (k[index] @ q[i * columns + j] / 4 + torch.stack(bias)).softmax(0)
        y[i * columns + j] = weights @ v[index]
    want = attention.proj(y.view(1, rows, columns, 16)[:, :h, :w])
    torch.testing.assert_close(attention(x), want, atol=1e-5, rtol=1e-4)


def test_gated_convolution_equals_the_equation(block_of):
    """p1 = dw(q0) p0, then p = W(p) dw(q) for each wider feature (equation 5)."""
    conv, x = block_of("HorBlock", 16, None, 1.0, 3).gnconv, torch.randn(2, 16, 5, 6)
    parts = conv.proj_in(x)
    p, q = parts[:, :4], conv.dwconv(parts[:, 4:])
    p = p * q[:, :4]
    p = conv.pws[0](p) * q[:, 4:12]
    p = conv.pws[1](p) * q[:, 12:28]
    torch.testing.assert_close(conv(x), conv.proj_out(p))


def test_normalized_attention_equals_equation_2(block_of):
    block, x = block_of("NAM", 6), torch.randn(2, 6, 3, 4)
    bn = block.bn2
    for c in range(6):
        y = (x[:, c] - bn.running_mean[c]) / (bn.running_var[c] + bn.eps).sqrt() * bn.weight[c] + bn.bias[c]
        want = x[:, c] * torch.sigmoid(y * bn.weight[c] / bn.weight.sum())
        torch.testing.assert_close(block(x)[:, c], want)


def test_position_attention_equals_torch(block_of):
    """Self-attention of a bottleneck transformer is torch's on flattened maps."""
    attention, x = block_of("BoT3", 32, 32).m[0].cv2, torch.randn(2, 16, 4, 5)
    parts = (
        layer(x).reshape(2, 4, 4, 20).transpose(2, 3) for layer in (attention.query, attention.key, attention.value)
    )
    want = nn.functional.scaled_dot_product_attention(*parts).transpose(2, 3).reshape(2, 16, 4, 5)
    torch.testing.assert_close(attention(x), want)


def test_group_attention_equals_a_slow_reference(block_of):
    """EMA of one image, group by group."""
    block, x = block_of("EMA", 16, None, 4), torch.randn(1, 16, 3, 5)
    want = torch.zeros_like(x)
    for first in range(0, 16, 4):
        group = x[:, first : first + 4]
        rows, columns = (torch.sigmoid(block.conv1x1(group.mean(d, keepdim=True))) for d in (3, 2))
        one, three = block.gn(group * rows * columns), block.conv3x3(group)
        weights = (one.mean((2, 3)).softmax(1)[..., None, None] * three).sum(1)
        weights = weights + (three.mean((2, 3)).softmax(1)[..., None, None] * one).sum(1)
        want[:, first : first + 4] = group * weights.sigmoid()
    torch.testing.assert_close(block(x), want)


def test_shuffle_attention_equals_a_slow_reference(block_of):
    """Half of each group by its mean, half by its normalized values; channels of both halves of the map alternate."""
    block, x = block_of("ShuffleAttention", 8, None, 16, 2), torch.randn(1, 8, 3, 4)
    for weight in (block.cweight, block.sweight):
        nn.init.normal_(weight)
    parts = []
    for first in (0, 4):
        a, b = x[:, first : first + 2], x[:, first + 2 : first + 4]
        parts.append(a * torch.sigmoid(block.cweight * a.mean((2, 3), keepdim=True) + block.cbias))
        normalized = (b - b.mean((2, 3), keepdim=True)) / (b.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        parts.append(b * torch.sigmoid(block.sweight * normalized + block.sbias))
    y = torch.cat(parts, 1)
    torch.testing.assert_close(block(x), y[:, [0, 4, 1, 5, 2, 6, 3, 7]])
