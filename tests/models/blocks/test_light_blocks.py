"""Checks that every light block must pass, with one row of arguments per module."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, build_model

FILES = (
    "blaze",
    "inception_conv",
    "inception",
    "inception_resnet",
    "inception_v3",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "mobilevit",
    "mobilenext",
    "shufflenet_v1",
    "shufflenet_v2",
    "xception",
    "channel_attention",
    "csp_attention",
    "gsconv",
    "efficientnet",
    "rfb",
    "convnext",
    "fasternet",
    "mobileone",
)
# module, constructor arguments (input width first), expected output width
CASES = [
    ("DepthwiseSeparableConv", [8, 16, 3, 2], 16),
    ("LinearBottleneck", [8, 12, 2, 6], 12),
    ("LinearBottleneck", [8, 8, 1, 1], 8),
    ("HardSigmoid", [], 8),
    ("HardSwish", [], 8),
    ("SqueezeExcitation", [8, 4], 8),
    ("MobileNetV3Block", [8, 12, 24, 5, 2], 12),
    ("MobileNetV3Block", [8, 8, 8, 3, 1, False, False], 8),
    ("SandGlass", [8, 48, 2, 2], 48),
    ("SandGlass", [8, 16, 1], 16),
    ("SandGlass", [8, 16, 2], 16),
    ("SandGlass", [8, 8, 1], 8),
    ("SandGlass", [8, 8, 2], 8),
    ("SandGlass", [8, 16, 1, 6, True], 16),
    ("PointwiseConv", [8, 16, 4], 16),
    ("DepthwiseConv", [8, 16, 3, 2], 16),
    ("ChannelShuffle", [4], 8),
    ("ShuffleNetUnit", [8, 24, 2, 2, 2], 24),
    ("ShuffleNetUnit", [8, 8, 3, 1, 2], 8),
    ("ShuffleNetV2Unit", [8, 12, 2], 12),
    ("ShuffleNetV2Unit", [8, 8, 1], 8),
    ("ShuffleNetV2Unit", [8, 12, 1], 12),
    ("BasicConv2d", [8, 12, [1, 7], 1, [0, 3]], 12),
    ("Inception", [8, 4, 6, 8, 2, 3, 5], 20),
    ("InceptionA", [8, 32, 0.125], 40),
    ("InceptionB", [8, 0.125], 72),
    ("InceptionC", [8, 64, 0.125], 96),
    ("InceptionD", [8, 0.125], 72),
    ("InceptionE", [8, 0.125], 256),
    ("InceptionResNetReduction", [8, 0.03125], 39),
    ("SeparableConv", [8, 12, 3, 2], 12),
    ("XceptionModule", [8, 12, 2, 2], 12),
    ("XceptionModule", [8, 8, 3], 8),
    ("XceptionModule", [8, 12, 2, 1, False, False], 12),
    ("InceptionConv", [8, 10, 3, 2], 10),
    ("InceptionConv", [8, 6, 3, 1, [[1, 1], [2, 3], [1, 1]]], 6),
    ("BlazeBlock", [8, 12], 12),
    ("BlazeBlock", [8, 4, 12, 2], 12),
    ("BlazeBlock", [8, 4, 6, 2, 5, True], 6),
    ("MobileViTBlock", [8, 12, 16, 1], 12),
    ("SE", [8, 8, 4], 8),
    ("CBAM", [8, 8, 4, 3], 8),
    ("ECA", [8, None, 5], 8),
    ("CoordAtt", [8], 8),
    ("SimAM", [8], 8),
    ("C3SE", [8, 32], 32),
    ("C3CBAM", [8, 32], 32),
    ("C3ECA", [8, 12, 2, False], 12),
    ("C3CA", [8, 16], 16),
    ("GSConv", [8, 12, 3, 2], 12),
    ("VoVGSCSP", [8, 12, 2], 12),
    ("VoVGSCSPC", [8, 16], 16),
    ("FusedMBConv", [8, 12, 3, 2, 4, 0.25], 12),
    ("FusedMBConv", [8, 8], 8),
    ("MBConv", [8, 12, 5, 2, 6], 12),
    ("MBConv", [8, 8, 3, 1, 1, 0], 8),
    ("ConvNextBlock", [8, 0.5], 8),
    ("CNeB", [8, 12, 2], 12),
    ("PConv", [8, 3], 8),
    ("FasterNetBlock", [8], 8),
    ("C3_Faster", [8, 16], 16),
    ("MobileOneBlock", [8, 12, 3, 2, 1, 1, 4, False, True, 2], 12),
    ("MobileOneBlock", [8, 8, 5, 1, None, 1, 8], 8),
    ("MobileOneBlock", [8, 8, 1], 8),
    ("BasicRFB", [8, 12, 2], 12),
    ("C2f", [8, 12, 2, True], 12),
    ("SimSPPF", [8, 12], 12),
    ("SPPCSPC", [8, 12], 12),
    ("DepthSepConv", [8, 12, 5, 2, True], 12),
    ("MobileNetV3_InvertedResidual", [8, 12, 24, 5, 2, 1, 1], 12),
    ("conv_bn_hswish", [8, 12, 2], 12),
]
CASE = pytest.mark.parametrize(("block_name", "args", "width"), CASES, ids=lambda v: str(v))
ALIASES = {
    "DepthSeperabelConv2d": "DepthwiseSeparableConv",
    "LinearBottleNeck": "LinearBottleneck",
    "InvertedResidual": "LinearBottleneck",
    "Hsigmoid": "HardSigmoid",
    "Squeeze_excite": "SqueezeExcitation",
    "SGBlock": "SandGlass",
    "PointwiseConv2d": "PointwiseConv",
    "DepthwiseConv2d": "DepthwiseConv",
    "ShuffleUnit": "ShuffleNetV2Unit",
    "GoogLeNet": "InceptionV1",
    "Mixed_7a": "InceptionResNetReduction",
    "SeperableConv2d": "SeparableConv",
    "SeparableConv2d": "SeparableConv",
    "DilatedInceptionConv": "InceptionConv",
}


def own_blocks():
    return {block_name: cls for block_name, cls in BLOCKS.items() if cls.__module__.rpartition(".")[2] in FILES}


def test_every_block_of_these_files_has_a_case():
    """Each class of these files is in CASES, or in test_backbones.py if it is a whole backbone."""
    from graftdet.models.blocks.backbone import Backbone

    blocks = {cls for cls in own_blocks().values() if not issubclass(cls, Backbone)}
    assert blocks <= {BLOCKS[block_name] for block_name, _, _ in CASES}


def test_published_names_are_aliases():
    assert {alias: BLOCKS[alias] for alias in ALIASES} == {
        alias: BLOCKS[block_name] for alias, block_name in ALIASES.items()
    }


@CASE
def test_output_width_and_size(block_name, args, width, block_of):
    """One image, odd sizes, a single position; a strided block halves and rounds up."""
    block = block_of(block_name, *args)
    with torch.no_grad():
        for h, w in ((16, 16), (9, 13), (1, 1)):
            y = block(torch.randn(1, 8, h, w))
            assert tuple(y.shape[:2]) == (1, width)
            assert tuple(y.shape[2:]) in {(h, w), (-(-h // 2), -(-w // 2))}


@CASE
def test_copies_agree_and_bfloat16_works(block_name, args, width, block_of):
    block = block_of(block_name, *args)
    x = torch.randn(2, 8, 9, 12)
    with torch.no_grad():
        y = block(x.clone())
        copied = copy.deepcopy(block)
        copied.load_state_dict(block.state_dict())
        assert torch.equal(copied(x.clone()), y)
        half = copied.to(torch.bfloat16)(x.to(torch.bfloat16))
        assert half.dtype == torch.bfloat16
        assert (half.float() - y).abs().max() <= 0.05 * max(1.0, float(y.abs().max()))


@CASE
def test_gradients_are_finite_and_deterministic(block_name, args, width, block_of):
    """Every weight gets one, finite, the same each time; the input is left as it was."""
    block = block_of(block_name, *args).train()
    x = torch.randn(2, 8, 9, 12, requires_grad=True)
    passed = x.detach().clone()
    results = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            block.zero_grad()
            x.grad = None
            block(x).square().mean().backward()
            results.append([x.grad, *(p.grad.clone() for p in block.parameters())])
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(x, passed)
    for a, b in zip(*results, strict=True):
        assert a.isfinite().all() and torch.equal(a, b)


@CASE
def test_fusing_changes_no_output_and_removes_every_batch_norm(block_name, args, width, block_of):
    model = build_model(
        {
            "nc": 1,
            "anchors": 3,
            "backbone": [[-1, 1, "nn.Identity", []]],
            "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
        }
    )
    model.model[0] = block_of(block_name, *args)
    x = torch.randn(2, 8, 9, 12)
    with torch.no_grad():
        before = model.model[0](x.clone())
        after = model.fuse().model[0](x.clone())
    left = [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert not left
    assert (before - after).abs().max() <= 1e-4 * max(1.0, float(before.abs().max()))


@CASE
def test_onnx_export_accepts_any_batch_and_size(block_name, args, width, tmp_path, block_of):
    onnxruntime = pytest.importorskip("onnxruntime")
    block = block_of(block_name, *args)
    path = str(tmp_path / "block.onnx")
    axes = {"x": {0: "b", 2: "h", 3: "w"}}
    torch.onnx.export(
        block, (torch.randn(2, 8, 8, 12),), path, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((2, 8, 8, 12), (1, 8, 16, 16), (3, 8, 9, 7)):
        x = torch.randn(*shape)
        with torch.no_grad():
            want = block(x.clone()).numpy()
        (got,) = session.run(None, {"x": x.numpy()})
        np.testing.assert_allclose(got, want, atol=2e-5 * max(1.0, float(np.abs(want).max())))


def test_only_the_first_of_repeated_blocks_changes_stride_and_width():
    rows = [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 3, "SandGlass", [16, 2]],
        [-1, 3, "BlazeBlock", [8, 24, 2]],
        [-1, 2, "Inception", [4, 6, 8, 2, 3, 5]],
        [-1, 2, "ShuffleNetV2Unit", [32, 2]],
        [-1, 3, "LinearBottleneck", [16, 2]],
    ]
    model = build_model({"nc": 1, "anchors": 3, "backbone": rows, "head": [[[5], 1, "Detect", ["nc", "anchors"]]]})
    assert [shape[0] for shape in model.shapes[:-1]] == [8, 16, 24, 20, 32, 16]
    assert model.stride.tolist() == [32]


def test_width_multiple_scales_both_widths_of_a_double_blaze_block():
    row = [-1, 2, "BlazeBlock", {"c2": 24, "double_oup": 96, "s": 2}]
    model = build_model(
        {
            "nc": 1,
            "anchors": 3,
            "width_multiple": 0.5,
            "backbone": [row],
            "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
        }
    )
    assert model.shapes[0][0] == 48
    assert model.model[0][0].conv[2].out_channels == 16  # 12, up to the next multiple of 8


@pytest.mark.parametrize(
    ("block_name", "args", "message"),
    [
        ("LinearBottleneck", [8, 8, 3], "stride must be 1 or 2"),
        ("SandGlass", [8, 8, 4], "stride must be 1 or 2"),
        ("ShuffleNetUnit", [8, 30, 3, 2, 3], "3 groups do not divide 7"),
        ("ShuffleNetUnit", [24, 16, 3, 2, 2], "the output width 16 must exceed the input width 24"),
        ("ShuffleNetV2Unit", [8, 9, 2], "must be even"),
        ("Inception", [8, 4, 6, 8, 2, 3, 5, "7x7"], "five: expected one of"),
        ("InceptionConv", [8, 4, 2], "the kernel must be odd"),
        ("InceptionConv", [8, 4, 3, 1, [1, 2]], "expected a list of pairs"),
        ("InceptionConv", [8, 2, 3, 1, [[1, 1]] * 3], "3 pairs for 2 output channels"),
        ("BlazeBlock", [8, 4], "cannot narrow 8 channels to 4"),
        ("XceptionModule", [8, 8, 0], "reps must be at least 1"),
        ("MobileViTBlock", [8, 8, 18], "4 attention heads"),
        ("MobileNetV3", [3, "lage"], "did you mean 'large'"),
        ("MobileViT", [3, "m"], "variant: expected one of xxs, xs, s"),
        ("ShuffleNetV1", [3, 1.0, 5], "groups: expected one of"),
        ("ShuffleNetV2", [3, 0], "width: expected a number above 0"),
    ],
    ids=lambda v: str(v)[:20],
)
def test_wrong_arguments_are_reported(block_name, args, message):
    with pytest.raises(ValueError, match=message):
        BLOCKS[block_name](*args)
