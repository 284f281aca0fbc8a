"""Modules of YOLOv7: its published counts from rows as they are published, RepConv and IDetect as one convolution."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, build_model
from graftdet.models.heads import HEADS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError
from graftdet.utils.training.optim import parameter_groups


def conv(source, width, k, s):
    return f"   [{source}, 1, Conv, [{width}, {k}, {s}, None, 1, nn.LeakyReLU(0.1)]],"


def elan(width, out):
    """Rows of the small ELAN block: two 1x1 convolutions side by side, two 3x3 behind the second, all concatenated."""
    first = [conv(-1, width, 1, 1), conv(-2, width, 1, 1), conv(-1, width, 3, 1), conv(-1, width, 3, 1)]
    return [*first, "   [[-1, -2, -3, -4], 1, Concat, [1]],", conv(-1, out, 1, 1)]


def up(width, skip):
    return [
        conv(-1, width, 1, 1),
        "   [-1, 1, nn.Upsample, [None, 2, 'nearest']],",
        conv(skip, width, 1, 1),
        "   [[-1, -2], 1, Concat, [1]],",
    ]


POOL = "   [-1, 1, MP, []],"
TINY = "\n".join(
    ["nc: 80", "depth_multiple: 1.0", "width_multiple: 1.0", "anchors:"]
    + ["  - [10,13, 16,30, 33,23]  # P3/8", "  - [30,61, 62,45, 59,119]", "  - [116,90, 156,198, 373,326]"]
    + ["backbone:", "  [[-1, 1, Conv, [32, 3, 2, None, 1, nn.LeakyReLU(0.1)]],  # 0-P1/2", conv(-1, 64, 3, 2)]
    + [*elan(32, 64), POOL, *elan(64, 128), POOL, *elan(128, 256), POOL, *elan(256, 512), "  ]"]
    + ["head:", "  [[-1, 1, Conv, [256, 1, 1, None, 1, nn.LeakyReLU(0.1)]],", conv(-2, 256, 1, 1)]
    + [
        "   [-1, 1, SP, [5]],",
        "   [-2, 1, SP, [9]],",
        "   [-3, 1, SP, [13]],",
        "   [[-1, -2, -3, -4], 1, Concat, [1]],",
    ]
    + [conv(-1, 256, 1, 1), "   [[-1, -7], 1, Concat, [1]],", conv(-1, 256, 1, 1)]
    + [*up(128, 21), *elan(64, 128), *up(64, 14), *elan(32, 64)]
    + [conv(-1, 128, 3, 2), "   [[-1, 47], 1, Concat, [1]],", *elan(64, 128)]
    + [conv(-1, 256, 3, 2), "   [[-1, 37], 1, Concat, [1]],", *elan(128, 256)]
    + [
        conv(57, 128, 3, 1),
        conv(65, 256, 3, 1),
        conv(73, 512, 3, 1),
        "   [[74, 75, 76], 1, IDetect, [nc, anchors]],",
        "  ]",
        "",
    ]
)


@pytest.fixture(scope="module")
def tiny():
    return build_model(ModelSpec.from_text(TINY, "yolov7-tiny.yaml"))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_equal_published_ones(tiny):
    """6,022,129 with Detect and four classes. IDetect has one more number per input and output channel, as the logs of
    yolov7.yaml with 16 classes show (37,277,466 and 37,275,485 for widths of 256, 512 and 1024)."""
    assert parameters(build_model(ModelSpec.from_text(TINY.replace("IDetect", "Detect"), "x.yaml"), nc=4)) == 6_022_129
    assert parameters(tiny) == 6_022_129 + 3 * (80 - 4) * (128 + 256 + 512 + 3) + 128 + 256 + 512 + 3 * 255
    ch, anchors = (256, 512, 1024), [[10, 13] * 3] * 3
    more = parameters(HEADS["IDetect"](16, anchors, ch)) - parameters(HEADS["Detect"](16, anchors, ch))
    assert more == 37_277_466 - 37_275_485
    acts = [m for m in tiny.modules() if isinstance(m, (nn.SiLU, nn.LeakyReLU))]
    assert len(acts) == 55 and all(isinstance(m, nn.LeakyReLU) and m.negative_slope == 0.1 for m in acts)
    assert tiny.head.strides == [8, 16, 32]


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ("None, 1, False", nn.Identity),
        ("None, 1, nn.ReLU()", nn.ReLU),
        ("None, 1, 2, nn.ReLU()", nn.ReLU),
        ("None, 1, true", nn.SiLU),
    ],
)
def test_activation_and_dilation_arguments_after_the_groups(args, kind):
    layer = row(f"Conv, [8, 3, 2, {args}]")
    assert type(layer.act) is kind and layer.conv.dilation == ((2, 2) if ", 2, nn" in args else (1, 1))


def row(text):
    """The layer of one row that reads 8 channels."""
    rows = f"nc: 1\nanchors: 3\nbackbone:\n  - [-1, 1, Conv, [8]]\n  - [-1, 1, {text}]\n"
    rows += "head:\n  - [[1], 1, Detect, [nc, anchors]]\n"
    return build_model(ModelSpec.from_text(rows, "x.yaml")).model[1]


@pytest.mark.parametrize(
    ("block_name", "message"),
    [
        ("'3'", "argument 'd' must be a whole number of at least 1, got '3'; write 3"),
        ("nn.ReLUU()", "argument 'd' must be a whole"),
        ("d=2", "written {d: 2}"),
    ],
)
def test_wrong_arguments_after_the_groups_are_reported(block_name, message):
    with pytest.raises(UserError, match=message):
        row(f"Conv, [8, 3, 2, None, 1, {block_name}]")


def test_pools_and_shortcut_equal_references():
    x, y = torch.randn(2, 3, 7, 9), torch.randn(2, 3, 7, 9)
    assert torch.equal(BLOCKS["MP"]()(x), F.max_pool2d(x, 2)) and torch.equal(BLOCKS["MP"](3)(x), F.max_pool2d(x, 3))
    assert torch.equal(BLOCKS["SP"](5)(x), F.max_pool2d(x, 5, 1, 2)) and BLOCKS["SP"](3, 2)(x).shape == (2, 3, 4, 5)
    assert torch.equal(BLOCKS["Shortcut"](0)([x, y]), x + y)
    assert BLOCKS["ReOrg"] is BLOCKS["space_to_depth"]
    with pytest.raises(ValueError, match="maps differ"):
        BLOCKS["Shortcut"]()([x, y[..., :1]])


@pytest.mark.parametrize("args", [(8, 8), (8, 12, 3, 2), (8, 8, 3, 1, None, 2, "nn.ReLU()")])
def test_repconv_becomes_one_convolution(args, block_of):
    block, x = block_of("RepConv", *args), torch.randn(2, 8, 7, 9)
    names = {name.rsplit(".", 1)[0] for name in block.state_dict()}
    assert names == {"rbr_dense.0", "rbr_dense.1", "rbr_1x1.0", "rbr_1x1.1"} | (
        {"rbr_identity"} if args[:2] == (8, 8) else set()
    )
    with torch.no_grad():
        want = block(x)
        block.fuse()
        torch.testing.assert_close(block(x), want, atol=1e-5, rtol=1e-4)
    assert sum(isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) for m in block.modules()) == 1
    assert block.rbr_reparam.groups == (args[5] if len(args) > 5 else 1)
    if len(args) == 7:
        assert (want == 0).any() and (want >= 0).all()


def test_idetect_becomes_detect():
    torch.manual_seed(0)
    head = HEADS["IDetect"](2, [[10, 13, 16, 30], [30, 61, 62, 45]], (6, 9)).eval()
    head.set_strides([8, 16])
    for part in (*head.ia, *head.im):
        nn.init.normal_(part.implicit, 1)
    maps = [torch.randn(2, 6, 4, 5), torch.randn(2, 9, 2, 3)]
    with torch.no_grad():
        raw = head(maps)
        for y, x, conv, shift, factor in zip(raw, maps, head.m, head.ia, head.im, strict=True):
            want = (conv(x + shift.implicit) * factor.implicit).view(2, 2, 7, *x.shape[2:]).permute(0, 1, 3, 4, 2)
            torch.testing.assert_close(y, want)
        head.fuse()
        head.fuse()
        torch.testing.assert_close(head(maps), raw, atol=1e-5, rtol=1e-4)
    assert sorted(name for name, _ in head.named_parameters()) == ["m.0.bias", "m.0.weight", "m.1.bias", "m.1.weight"]


def test_offsets_and_factors_do_not_decay(tiny):
    decayed = {id(p) for p in parameter_groups(tiny)["weights"]}
    assert not any(id(part.implicit) in decayed for part in (*tiny.head.ia, *tiny.head.im))
    assert id(tiny.head.m[0].weight) in decayed
