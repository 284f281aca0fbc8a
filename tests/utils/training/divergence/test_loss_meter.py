"""A loss that is not finite: what its message names."""

import pytest
import torch
from torch import nn

from graftdet.utils.training.divergence.loss_meter import NonFiniteLoss, non_finite_rows_named


def test_rows_with_outputs_that_are_not_finite_are_named():
    class Divide(nn.Module):
        def forward(self, x):
            return x / 0

    model = nn.Module()
    model.model = nn.Sequential(nn.Identity(), Divide(), nn.ReLU())
    model.forward = model.model.forward
    expected = pytest.raises(NonFiniteLoss, match="box nan; rows with outputs that are not finite: 1, 2$")
    with expected, non_finite_rows_named(model, torch.ones(1, 3, 8, 8)):
        raise NonFiniteLoss("box nan")
