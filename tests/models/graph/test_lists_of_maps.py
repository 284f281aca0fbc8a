"""Rows that give and read lists of maps (CBLinear, CBFuse): known counts and sums, published rows through all commands, reports of wrong lists."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, ModelSpec, build_model, load_model
from graftdet.models.analysis.graph_svg import draw_model
from graftdet.models.analysis.summary import summarize
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.lint.check import check_model
from graftdet.utils.errors import UserError

YOLOV9E = """
nc: 80
depth_multiple: 1.0
width_multiple: 1.0
anchors: 3
backbone:
  [
   [-1, 1, Silence, []],
   [-1, 1, Conv, [64, 3, 2]],  # 1-P1/2
   [-1, 1, Conv, [128, 3, 2]],
   [-1, 1, RepNCSPELAN4, [256, 128, 64, 2]],
   [-1, 1, ADown, [256]],
   [-1, 1, RepNCSPELAN4, [512, 256, 128, 2]],
   [-1, 1, ADown, [512]],
   [-1, 1, RepNCSPELAN4, [1024, 512, 256, 2]],
   [-1, 1, ADown, [1024]],
   [-1, 1, RepNCSPELAN4, [1024, 512, 256, 2]],
   [1, 1, CBLinear, [[64]]], # 10
   [3, 1, CBLinear, [[64, 128]]], # 11
   [5, 1, CBLinear, [[64, 128, 256]]], # 12
   [7, 1, CBLinear, [[64, 128, 256, 512]]], # 13
   [9, 1, CBLinear, [[64, 128, 256, 512, 1024]]], # 14
   [0, 1, Conv, [64, 3, 2]],  # 15-P1/2
   [[10, 11, 12, 13, 14, -1], 1, CBFuse, [[0, 0, 0, 0, 0]]], # 16
   [-1, 1, Conv, [128, 3, 2]],
   [[11, 12, 13, 14, -1], 1, CBFuse, [[1, 1, 1, 1]]], # 18
   [-1, 1, RepNCSPELAN4, [256, 128, 64, 2]],
   [-1, 1, ADown, [256]],
   [[12, 13, 14, -1], 1, CBFuse, [[2, 2, 2]]], # 21
   [-1, 1, RepNCSPELAN4, [512, 256, 128, 2]],
   [-1, 1, ADown, [512]],
   [[13, 14, -1], 1, CBFuse, [[3, 3]]], # 24
   [-1, 1, RepNCSPELAN4, [1024, 512, 256, 2]],
   [-1, 1, ADown, [1024]],
   [[14, -1], 1, CBFuse, [[4]]], # 27
   [-1, 1, RepNCSPELAN4, [1024, 512, 256, 2]],
  ]
head:
  [
   [28, 1, SPPELAN, [512, 256]],
   [-1, 1, nn.Upsample, [None, 2, 'nearest']],
   [[-1, 25], 1, Concat, [1]],
   [-1, 1, RepNCSPELAN4, [512, 512, 256, 2]],
   [-1, 1, nn.Upsample, [None, 2, 'nearest']],
   [[-1, 22], 1, Concat, [1]],
   [-1, 1, RepNCSPELAN4, [256, 256, 128, 2]],
   [-1, 1, ADown, [256]],
   [[-1, 32], 1, Concat, [1]],
   [-1, 1, RepNCSPELAN4, [512, 512, 256, 2]],
   [-1, 1, ADown, [512]],
   [[-1, 29], 1, Concat, [1]],
   [-1, 1, RepNCSPELAN4, [512, 1024, 512, 2]],
   [[35, 38, 41], 1, DDetect, [nc]],
  ]
"""
SMALL = """nc: 2
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [1, 1, CBLinear, [[8, 16]]]
  - [0, 1, Conv, [16, 3, 2]]
  - [[2, -1], 1, CBFuse, [[1]]]
head:
  - [[4], 1, AnchorFreeDetect, [nc]]
