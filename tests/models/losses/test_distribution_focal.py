"""Distances as distributions: means, the distribution focal loss, conversion between boxes and distances."""

import math

import pytest
import torch

from graftdet.models.losses.distribution_focal import distribution_focal_loss, expected_distances
from graftdet.models.losses.points import boxes_to_distances, distances_to_boxes

REG_MAX = 8


def slow_loss(logits, distances):
    """Li et al., 2020, equation 6, for one point: logits (4 x reg_max), four distances."""
    total = 0.0
    for i in range(4):
        row = logits[i * REG_MAX : (i + 1) * REG_MAX]
        total_exp = sum(math.exp(v) for v in row)
        low, y = math.floor(distances[i]), distances[i]
        s_low, s_high = math.exp(row[low]) / total_exp, math.exp(row[low + 1]) / total_exp
        total -= (low + 1 - y) * math.log(s_low) + (y - low) * math.log(s_high)
    return total / 4


def test_loss_equals_the_formula():
    make = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 4 * REG_MAX, generator=make) * 3
    distances = torch.rand(20, 4, generator=make) * (REG_MAX - 1.02)
    distances[0] = torch.tensor([0.0, 1.0, 6.0, 6.99])
    expected = [slow_loss(a, b) for a, b in zip(logits.double().tolist(), distances.double().tolist(), strict=True)]
    torch.testing.assert_close(
        distribution_focal_loss(logits, distances, REG_MAX), torch.tensor(expected), atol=1e-5, rtol=1e-5
    )
    assert distribution_focal_loss(logits[:0], distances[:0], REG_MAX).shape == (0,)


def test_minimum_is_reached_by_interpolation_of_two_neighboring_bins():
    wanted = torch.tensor([[0.25, 3.5, 6.0, 2.75]])
    logits = torch.full((1, 4 * REG_MAX), -30.0)
    for i, value in enumerate(wanted[0].tolist()):
        low = int(value)
        logits[0, i * REG_MAX + low] = math.log(1 - value + low)
        if value > low:
            logits[0, i * REG_MAX + low + 1] = math.log(value - low)
    torch.testing.assert_close(expected_distances(logits, REG_MAX), wanted, atol=1e-5, rtol=0)
    least = distribution_focal_loss(logits, wanted, REG_MAX)
    for seed in range(20):
        other = logits + torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)) * 0.3
        assert distribution_focal_loss(other, wanted, REG_MAX) > least


def test_expected_distances():
    logits = torch.zeros(2, 5, 4 * REG_MAX)
    assert torch.allclose(expected_distances(logits, REG_MAX), torch.full((2, 5, 4), (REG_MAX - 1) / 2))
    logits[0, 0, REG_MAX + 6] = 1000  # the second distance, certainly 6
    assert expected_distances(logits, REG_MAX)[0, 0].tolist() == pytest.approx([3.5, 6, 3.5, 3.5])


def test_boxes_and_distances_are_inverse_within_the_bins():
    points = torch.tensor([[4.5, 2.5], [0.5, 0.5]])
    boxes = torch.tensor([[1.0, 2.0, 9.25, 4.0], [0.0, -3.0, 2.0, 1.5]])
    distances = boxes_to_distances(points, boxes, REG_MAX)
    torch.testing.assert_close(distances[0], torch.tensor([3.5, 0.5, 4.75, 1.5]))
    torch.testing.assert_close(distances_to_boxes(points, distances), boxes)
    far = boxes_to_distances(points, torch.tensor([[-90.0, -90.0, 90.0, 90.0], [5.0, 5.0, 6.0, 6.0]]), REG_MAX)
    assert far.min() == 0 and REG_MAX - 1.02 < far.max() < REG_MAX - 1  # a point outside its box; a box beyond the bins
    assert distribution_focal_loss(torch.zeros(2, 4 * REG_MAX), far, REG_MAX).isfinite().all()
