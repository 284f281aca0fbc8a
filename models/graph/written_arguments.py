"""Args of a row that the parser fills in by itself (the input width, the number of repeats), or that leave one out.

Rows of published forks may give them, because their parsers hand all args to the constructor as they are written:
`[-1, 1, MyAttention, [1024]]` for `(channel, reduction=16)`, `[-1, 1, MyBlock, [256, 1, 8]]` for `(c1, c2, n,
reduction=16)`. Bound one by one to the remaining arguments they would be a reduction of 1024, and of 1. Rows of
attention blocks, which do not change the width, may omit it: `[-1, 1, EMA, [8]]` for `(c1, c2=None, factor=8)`.
"""

import enum
import itertools
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from graftdet.models.blocks.argument_ranges import MAX_WIDTH, is_positive_int
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.argument_checks import convert_number
from graftdet.models.graph.signatures import REQUIRED, SHORT_NAMES, Signature, plain_name
from graftdet.models.spec.row import MAX_REPEATS
from graftdet.utils.errors import UserError

SMALLEST_WIDTH = 8
"""Smaller numbers are never read as the input width."""

_RATIOS = frozenset(
    """
    reduction reductionratio reductionrate red ratio r rate squeeze squeezefactor squeezeratio factor e expand expansion
    expandratio rate scale scales gain gamma alpha beta b lambda elambda heads head numheads nheads nhead windowsize
    winsize ws window patchsize patch groupsize numgroups blocksize
    """.split()
).union(*(SHORT_NAMES[key] for key in "skpgd"))
_REDUCTIONS = frozenset("reduction reductionratio reductionrate red ratio r squeeze squeezefactor".split())
_WIDTH_OR_SIZE = re.compile(
    r"ch$|chs$|chan|dim|plane|feat|filter|hidden|mid|inner|embed|width|height|size|resol|shape|^c[\dmhir_]*$|^[hw]$|^out|^in"
)
_LARGEST_RATIO = 64
"""Larger numbers are never read as the ratio of a block whose output width is omitted."""


class Reading(enum.Enum):
    """How a row's args are read: as is most likely, or, where that cannot be built, in one of two other ways."""

    LIKELY = enum.auto()
    INPUT_WIDTH = enum.auto()
    """They begin with the input width."""
    SAME_WIDTH = enum.auto()
    """The output width, which is optional, is the input width: given as the scaled number, or omitted."""


@dataclass(frozen=True)
class WrittenArguments:
    """How a row's args are read.

    Attributes:
        args: positional args without the input width.
        width: the input width, where the row gives it.
        is_scaled: the row gives it before the width multiple, so that other widths of the row are scaled, too.
        gives_number: the row gives the argument n.
        same_width: the output width is the input width; it is not among `args`, and omitted where `width` is None.
    """

    args: list
    width: int | None = None
    is_scaled: bool = True
    gives_number: bool = False
    same_width: bool = False


def read_written_arguments(
    block: type,
    signature: Signature,
    options: BlockOptions,
    args: list,
    kwargs: Collection[str],
    widths_in: int | list[int] | None,
    scale_width: Callable[[int], int],
    reading: Reading = Reading.LIKELY,
) -> WrittenArguments:
    """Find out whether a row's args begin with the input width, and whether they contain the number of repeats.

    They do where that is the only reading that fits the signature, or where each other one gives an argument a value
    that it cannot mean: the input width as a ratio, a number as true or false, a reduction by 1.

    Args:
        block: class of the row's module.
        signature: its signature.
        options: those of its registration.
        args: the row's own.
        kwargs: names of the row's named arguments.
        widths_in: the input width.
        scale_width: scales a written width.
        reading: how they are read.

    Raises:
        UserError: they cannot be read that way.
    """
    reader = _Reader(block, signature, options, args, kwargs, widths_in, scale_width)
    if reading is Reading.SAME_WIDTH:
        return reader.read_same_width()
    readings = [one for one in itertools.product((False, True), repeat=2) if reader.is_possible(*one)]
    if reading is Reading.INPUT_WIDTH:
        readings = [one for one in readings if one[0]]
        if not readings:
            raise UserError(f"args {args} do not begin with the input width")
    return reader.read(*min(readings, key=lambda one: reader.cost(*one)))


