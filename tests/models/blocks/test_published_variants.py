"""Blocks of published variants of YOLOv5: CARAFE, TripletAttention, SKAttention, ASPP, SPPFCSPC, C3_Faster."""

import pytest
import torch
from torch.nn import functional as F

from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.detection_model import build_model
from graftdet.models.lint.check import check_model


def cfg_with(module, args, number=1):
    backbone = [[-1, 1, "Conv", [64, 3, 2]], [-1, number, module, args]]
    head = [[[1], 1, "Detect", ["nc", "anchors"]]]
    return {"nc": 2, "anchors": 3, "width_multiple": 0.5, "backbone": backbone, "head": head}


def test_carafe_is_the_weighted_sum_of_the_neighbors_of_each_cell():
    torch.manual_seed(0)
    block = BLOCKS["CARAFE"](8, k_up=3, c_mid=4).eval()
    x = torch.rand(2, 8, 5, 4)
    with torch.no_grad():
        output = block(x)
        kernels = F.softmax(F.pixel_shuffle(block.enc(block.comp(x)), 2), 1)
    padded = F.pad(x, (1, 1, 1, 1))
    for i, j in ((0, 0), (3, 5), (9, 7)):
        window = padded[:, :, i // 2 : i // 2 + 3, j // 2 : j // 2 + 3].flatten(2)  # (B, C, 9)
        expected = (window * kernels[:, :, i, j].unsqueeze(1)).sum(2)
        torch.testing.assert_close(output[:, :, i, j], expected)


@pytest.mark.parametrize(
    ("args", "scale", "k_enc", "k_up"),
    [([], 2, 3, 5), ([2], 2, 3, 5), ([4, 3, 5, 16], 4, 5, 3), ([64], 2, 3, 5), ([64, 5, 3], 2, 5, 3)],
)
def test_rows_of_carafe_as_they_are_published(args, scale, k_enc, k_up):
    cfg = cfg_with("CARAFE", args)
    block = build_model(cfg).model[1]
    assert (block.scale, block.enc.conv.kernel_size[0], block.k_up) == (scale, k_enc, k_up)
    assert [problem for problem in check_model(cfg) if problem.severity == "error"] == []


def test_triplet_attention_averages_three_gates():
    block = BLOCKS["TripletAttention"](8).eval()
    x = torch.rand(1, 8, 6, 5)
    for gate in (block.cw, block.hc, block.hw):
        torch.nn.init.zeros_(gate.conv.conv.weight)
    torch.testing.assert_close(block(x), x / 2)  # the sigmoid of zero
    torch.nn.init.constant_(block.hc.conv.conv.weight, 0.02)
    gate = block.hc.conv(torch.cat((x.amax(3, keepdim=True), x.mean(3, keepdim=True)), 3).permute(0, 3, 2, 1))
    expected = x * (2 * 0.5 + torch.sigmoid(gate).permute(0, 3, 2, 1)) / 3  # (B, c, H, 1)
    torch.testing.assert_close(block(x), expected)


def test_selective_kernels_weight_branches_by_a_softmax():
    block = BLOCKS["SKAttention"](16, kernels=[3, 5]).eval()
    x = torch.rand(2, 16, 6, 6)
    for layer in block.fcs:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.testing.assert_close(block(x), (block.convs[0](x) + block.convs[1](x)) / 2)
    torch.nn.init.constant_(block.fcs[1].bias, 50.0)
    torch.testing.assert_close(block(x), block.convs[1](x))


def test_sppfcspc_computes_what_sppcspc_computes():
    torch.manual_seed(0)
    parallel, serial = BLOCKS["SPPCSPC"](16, 16).eval(), BLOCKS["SPPFCSPC"](16, 16).eval()
    serial.load_state_dict(parallel.state_dict())
    x = torch.rand(1, 16, 20, 20)
    torch.testing.assert_close(serial(x), parallel(x))


def test_aspp_has_a_branch_per_rate_and_the_mean():
    model = build_model(cfg_with("ASPP", [128, [1, 3, 5]]))
    block = model.model[1]
    assert [branch.conv.dilation[0] for branch in block.branches] == [1, 3, 5]
    assert [branch.conv.kernel_size[0] for branch in block.branches] == [1, 3, 3]
    x = torch.rand(1, 32, 8, 8)
    first = block.train()(x)  # a batch of one
    assert first.shape == (1, 64, 8, 8)


def test_c3_faster_has_as_many_blocks_as_the_row_states():
    block = build_model(cfg_with("C3_Faster", [64], 3)).model[1]
    assert [type(inner).__name__ for inner in block.m] == ["FasterNetBlock"] * 3
