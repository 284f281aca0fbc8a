"""Suppression of logits that are no local maximum: known cells, a slow reference, several levels, gradients."""

import itertools
import math

import pytest
import torch

from graftdet.models.heads.local_maximum import FULL_GAP, PENALTY, WINDOW, suppress_non_maxima


def slow(raw, box_channels, strides):
    """Cell by cell, from the definition. Levels whose strides are multiples of one another."""
    out = [y.clone() for y in raw]
    for (y, stride), result in zip(zip(raw, strides, strict=True), out, strict=True):
        for b, c, row, column in itertools.product(
            range(len(y)), range(box_channels, y.shape[1]), *map(range, y.shape[2:])
        ):
            greatest = -math.inf
            for other, other_stride in zip(raw, strides, strict=True):
                # the cells of the other level that the window's cells lie in, or that lie in them
                reach, cell = WINDOW // 2, max(stride, other_stride)
                top, left = (int(i * stride // cell - reach) * cell // other_stride for i in (row, column))
                bottom, right = (int(i * stride // cell + reach + 1) * cell // other_stride for i in (row, column))
                greatest = max(greatest, other[b, c, max(top, 0) : bottom, max(left, 0) : right].max().item())
            own = y[b, c, row, column].item()
            result[b, c, row, column] = own - PENALTY * min((greatest - own) / FULL_GAP, 1)
    return out


@pytest.mark.parametrize("strides", [[8], [8, 16], [8, 16, 32], [32, 8, 16], [8, 8]])
@pytest.mark.parametrize("spread", [1, 0.01])
def test_suppression_equals_a_slow_reference(strides, spread):
    torch.manual_seed(0)
    raw = [torch.randn(2, 4 + 3, 96 // s, 64 // s) * spread for s in strides]
    for fast, expected in zip(suppress_non_maxima(raw, 4, strides), slow(raw, 4, strides), strict=True):
        torch.testing.assert_close(fast, expected, atol=1e-4, rtol=1e-5)


def test_a_local_maximum_is_unchanged_and_its_window_suppressed():
    raw = [torch.zeros(1, 4 + 2, 12, 12), torch.zeros(1, 4 + 2, 6, 6)]
    raw[0][0, 4, 5, 6] = 3.0
    fine, coarse = suppress_non_maxima(raw, 4, [8, 16])
    assert fine[0, 4, 5, 6] == 3
    window = torch.zeros(12, 12, dtype=torch.bool)
    window[4:7, 5:8] = True
    window[5, 6] = False
    assert torch.equal(fine[0, 4] < 0, window) and torch.allclose(fine[0, 4][window], torch.tensor(-PENALTY))
    assert torch.equal(
        (coarse[0, 4] < 0).nonzero().unique(dim=0), torch.cartesian_prod(torch.arange(1, 4), torch.arange(2, 5))
    )
    assert (fine[0, 5] == 0).all() and (coarse[0, 5] == 0).all()  # other classes are independent
    assert (fine[0, :4] == 0).all()


def test_nearly_equal_cells_are_suppressed_little_and_levels_suppress_each_other():
    raw = [torch.full((1, 1, 8, 8), -9.0), torch.full((1, 1, 4, 4), -9.0)]
    raw[0][0, 0, 2, 2], raw[0][0, 0, 2, 3] = 1, 1 - 1e-5
    raw[1][0, 0, 1, 1] = 0.5
    fine, coarse = suppress_non_maxima(raw, 0, [8, 16])
    assert fine[0, 0, 2, 2] == 1 and 1 - 0.01 < fine[0, 0, 2, 3] < 1
    assert coarse[0, 0, 1, 1] == 0.5 - PENALTY


def test_strides_that_are_not_multiples_of_each_other():
    raw = [torch.randn(1, 3, 9, 6), torch.randn(1, 3, 6, 4)]
    fine, coarse = suppress_non_maxima(raw, 1, [16, 24])
    assert fine.shape == raw[0].shape and coarse.shape == raw[1].shape
    best = max(range(2), key=lambda i: raw[i][:, 1].max())
    cell = raw[best][0, 1].argmax()
    assert (fine, coarse)[best][0, 1].flatten()[cell] == raw[best][0, 1].max()


def test_an_empty_batch_is_accepted_and_gradients_pass_through():
    assert suppress_non_maxima([torch.zeros(0, 5, 4, 4)], 4, [8])[0].shape == (0, 5, 4, 4)
    raw = torch.randn(1, 5, 6, 6, requires_grad=True)
    suppress_non_maxima([raw], 4, [8])[0].sum().backward()
    assert (raw.grad == 1).all()
