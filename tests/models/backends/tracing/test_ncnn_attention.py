"""Attention over parts of a map without operations that ncnn lacks: the same numbers, in torch and in ncnn."""

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import verify
from graftdet.models.backends.tracing.ncnn_blocks import replace_for_ncnn
from graftdet.models.blocks.grouped_attention import ShuffleAttention
from graftdet.models.blocks.mobilevit import MobileViTBlock
from graftdet.models.blocks.swin import C3STR

ANCHORS = [[10, 13, 16, 30], [30, 61, 62, 45]]


@pytest.mark.parametrize(
    ("kind", "arguments"), [(ShuffleAttention, (32, 16, 4)), (C3STR, (64, 2)), (MobileViTBlock, (16, 24, 2))]
)
@pytest.mark.parametrize("shape", [(16, 16), (5, 18)])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_the_same_numbers_in_few_axes(kind, arguments, shape):
    torch.manual_seed(0)
    module, x = nn.Sequential(kind(32, *arguments)).eval(), torch.randn(1, 32, *shape)
    for tensor in module.parameters():
        nn.init.normal_(tensor, std=0.3)
    with torch.inference_mode():
        expected = module(x)
        replace_for_ncnn(module)
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
        graph = torch.jit.trace(module, x, check_trace=False).inlined_graph
    for node in graph.findAllNodes("aten::reshape"):
        sides = [one.toIValue() for one in list(node.inputs())[1].node().inputs()]
        assert sides[0] in (1, None) and len(sides) <= 5, node  # ncnn has four axes beside that of the batch


@pytest.mark.parametrize(
    "row", [["ShuffleAttention", [32, 16, 4]], ["C3STR", [32]], ["MobileViTBlock", [32, 24, 1]]], ids=lambda row: row[0]
)
def test_ncnn_runs_them(row, tmp_path):
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    backbone = [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 4]], [-1, 2, *row], [-1, 1, "Conv", [32, 3, 2]]]
    head = [[[2, 3], 1, "Detect", ["nc", "anchors"]]]
    torch.manual_seed(0)
    model = build_model({"nc": 3, "anchors": ANCHORS, "backbone": backbone, "head": head}).eval()
    options, path = ExportOptions((64, 96)), tmp_path / "a_ncnn_model"
    BACKENDS["ncnn"].export(model, path, options)
    assert verify(model, BACKENDS["ncnn"].load(path), path, options) < 1e-3