class _Reader:
    """The readings of one row's args: with the input width or not, with the number of repeats or not."""

    def __init__(self, block, signature: Signature, options: BlockOptions, args, kwargs, widths_in, scale_width):
        self.signature, self.args, self.kwargs, self.width_in = signature, args, kwargs, widths_in
        self._scale = scale_width
        self._fixed = options.rule == "plain" or block.__module__.startswith("torch.nn")
        self._own = block.__module__.startswith("graftdet.")
        self._takes_number = "n" in signature.named and options.rule == "infer"

    def is_possible(self, gives_width: bool, gives_number: bool) -> bool:
        """Whether args can be read that way; without both they always can."""
        if not gives_width and not gives_number:
            return True
        args, free = self.args[gives_width:], self._free(gives_number)
        missing = [name for name in free[len(args) :] if self.signature.named[name].default is REQUIRED]
        if self._fixed or len(args) > len(free) or not set(missing) <= set(self.kwargs):
            return False
        return (not gives_width or self._begins_with_width()) and (not gives_number or self._contains_number(args))

    def _begins_with_width(self) -> bool:
        """Whether the first value is the input width; before an output width, both must be it: `[512, 512]`."""
        first = next(iter(self.signature.named), None)
        if not self.args or not self._is_width(self.args[0]) or self.signature.width_in not in (first, None):
            return False
        width_out = self.signature.width_out
        return width_out is None or (self.args[1:2] == self.args[:1] and self._free(False)[0] == width_out)

    def _contains_number(self, args: list) -> bool:
        position = self._free(True).index("n") if self._takes_number else len(args)
        return position < len(args) and is_positive_int(args[position]) and args[position] <= MAX_REPEATS

    def _is_width(self, value: Any) -> bool:
        """Whether a value is the input width, scaled or as written."""
        if not is_positive_int(value) or not SMALLEST_WIDTH <= value <= MAX_WIDTH:
            return False
        return isinstance(self.width_in, int) and self.width_in in (value, self._scale(value))

    def _free(self, gives_number: bool) -> list[str]:
        """The arguments that the remaining args are bound to, in order."""
        filled_in = (self.signature.width_in, "n" if self._takes_number and not gives_number else None)
        return [name for name in self.signature.named if name not in filled_in]

    def cost(self, gives_width: bool, gives_number: bool) -> int:
        """How unlikely a reading is: the number of arguments with a value that they cannot mean."""
        args, free = self.args[gives_width:], self._free(gives_number)
        if self.signature.guessed and not gives_width and len(args) == len(free) + 1:  # a whole constructor call
            return int(self._is_width(args[0]) and args[0] != self.width_in)
        if (len(args) > len(free) and not self.signature.open_positional) or set(free[: len(args)]) & set(self.kwargs):
            return 1000
        if gives_number and self._own:
            return 500  # rows of the project's own blocks never give it
        return sum(self._is_unlikely(name, value) for name, value in zip(free, args, strict=False))

    def _is_unlikely(self, name: str, value: Any) -> bool:
        """Whether an argument cannot mean a value."""
        plain, default = plain_name(name), self.signature.named[name].default
        if isinstance(value, bool):
            return type(default) is int
        if not isinstance(value, int):
            return False
        if isinstance(default, bool):
            return value not in (0, 1)
        if self._is_width(value):
            number = isinstance(default, (int, float, str)) and not _WIDTH_OR_SIZE.search(plain)
            return plain in _RATIOS or number
        return plain in _REDUCTIONS and value == 1 != default

    def read(self, gives_width: bool, gives_number: bool) -> WrittenArguments:
        """The args read that way."""
        if not gives_width:
            return WrittenArguments(self.args, gives_number=gives_number)
        is_scaled = self._scale(self.args[0]) == self.width_in
        return WrittenArguments(self.args[1:], self.args[0], is_scaled, gives_number)

    def read_same_width(self) -> WrittenArguments:
        """The args of a block whose output width is its input width: unscaled, or omitted before a ratio."""
        width_out = self.signature.width_out
        if not self.args or self._fixed or width_out is None or self._free(False)[0] != width_out:
            raise UserError("there is no output width")
        if self._is_width(self.args[0]):
            return WrittenArguments(self.args[1:], self.args[0], same_width=True)
        if self.signature.named[width_out].default is None and self._begins_with_ratio():
            return WrittenArguments(self.args, same_width=True)
        raise UserError(f"args {self.args} do not begin with the width or a ratio")

    def _begins_with_ratio(self) -> bool:
        """Whether the first value can be that of the argument after the output width, and cannot be a width."""
        name = next(iter(self._free(False)[1:]), None)
        if name is None or isinstance(self.args[0], bool):
            return False
        value = convert_number(self.signature, name, self.args[0])
        if isinstance(value, float):
            return isinstance(self.signature.named[name].default, float)
        if plain_name(name) not in _RATIOS or not is_positive_int(value) or value > _LARGEST_RATIO:
            return False
        if plain_name(name) in SHORT_NAMES["k"]:
            return value % 2 == 1
        return isinstance(self.width_in, int) and self.width_in % value == 0
