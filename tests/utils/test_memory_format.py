"""The memory format is tried as training runs, per block: only blocks that need it get contiguous memory."""

import copy

import pytest
import torch
from torch import nn

from graftdet.utils.memory_format import prefer_channels_last

CPU = torch.device("cpu")


class Groups(nn.Module):
    """Batch and groups become one axis, as in Shuffle Attention; works on one image of channels-last memory."""

    def forward(self, x):
        b, c, h, w = x.shape
        return x.view(b * 2, c // 2, h, w).mul(2).view(b, c, h, w)


class BackwardGroups(nn.Module):
    """Only its backward pass needs contiguous memory."""

    class _Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, gradient):
            return gradient.view(-1).view(gradient.shape)

    def forward(self, x):
        return self._Function.apply(x)


class NeverTrains(nn.Module):
    def forward(self, x):
        y = x.sigmoid()
        y.data.add_(1)
        return _Failing.apply(y)


class _Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no gradient of this")


class InPlace(nn.Module):
    def forward(self, x):
        return x.mul_(2)


def model_with(*blocks):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sigmoid())
    return nn.Sequential(first, *blocks, nn.Conv2d(8, 4, 3, padding=1))


def is_last(conv):
    return conv.weight.is_contiguous(memory_format=torch.channels_last)


def step(model, layout, images):
    outputs = model(images.contiguous(memory_format=layout))
    outputs.square().sum().backward()
    return outputs.detach(), [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("training", [False, True])
def test_a_model_that_supports_it_becomes_channels_last(training):
    model = model_with()
    assert (
        prefer_channels_last(model.train(), CPU, (3, 16, 16), training=training) == torch.channels_last
        and model.training
    )
    assert is_last(model[0][0]) and is_last(model[1])


@pytest.mark.parametrize("block", [Groups, BackwardGroups])
@pytest.mark.parametrize("size", [16, 32])
def test_only_the_block_that_needs_it_is_contiguous(block, size):
    model = model_with(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), block()), nn.Conv2d(8, 8, 3, padding=1))
    plain = copy.deepcopy(model)
    layout = prefer_channels_last(model.train(), CPU, (3, size, size), training=True)
    assert layout == torch.channels_last
    assert [is_last(conv) for conv in (model[0][0], model[1][0], model[2], model[3])] == [True, False, True, True]
    images = torch.rand(3, 3, size, size).double()
    results = zip(step(copy.deepcopy(model).double(), layout, images)[1], step(plain.train().double(), torch.contiguous_format, images)[1],
                  strict=True)  # fmt: skip
    assert all(torch.allclose(a, b) for a, b in results)


def test_the_trial_changes_nothing():
    model = model_with(nn.Dropout(0.5), Groups()).train()
    model[0][1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    prefer_channels_last(model, CPU, (3, 16, 16), training=True)
    assert torch.equal(torch.rand(3), expected) and [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("block", "message"), [(NeverTrains, "no gradient of this"), (InPlace, "changes its input in place")]
)
def test_a_block_that_cannot_be_trained_is_reported(block, message):
    def explain(module, inputs, error):
        return ValueError(f"{type(module).__name__} {tuple(inputs[0].shape)}: {error}")

    with pytest.raises(ValueError, match=rf"{block.__name__} \(2, 8, 16, 16\): {message}"):
        prefer_channels_last(model_with(block()), CPU, (3, 16, 16), training=True, explain=explain)


def test_without_training_an_error_leaves_contiguous_memory():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("too small")

    model = model_with(Fails())
    assert prefer_channels_last(model, CPU, (3, 16, 16)) == torch.contiguous_format and not is_last(model[2])
