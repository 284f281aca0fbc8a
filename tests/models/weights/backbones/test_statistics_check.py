"""The deviation of batch norms: small where they have seen what their layers read, large otherwise."""

import torch
from torch import nn

from graftdet.models import BLOCKS
from graftdet.models.weights.backbones.statistics_check import MAX_DEVIATION, measure_deviation


def test_trained_statistics_fit_and_those_of_swapped_layers_do_not():
    torch.manual_seed(0)
    layer = BLOCKS["MobileNetV1"](3, 0.25).train()
    for batch_norm in layer.modules():
        if isinstance(batch_norm, nn.BatchNorm2d):
            batch_norm.momentum = None
    with torch.no_grad():
        layer((torch.rand(8, 3, 128, 128) - 0.449) / 0.226)
    state = torch.get_rng_state()
    assert measure_deviation(layer, 3) < MAX_DEVIATION
    assert torch.equal(torch.get_rng_state(), state) and layer.training
    with torch.no_grad():
        for batch_norm in layer.modules():
            if isinstance(batch_norm, nn.BatchNorm2d):
                batch_norm.running_mean.copy_(batch_norm.running_mean.roll(1))
    assert measure_deviation(layer, 3) > MAX_DEVIATION


def test_a_row_without_batch_norms_has_no_deviation():
    assert measure_deviation(nn.Conv2d(3, 8, 3), 3) == 0