"""


def model_of(*pairs):
    """The model of `SMALL` with replacements."""
    text = SMALL
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return build_model(ModelSpec.from_text(text, "small.yaml"))


def test_rows_of_yolov9_e_build_with_the_published_counts():
    """CBLinear is one 1x1 convolution with bias, CBFuse has no weights."""
    model = build_model(ModelSpec.from_text(YOLOV9E, "yolov9-e.yaml"))
    counts = [sum(p.numel() for p in layer.parameters()) for layer in model.model]
    assert counts[10:15] == [4_160, 49_344, 229_824, 984_000, 2_033_600]
    assert [counts[row] for row in (0, 16, 18, 21, 24, 27)] == [0] * 6
    assert model.shapes[12] == [(64, 80, 80), (128, 80, 80), (256, 80, 80)] and model.shapes[16] == (64, 320, 320)
    assert model.head.strides == [8, 16, 32]
    assert list(model.model[10].state_dict()) == ["conv.weight", "conv.bias"]


def test_cblinear_splits_one_convolution(block_of):
    block, x = block_of("CBLinear", 6, [3, 5, 2], 3, 2), torch.randn(2, 6, 8, 9)
    with torch.no_grad():
        maps, whole = block(x), F.conv2d(x, block.conv.weight, block.conv.bias, 2, 1)
    assert [y.shape[1] for y in maps] == [3, 5, 2] and torch.equal(torch.cat(maps, 1), whole)


def test_cbfuse_adds_the_nearest_cells():
    """Each cell of the small maps is repeated; those of a larger map are skipped."""
    last, small, large = torch.randn(1, 2, 4, 6), torch.randn(1, 2, 2, 3), torch.randn(1, 2, 8, 12)
    wanted = last.clone()
    for y in range(4):
        for x in range(6):
            wanted[..., y, x] += small[..., y // 2, x // 2] + large[..., 2 * y, 2 * x]
    fuse = BLOCKS["CBFuse"]([1, 0])
    torch.testing.assert_close(fuse([[torch.randn(1, 5, 2, 3), small], [large], last]), wanted)
    torch.testing.assert_close(fuse([[torch.randn(1, 5, 2, 3), small], large, last]), wanted)  # a list of one


def test_widths_in_the_list_are_scaled_as_all_others():
    model = model_of(("nc: 2", "nc: 2\nwidth_multiple: 0.5"), ("[8, 16]", "[16, 16]"))
    assert model.model[2].c2s == [8, 8] and model.shapes[4] == (8, 160, 160)


def test_the_model_trains_exports_and_is_drawn(tmp_path):
    pytest.importorskip("onnx")
    model = model_of()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sum(y.square().mean() for y in model.train()(images)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert "[8, 16]x160x160" in draw_model(model)
    assert summarize(model)[2].shapes == ((8, 160, 160), (16, 160, 160))
    path = BACKENDS["onnx"].export(model.eval(), tmp_path / "c.onnx", ExportOptions((64, 64), 1, 17, True))
    with torch.no_grad():
        expected = model.head.decode_rows(model.raw_outputs(images)).numpy()
    assert abs(load_model(path).predictions(images) - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[0, 1, Conv, [16", "[2, 1, Conv, [16", r"row 3 .*Conv: row 2 gives a list of 2 maps.*\[2, 1, Index, \[0\]\]"),
        ("[[2, -1], 1, CBFuse, [[1]]]", "[[2, 1], 1, Concat, [1]]", r"row 4 .*row 2 gives a list of 2 maps.*Index"),
        (
            "[[2, -1], 1, CBFuse",
            "[[-1, 2], 1, CBFuse",
            r"row 4 .*the last source gives a list of maps; expected the si",
        ),
        (
            "CBFuse, [[1]]",
            "CBFuse, [[2]]",
            r"row 4 .*position 2 of source 0: it gives 2 maps of \[8, 16\] channels, expected 0 t",
        ),
        ("CBFuse, [[1]]", "CBFuse, [[0]]", r"row 4 .*map 0 of source 0 has 8 channels \(of \[8, 16\]\), but .* has 16"),
        ("CBFuse, [[1]]", "CBFuse, [[1, 1]]", r"row 4 .*idx has 2 positions, expected one for each other source .1."),
        ("CBFuse, [[1]]", "CBFuse, [1]", r"row 4 .*idx must be a list of positions such as \[\[0, 0\]\], got 1"),
        ("CBLinear, [[8, 16]]", "CBLinear, [16]", r"row 2 .*c2s must be a list of output widths such as"),
        (
            "CBLinear, [[8, 16]]",
            "CBLinear, [[8, -3]]",
            r"row 2 .*the output width \(c2s\) must be .* at least 1, got -3",
        ),
        ("1, 1, CBLinear", "1, 2, CBLinear", r"row 2 .*gives 2 maps; its number must be 1, got 2"),
    ],
)
def test_wrong_rows_are_reported_with_their_file_and_row(old, new, message):
    with pytest.raises(UserError, match=r"^small.yaml:\d+:\d+: error.*" + message):
        model_of((old, new))
    problems = check_model(ModelSpec.from_text(SMALL.replace(old, new), "small.yaml"))
    assert [problem.severity for problem in problems].count("error") == 1


def test_a_head_reads_all_maps_of_a_list():
    model = model_of(("[[4], 1,", "[[2, 4], 1,"))
    assert [shape[0] for shape in model.shapes[-1]] == [8, 16, 16]


def test_silence_is_the_identity():
    assert isinstance(BLOCKS["Silence"](), nn.Identity)
