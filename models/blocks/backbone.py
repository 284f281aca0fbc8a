"""Base class of whole backbones, and the rounding of widths in their papers."""

from collections.abc import Callable, Collection
from itertools import pairwise

from torch import Tensor, nn

from graftdet.models.blocks.conv import fuse_pair, is_fusible
from graftdet.utils.errors import UserError

STRIDES = (8, 16, 32)


def make_divisible(width: float, divisor: int = 8) -> int:
    """Round a width to the nearest multiple of `divisor`, never below 90 % of it (the rule of MobileNet v2)."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def check_width_factor(width: object, name: str = "width") -> None:
    """Raise `UserError` unless `width`, a factor of all widths inside a module, is above 0 and at most 8."""
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width <= 8:
        raise UserError(
            f"{name}: expected a number above 0 and at most 8, such as 0.5, that multiplies all widths inside, "
            f"got {width!r}"
        )


def width_scaler(width: float) -> Callable[[int], int]:
    """Return a function that multiplies widths by `width` and rounds them to multiples of 8.

    Raises:
        UserError: see `check_width_factor`.
    """
    check_width_factor(width)
    return lambda channels: make_divisible(channels * width)


def are_distinct_choices(values: object, known: Collection) -> bool:
    """Whether `values` is a non-empty list of different elements of `known`."""
    return (
        isinstance(values, (list, tuple))
        and bool(values)
        and all(v in known for v in values)
        and len(set(values)) == len(values)
    )


def conv_bn(c1, c2, k=1, s=1, p=None, g=1, act=None, eps=1e-5, momentum=0.1) -> nn.Sequential:
    """Convolution without bias, batch norm and the activation module `act` (None for none), named 0, 1, 2.

    `p` is the padding; None keeps the size at stride 1 for odd kernels.
    """
    padding = (k - 1) // 2 if p is None else p
    layers = [nn.Conv2d(c1, c2, k, s, padding, groups=g, bias=False), nn.BatchNorm2d(c2, eps, momentum)]
    return nn.Sequential(*layers, *([] if act is None else [act]))


class Backbone(nn.Module):
    """A sequence of layers that returns a list of maps, one per requested stride.

    A subclass calls `stack` with its layers. Layers behind the last requested map are not part of the module, so that
    no weight is unused. The width of a backbone is its own argument: the width multiple of a model does not apply.
    """

    def stack(self, layers: list[tuple[str, nn.Module, int]], out) -> None:
        """Set the layers.

        Args:
            layers: name (dots make nested Sequentials), module and output stride of each layer.
            out: strides of the maps that `forward` returns; the map of a stride is the output of its last layer.

        Raises:
            UserError: the network has no such stride.
        """
        last = {stride: index for index, (_, _, stride) in enumerate(layers)}
        if not are_distinct_choices(out, list(last)):
            raise UserError(f"out: expected a list of different strides, some of {sorted(last)}, got {out!r}")
        taps = {last[stride]: position for position, stride in enumerate(out)}
        self._steps: list[tuple[str, int | None]] = []  # layer name, index of its map in the output
        for index, (name, module, _) in enumerate(layers[: max(taps) + 1]):
            *containers, leaf = name.split(".")
            parent = self
            for container in containers:
                if container not in parent._modules:
                    parent.add_module(container, nn.Sequential())
                parent = parent._modules[container]
            parent.add_module(leaf, module)
            self._steps.append((name, taps.get(index)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, c1, H, W) -> list of (B, c, H / stride, W / stride), in the order of `out`."""
        maps = {}
        for name, position in self._steps:
            x = self.get_submodule(name)(x)
            if position is not None:
                maps[position] = x
        return [maps[position] for position in sorted(maps)]

    def fuse(self) -> None:
        """Merge convolutions and batch norms among the layers, in place; inner blocks fuse themselves."""
        names = [name for name, _ in self._steps]
        for conv, bn in pairwise(names):
            if is_fusible(self._modules.get(conv), self._modules.get(bn)):
                fuse_pair(self, conv, bn)
