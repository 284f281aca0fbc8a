"""What whole backbones share: layers in a row, maps given at chosen strides, the papers' rounding of widths."""

from graftdet.models.blocks.conv import _fuse_pair
from graftdet.utils.errors import UserError
from torch import nn

STRIDES = (8, 16, 32)


def make_divisible(width: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `width`, at least one and never below 90 % of it (MobileNet v2's rule)."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def check_width(width, name: str = "width") -> None:
    """Raise `UserError` unless `width`, which multiplies all widths inside a network or module, is a sensible number."""
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width <= 8:
        raise UserError(
            f"{name}: expected a number above 0 and at most 8, such as 0.5, that multiplies all widths inside, got {width!r}"
        )


def scaled(width):
    """The function that multiplies a width by `width` and rounds it; raises `UserError` as `check_width` does."""
    check_width(width)
    return lambda channels: make_divisible(channels * width)


def are_among(values, known) -> bool:
    """Whether `values` is a list of different ones of `known`."""
    return (
        isinstance(values, (list, tuple))
        and bool(values)
        and all(v in known for v in values)
        and len(set(values)) == len(values)
    )


def conv_bn(c1, c2, k=1, s=1, p=None, g=1, act=None, eps=1e-5, momentum=0.1) -> nn.Sequential:
    """Convolution without bias, batch norm and, where one is given, the activation module `act`: named 0, 1, 2."""
    padding = (k - 1) // 2 if p is None else p
    layers = [nn.Conv2d(c1, c2, k, s, padding, groups=g, bias=False), nn.BatchNorm2d(c2, eps, momentum)]
    return nn.Sequential(*layers, *([] if act is None else [act]))


class Backbone(nn.Module):
    """Layers in a row whose `forward` gives a list of maps, one for each stride that was asked for.

    A subclass calls `stack` with its layers. Layers after the last map that is wanted are not built into the model, so
    that no weight is unused. The width of a backbone is its own argument: a YAML's width multiple leaves it alone.
    """

    def stack(self, layers: list[tuple[str, nn.Module, int]], out) -> None:
        """Take `layers`, each with its name (dots make nested Sequentials) and the stride of its output.

        `out` lists the strides wanted; the map of a stride is that of the last layer at this stride. Raises
        `UserError` for a stride that the network does not have.
        """
        last = {stride: index for index, (_, _, stride) in enumerate(layers)}
        if not are_among(out, list(last)):
            raise UserError(f"out: expected a list of different strides, some of {sorted(last)}, got {out!r}")
        taps = {last[stride]: position for position, stride in enumerate(out)}
        self._steps: list[tuple[str, int | None]] = []  # name of the layer, place of its map in the list
        for index, (name, module, _) in enumerate(layers[: max(taps) + 1]):
            *containers, leaf = name.split(".")
            parent = self
            for container in containers:
                if container not in parent._modules:
                    parent.add_module(container, nn.Sequential())
                parent = parent._modules[container]
            parent.add_module(leaf, module)
            self._steps.append((name, taps.get(index)))

    def forward(self, x):
        """(B, c1, H, W) -> list of (B, c, H / stride, W / stride), in the order of `out`."""
        maps = {}
        for name, position in self._steps:
            x = self.get_submodule(name)(x)
            if position is not None:
                maps[position] = x
        return [maps[position] for position in sorted(maps)]

    def fuse(self) -> None:
        """Merge convolutions and batch norms that are layers of the backbone itself; inner blocks fuse themselves."""
        names = [name for name, _ in self._steps]
        for conv, bn in zip(names, names[1:], strict=False):
            if type(self._modules.get(conv)) is nn.Conv2d and type(self._modules.get(bn)) is nn.BatchNorm2d:
                _fuse_pair(self, conv, bn)
