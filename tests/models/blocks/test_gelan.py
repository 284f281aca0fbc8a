"""Blocks of YOLOv9, YOLOv10 and YOLO11: published counts, slow references, fusing, rows as they are published."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, build_model
from graftdet.utils.errors import UserError


@pytest.mark.parametrize(
    ("block_name", "args", "parameters"),
    [
        ("C3k2", [32, 64, 1, False, 0.25], 6_640),  # rows of the published yolo11n
        ("C3k2", [64, 128, 1, False, 0.25], 26_080),
        ("C3k2", [128, 128, 1, True], 87_040),
        ("C3k2", [256, 256, 1, True], 346_112),
        ("C3k2", [384, 128, 1, False], 111_296),
        ("C2PSA", [256, 256, 1], 249_728),
        ("PSA", [256, 256], 249_728),  # of yolov10n
        ("SCDown", [64, 128, 3, 2], 9_856),
        ("SCDown", [128, 256, 3, 2], 36_096),
        ("C2fCIB", [384, 256, 1, True, True], 282_624),
        ("RepNCSPELAN4", [128, 256, 128, 64, 1], 212_864),  # of yolov9c
        ("RepNCSPELAN4", [512, 512, 512, 256, 1], 2_857_472),
        ("RepNCSPELAN4", [1024, 512, 512, 256, 1], 3_119_616),
        ("ADown", [256, 256], 164_352),
        ("SPPELAN", [512, 512, 256], 656_896),
    ],
    ids=str,
)
def test_parameter_counts_equal_published_ones(block_name, args, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in BLOCKS[block_name](*args).parameters()) == parameters


@pytest.mark.parametrize(("width", "heads"), [(8, 1), (128, 1), (256, 2), (320, 2), (400, 2), (392, 2)])
def test_attention_equals_a_slow_reference(width, heads, block_of):
    """Attention works on half of the channels, with at least 64 channels per head if there are several."""
    attention = block_of("C2PSA", width, width).m[0].attn
    assert attention.heads == heads
    x = torch.randn(2, width // 2, 3, 5)
    with torch.no_grad():
        mixed = attention.qkv(x)
        parts, values = [], []
        for head in mixed.chunk(heads, 1):
            q, k, v = head.split((attention.key_width, attention.key_width, attention.width), 1)
            sequences = [t.flatten(2).transpose(1, 2) for t in (q, k, v)]  # (B, H*W, channels)
            parts.append(F.scaled_dot_product_attention(*sequences).transpose(1, 2).reshape_as(v))
            values.append(v)
        expected = attention.proj(torch.cat(parts, 1) + attention.pe(torch.cat(values, 1)))
        assert torch.allclose(attention(x), expected, atol=1e-5)


def test_half_of_the_channels_skips_the_attention(block_of):
    block, x = block_of("PSA", 16, 24), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        passed, attended = block.cv1(x).chunk(2, 1)
        attended = attended + block.m[0].attn(attended)
        attended = attended + block.m[0].ffn(attended)
        assert torch.allclose(block(x), block.cv2(torch.cat((passed, attended), 1)), atol=1e-6)
    with pytest.raises(ValueError, match="at least two channels"):
        BLOCKS["PSA"](8, 2)


def test_adown_equals_a_slow_reference(block_of):
    block, x = block_of("ADown", 4, 6), torch.randn(2, 4, 8, 6)
    mean = torch.stack([x[..., i : i + 7, j : j + 5] for i in (0, 1) for j in (0, 1)]).mean(0)
    largest = torch.stack(
        [
            torch.stack(
                [F.pad(mean[:, 2:], (1, 1, 1, 1), value=-9)[..., i : i + 3, j : j + 3].amax((2, 3)) for j in (0, 2, 4)],
                -1,
            )
            for i in (0, 2, 4, 6)
        ],
        -2,
    )
    with torch.no_grad():
        assert torch.allclose(block(x), torch.cat((block.cv1(mean[:, :2]), block.cv2(largest)), 1), atol=1e-6)
    with pytest.raises(ValueError, match="expected even widths, got 3 and 8"):
        BLOCKS["ADown"](3, 8)


@pytest.mark.parametrize(
    ("block_name", "args"), [("RepNCSPELAN4", [8, 12, 8, 6, 2]), ("C2fCIB", [8, 12, 2, True, True])]
)
def test_fusing_changes_no_output_and_removes_every_batch_norm(block_name, args, block_of):
    block, x = block_of(block_name, *args), torch.randn(2, 8, 9, 11)
    with torch.no_grad():
        before, count = block(x), len(list(block.parameters()))
        for _ in range(2):  # the second time changes nothing
            for m in list(block.modules()):
                if hasattr(m, "fuse"):
                    m.fuse()
        assert torch.allclose(block(x), before, atol=1e-5) and len(list(block.parameters())) < count
    assert not any(isinstance(m, nn.BatchNorm2d) for m in block.modules())


def test_cib_has_a_shortcut_only_if_requested(block_of):
    x = torch.randn(2, 8, 4, 4)
    for add in (True, False):
        block = block_of("CIB", 8, 8, add)
        with torch.no_grad():
            assert torch.allclose(block(x), block.cv1(x) + (x if add else 0), atol=1e-6)
    assert not block_of("CIB", 8, 12).add


@pytest.mark.parametrize(
    ("block_name", "args", "message"),
    [
        ("RepNCSPELAN4", [64, 32, 16, -1], "n must be a whole number of at least 1, got -1"),
        ("RepNCSPELAN4", [64, 32, 1], "c4 is halved: expected at least 2, got 1"),
        ("ELAN1", [64, None, 16], "c3 is halved: expected an even number, got None"),
        ("ELAN1", [64, 32, "a"], "argument 'c4' must be a whole number of at least 1, got 'a'"),
        ("SPPELAN", [64, 2_000_000_000], "argument 'c3' must be at most 1048576, got 2000000000"),
    ],
)
def test_wrong_hidden_widths_are_reported(block_name, args, message):
    with pytest.raises(UserError, match=rf"row 0 .*{block_name}: .*{message}"):
        build_model({"nc": 2, "backbone": [[-1, 1, block_name, args]], "head": [[[-1], 1, "Detect", ["nc"]]]})


def test_the_activation_of_the_model_is_used_everywhere():
    rows = [[-1, 1, "RepNCSPELAN4", [32, 16, 8, 1]], [-1, 1, "C2fCIB", [32, True, True]], [-1, 1, "PSA", [32]]]
    model = build_model({"nc": 2, "activation": "nn.ReLU()", "backbone": rows, "head": [[[-1], 1, "Detect", ["nc"]]]})
    assert not any(isinstance(m, nn.SiLU) for m in model.model[:-1].modules())


def test_half_of_the_channels_skips_the_bottlenecks(block_of):
    block, x = block_of("C2", 8, 12, 2), torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        inner, passed = block.cv1(x).chunk(2, 1)
        for m in block.m:
            inner = inner + m.cv2(m.cv1(inner))
        assert torch.allclose(block(x), block.cv2(torch.cat((inner, passed), 1)), atol=1e-6)


def test_published_rows_build_with_scaled_widths():
    """Widths inside GELAN are not scaled; its number of bottlenecks is an argument of the row."""
    model = build_model(
        {
            "nc": 2,
            "scales": {"n": [0.5, 0.25, 1024]},
            "backbone": [
                [-1, 1, "Conv", [64, 3, 2]],
                [-1, 1, "RepNCSPELAN4", [128, 32, 16, 3]],
                [-1, 1, "ADown", [256]],
                [-1, 2, "C3k2", [256, False, 0.25]],
                [-1, 1, "SCDown", [512, 3, 2]],
                [-1, 4, "C3k2", [512, True]],
                [-1, 1, "SPPELAN", [512, 32]],
                [-1, 4, "C2PSA", [512]],
                [-1, 1, "AConv", [1024]],
                [-1, 2, "C2fCIB", [1024, True]],
            ],
            "head": [[[5, 7, 9], 1, "v10Detect", ["nc"]]],
        }
    )
    assert [shape[0] for shape in model.shapes[:-1]] == [16, 32, 64, 64, 128, 128, 128, 128, 256, 256]
    assert model.model[1].cv2[0].m[0].cv1.conv1.conv.in_channels == 8 and len(model.model[1].cv2[0].m) == 3
    assert [len(model.model[i].m) for i in (3, 5, 7, 9)] == [1, 2, 2, 1]
    assert type(model.head).__name__ == "OneToOneDetect" and model.head.strides == [8, 8, 16]
