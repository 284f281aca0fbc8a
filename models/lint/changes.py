"""Rows as they may be meant: likely changes of a row that does not fit, and of the rows that lead to it."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from torch import nn

from graftdet.models.graph.modules import Module, find_block
from graftdet.models.graph.signatures import SHORT_NAMES, STRIDE, plain_name
from graftdet.models.lint.assumptions import begins_with_input_width, given_arguments
from graftdet.models.lint.propagation import Propagation
from graftdet.models.spec.row import IMAGE, Row, show_row
from graftdet.utils.errors import UserError

CERTAIN = -1
"""The rank of a change that is likely even if the levels of the head do not differ after it."""


class Change(NamedTuple):
    """A row as it may be meant: unlikely ones have a higher `rank`; `what` is wrong with it, and the `fix`."""

    row: Row
    rank: int
    what: str
    fix: str
    part: str = "args"


def likely_changes(found: Propagation, index: int) -> Iterator[Change]:
    """Likely changes of row `index` and of the rows that lead to it, those near it first."""
    rows = found.spec.rows
    yield from _other_sources(rows[index])
    for ancestor in sorted(found.ancestors[index], reverse=True):
        row = rows[ancestor]
        if ancestor != index and not row.joined and row.sources != (ancestor - 1,) and ancestor > 0:
            written = (*row.written_sources, *row.sources)[0]
            yield Change(replace(row, sources=(ancestor - 1,)), 3, f"'from' {written}", "does it mean -1?", "from")
        if not row.joined and ancestor < len(rows) - 1:
            try:
                module = find_block(row.module)
            except UserError:
                continue
            if not module.is_head:
                yield from _other_sizes(row, module, found)


def _other_sources(row: Row) -> Iterator[Change]:
    """The row with one source replaced, by near ones first."""
    for i, source in enumerate(row.sources):
        others = [s for s in range(row.index) if s not in row.sources]
        for other in sorted(others, key=lambda s: abs(s - source)):
            sources = (*row.sources[:i], other, *row.sources[i + 1 :])
            fix = f"row {other} would fit" + (f" instead of row {source}" if source != IMAGE else "")
            rank = 5 if row.written_sources[i : i + 1] == [-1] else 0
            yield Change(replace(row, sources=sources), rank, f"'from' {source}", fix, "from")


def _other_sizes(row: Row, module: Module, found: Propagation) -> Iterator[Change]:
    """The row with another stride, scale or padding, or removed where it only changes the size."""
    given, parameters = given_arguments(row, module)
    shape, before = found.shapes[row.index], found.input_of(row)
    if not isinstance(shape, tuple) or not isinstance(before, tuple):
        return
    what = f"output {_size(shape)} of input {_size(before)}"
    if module.block is nn.Upsample:
        meant = replace(row, args=(None, 2, given.get("mode", "nearest")), kwargs={})
        if (given.get("size"), given.get("scale_factor")) not in ((None, 2), ("None", 2)):
            yield Change(meant, 0, what, "write [None, 2, nearest]")
    else:
        if begins_with_input_width(row, before, found.spec):
            without = replace(row, args=row.args[1:])
            fix = f"the input width is filled in: write {show_row(without.args)}"
            yield Change(without, 0, show_row(row.args), fix)
        yield from _other_arguments(row, given, parameters, _is_joined_with_half_size(row, found))
    if before[1:] != shape[1:]:
        odd = max(before[1], shape[1]) not in (2 * before[1], 2 * shape[1])
        removed = replace(row, module="nn.Identity", args=(), kwargs={}, number=1)
        rank = 5 if before[0] != shape[0] else 1 if odd else 2
        yield Change(removed, rank, what, "without this row all would fit", "module")


def _is_joined_with_half_size(row: Row, found: Propagation) -> bool:
    """Whether the next row joins this one with a map of half its size, as after a row of stride 2 in a neck."""
    after, (_, h, w) = found.spec.rows[row.index + 1], found.shapes[row.index]
    others = [found.shapes[s] for s in after.sources if s not in (IMAGE, row.index)]
    joined = after.joined and row.index in after.sources and after is not found.spec.rows[-1]
    return joined and bool(others) and all(shape[1:] == (-(-h // 2), -(-w // 2)) for shape in others)


def _other_arguments(
    row: Row, given: dict, parameters: dict[str, inspect.Parameter], stride_forgotten: bool
) -> Iterator[Change]:
    """The row with another padding, kernel size or stride."""

    def change(name, value, rank, what):
        return Change(_with_argument(row, given, name, value), rank, what, f"{name}={value} would fit")

    padding = next((name for name in parameters if plain_name(name) in SHORT_NAMES["p"]), None)
    name = next((name for name in parameters if plain_name(name) in SHORT_NAMES["k"]), None)
    kernel = given.get(name)
    half = (kernel - 1) // 2 if isinstance(kernel, int) and not isinstance(kernel, bool) else None
    if padding and half is not None and given.get(padding) is not None and given[padding] != half:
        yield change(padding, half, 0, f"{padding}={given[padding]}")
    elif padding and half and parameters[padding].default == 0 and padding not in given:
        yield change(padding, half, 1, f"no {padding}")
    if isinstance(kernel, int) and kernel % 2 == 0 and kernel > 2:
        yield change(name, kernel - 1, 1, f"{name}={kernel}")
    stride = next((name for name in parameters if name in STRIDE), None)
    if stride is None:
        return
    now = given.get(stride, parameters[stride].default)
    if isinstance(kernel, int) and isinstance(now, int) and now > kernel:
        swapped = _with_argument(row, {**given, name: now}, stride, kernel)
        yield Change(swapped, 0, f"{name}={kernel}, {stride}={now}", f"{name}={now}, {stride}={kernel} would fit")
    for value in (2, 1):
        if value != now:
            pointwise = value == 2 and isinstance(kernel, int) and kernel < 2
            rank = 2 + pointwise if now in (1, 2) else 1
            certain = stride_forgotten and value == 2 and now == 1 and not pointwise
            yield change(stride, value, CERTAIN if certain else rank, f"{stride}={now}")


def _with_argument(row: Row, given: dict, name: str, value) -> Row:
    return replace(row, args=(), kwargs={**given, name: value})


def _size(shape) -> str:
    return f"{shape[2]}x{shape[1]}"
