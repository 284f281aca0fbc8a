"""Normalize computes (x - mean) / std per channel, and refuses other values."""

import pytest
import torch

from graftdet.models import BLOCKS
from graftdet.utils.errors import UserError


def test_each_channel_is_normalized_by_its_own_numbers():
    block = BLOCKS["Normalize"]([0.5, 0.25, 0], [0.5, 2, 1])
    output = block(torch.ones(1, 3, 2, 2))
    assert output[0, :, 0, 0].tolist() == [1, 0.375, 1] and not block.state_dict()


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, 0, "std: expected numbers above 0, got 0"),
        (0.5, [1, 1, -1], r"std: expected numbers above 0, got \[1, 1, -1\]"),
        ("0.5", 1, "mean: expected a number or a list of one number per channel, got '0.5'"),
        (True, 1, "mean: expected a number"),
        ([], 1, "mean: expected a number"),
    ],
)
def test_other_values_are_refused(mean, std, message):
    with pytest.raises(UserError, match=message):
        BLOCKS["Normalize"](mean, std)
