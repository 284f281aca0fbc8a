"""SandGlass: the layers of each case, the stride and the shortcut."""

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS

DW, PW, RELU = "dw", "pw", "relu6"


def layers(block):
    """Kinds of the layers with their widths and strides, without batch norms."""
    kinds = []
    for m in block.conv:
        if isinstance(m, nn.Conv2d):
            kind = DW if m.groups == m.in_channels > 1 else PW
            kinds.append((kind, m.in_channels, m.out_channels, m.stride[0]))
        elif isinstance(m, nn.ReLU6):
            kinds.append(RELU)
    return kinds


@pytest.mark.parametrize(
    ("args", "expected", "shortcut"),
    [
        ((32, 96, 2, 2), [(DW, 32, 32, 1), RELU, (PW, 32, 16, 1), (PW, 16, 96, 1), RELU, (DW, 96, 96, 2)], False),
        ((32, 32, 1, 2), [(DW, 32, 32, 1), RELU, (PW, 32, 16, 1), (PW, 16, 32, 1), RELU, (DW, 32, 32, 1)], False),
        ((96, 144, 1, 6), [(PW, 96, 32, 1), (PW, 32, 144, 1), RELU], False),
        ((144, 192, 2, 6), [(PW, 144, 32, 1), (PW, 32, 192, 1), RELU, (DW, 192, 192, 2)], False),
        (
            (192, 192, 1, 6),
            [(DW, 192, 192, 1), RELU, (PW, 192, 32, 1), (PW, 32, 192, 1), RELU, (DW, 192, 192, 1)],
            True,
        ),
        (
            (96, 144, 1, 6, True),
            [(DW, 96, 96, 1), RELU, (PW, 96, 32, 1), (PW, 32, 144, 1), RELU, (DW, 144, 144, 1)],
            False,
        ),
        ((96, 96, 1, 6, True), [(DW, 96, 96, 1), RELU, (PW, 96, 16, 1), (PW, 16, 96, 1), RELU, (DW, 96, 96, 1)], False),
        ((96, 96, 2, 6), [(DW, 96, 96, 1), RELU, (PW, 96, 16, 1), (PW, 16, 96, 1), RELU, (DW, 96, 96, 2)], False),
    ],
    ids=str,
)
def test_layers_and_shortcut(args, expected, shortcut):
    block = BLOCKS["SandGlass"](*args).eval()
    assert layers(block) == expected
    x = torch.randn(1, args[0], 6, 6)
    with torch.no_grad():
        y = block(x)
        assert torch.allclose(y, block.conv(x) + x if shortcut else block.conv(x))
    assert y.shape == (1, args[1], 6 // args[2], 6 // args[2])


@pytest.mark.parametrize(
    ("c1", "c2", "hidden"), [(960, 1280, 208), (144, 192, 32), (576, 576, 96), (384, 576, 96), (32, 96, 16)]
)
def test_hidden_width(c1, c2, hidden):
    """c1 / 6, and where that is below c2 / 6 a sixth of c2 to the nearest multiple of 16."""
    with torch.device("meta"):
        block = BLOCKS["SandGlass"](c1, c2)
    assert hidden in {m.out_channels for m in block.conv if isinstance(m, nn.Conv2d)}


def test_network_has_the_published_widths_and_strides():
    """Table 2: widths per block, and the strides of the whole."""
    with torch.device("meta"):
        net = BLOCKS["MobileNeXt"](3)
        blocks = list(net.features)[1:]
        x = torch.zeros(1, 3, 224, 224)
        sizes = []
        for block in net.eval().features:
            x = block(x)
            sizes.append((x.shape[1], x.shape[2]))
    assert len(blocks) == 20
    assert sizes == [
        (32, 112),
        (96, 56),
        (144, 56),
        *[(192, 28)] * 3,
        *[(288, 14)] * 3,
        *[(384, 14)] * 4,
        *[(576, 7)] * 4,
        *[(960, 7)] * 3,
        (1280, 7),
    ]
    assert [i for i, block in enumerate(blocks) if block.add] == [3, 4, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18]
