"""A published network as functions of its tensors, which get their published names when they are first needed."""

import torch
from torch.nn import functional as F


class PublishedNetwork:
    """Base of slow references: subclasses write the forward pass down layer by layer.

    Attributes:
        state: published name -> tensor, in the order in which the layers run.
        convolutions: names of the convolutions in that order, without `.weight`.
    """

    eps = 1e-5

    def __init__(self, nc):
        self.nc, self.state, self.convolutions = nc, {}, []

    def tensor(self, name, shape, scale=None):
        """A random tensor, made once; without `scale` in 0.1..1.1, as statistics of batch norms are."""
        if name not in self.state:
            self.state[name] = torch.randn(shape) * scale if scale else torch.rand(shape) + 0.1
        return self.state[name]

    def conv(self, x, name, c2, k=1, s=1, groups=1, bias=False, gain=1.5):
        """A convolution that keeps the size at stride 1."""
        if f"{name}.weight" not in self.state:
            self.convolutions.append(name)
        shape = (c2, x.shape[1] // groups, k, k)
        weight = self.tensor(f"{name}.weight", shape, gain / (shape[1] * k * k) ** 0.5)
        return F.conv2d(x, weight, self.tensor(f"{name}.bias", (c2,)) if bias else None, s, k // 2, groups=groups)

    def bn(self, x, name, mean="running_mean", variance="running_var"):
        """A batch norm in eval mode."""
        c = (x.shape[1],)
        values = [self.tensor(f"{name}.{kind}", c) for kind in (mean, variance, "weight", "bias")]
        return F.batch_norm(x, *values, eps=self.eps)


def points(maps, strides, offset):
    """Points (N, 2) of all cells in pixels and their strides (N, 1), row after row."""
    found, sizes = [], []
    for x, stride in zip(maps, strides, strict=True):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                found.append([(column + offset) * stride, (row + offset) * stride])
                sizes.append([float(stride)])
    return torch.tensor(found), torch.tensor(sizes)
