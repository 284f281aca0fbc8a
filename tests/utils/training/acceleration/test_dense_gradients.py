"""Gradients of concatenated tensors are dense in the modules that they reach."""

import copy

import torch
from torch import nn

from graftdet.utils.training.acceleration.dense_gradients import make_gradients_dense


class Concatenating(nn.Module):
    """Two activations, concatenated."""

    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 16, 3), nn.SiLU(), nn.SiLU()

    def forward(self, x):
        x = self.conv(x)
        return torch.cat((self.one(x), self.two(x + 1)), 1)


def gradients(model, layout):
    """Gradients of the weights, and the strides of the gradients behind the activations."""
    seen = []
    for activation in (model.one, model.two):  # hooks run in the order of their registration
        activation.register_forward_hook(lambda _, __, y: y.register_hook(lambda g: seen.append(g.stride())) and None)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 9, 9).contiguous(memory_format=layout)
    model(images).square().sum().backward()
    return model.conv.weight.grad, seen


def test_gradients_are_dense_and_equal_up_to_rounding():
    torch.manual_seed(0)
    plain = Concatenating()
    for layout, strides in ((torch.channels_last, (784, 1, 112, 16)), (torch.contiguous_format, (784, 49, 7, 1))):
        one, other = (copy.deepcopy(plain).to(memory_format=layout) for _ in range(2))
        make_gradients_dense(other)
        (expected, sliced), (result, dense) = gradients(one, layout), gradients(other, layout)
        assert strides not in sliced and set(dense) == {strides}
        torch.testing.assert_close(result, expected)


def test_nothing_happens_without_gradients():
    model = nn.Sequential(nn.SiLU(), nn.Identity())
    make_gradients_dense(model)
    assert not model(torch.zeros(1, 1, 2, 2)).requires_grad and not model._forward_hooks
