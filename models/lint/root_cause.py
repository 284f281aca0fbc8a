"""Which row is to blame where rows do not fit: the one whose change makes all after it fit."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from graftdet.models.graph.arguments import nearest_argument
from graftdet.models.graph.row_builder import find_block
from graftdet.models.graph.shape_inference import PROBE_SIZE
from graftdet.models.graph.signatures import SHORT_NAMES, STRIDE, plain_name, read_signature
from graftdet.models.lint.graph_warnings import levels_differ
from graftdet.models.lint.propagation import FROM_INPUTS, Walk, begins_with_width_in, find_likeliest_walk
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.row import IMAGE, Row, show_row
from graftdet.utils.errors import UserError
from torch import nn

_MOST_CAUSES = 6


class Change(NamedTuple):
    """A row as it may be meant. `rank`: the unlikely ones later; `what` is wrong with it, and what would `fit`."""

    row: Row
    rank: int
    what: str
    fit: str


def find_causes(spec: ModelSpec, told: dict[int, str]) -> tuple[Walk, list[str]]:
    """The likeliest walk, and its problems as lines: those of rows that do not fit are told where one change of a row
    heals them, and once."""
    cache: dict = {}
    walk = first = find_likeliest_walk(spec, cache, told)
    lines: dict[int, str] = {}
    for _ in range(_MOST_CAUSES):
        healed = _heal(walk, cache)
        if healed is None:
            break
        walk, row, line = healed
        lines.setdefault(row, line)
    rest = [problem.text for problem in walk.problems]
    return first, [*lines.values(), *rest]


def _heal(walk: Walk, cache) -> tuple[Walk, int, str] | None:
    """The walk after the change of one row that leaves the fewest problems, that row and its line; None where no
    change leaves fewer lines than there are, or as many with all healed."""
    blamed = next((problem for problem in walk.problems if problem.kind in ("run", "join", "args")), None)
    if blamed is None:
        return None
    own = {problem.row: problem for problem in walk.problems}
    lines, best, unused = len(walk.problems), None, len(unused_rows(walk.spec))
    odd = _first_odd(walk, blamed.row)
    for change in _changes(walk, blamed.row):
        index = change.row.index
        # a row that has a line may change at no cost; another one takes the blame for one line, if all is well then
        most = lines - 2 if lines > 1 else 0
        if best is not None:
            most = min(most, best[0][0])
        if most < 0:
            break
        rows = (*walk.spec.rows[:index], change.row, *walk.spec.rows[index + 1 :])
        spec = replace(walk.spec, rows=rows)
        left_out = len(unused_rows(spec))
        if left_out > unused:
            continue
        other = find_likeliest_walk(spec, cache, walk.told, most)
        if len(other.problems) > most or other.follow_ups or not (other.problems or levels_differ(other)):
            continue
        likely = index == odd and change.row.word == walk.spec.rows[index].word
        cost = len(other.problems), left_out, change.rank - 2 * likely, blamed.row - index
        if best is None or cost < best[0]:
            best = cost, other, change
    return best and (best[1], best[2].row.index, _line(walk, own, blamed, best[2]))


def _first_odd(walk: Walk, index: int) -> int | None:
    """The first row among those that lead to row `index` whose size is no whole part or multiple of the one it reads."""
    for row in (walk.spec.rows[i] for i in sorted(walk.ancestors[index])):
        before, shape = _before(walk, row), walk.shapes[row.index]
        if not row.joined and isinstance(shape, tuple) and isinstance(before, tuple):
            if any(max(sizes) % max(min(sizes), 1) for sizes in zip(before[1:], shape[1:], strict=True)):
                return row.index
    return None


def _before(walk: Walk, row: Row):
    """The shape that the first source of a row gives."""
    source = row.sources[0]
    return walk.shapes[source] if source != IMAGE else (walk.spec.channels, PROBE_SIZE, PROBE_SIZE)


def _line(walk: Walk, own, blamed, change: Change) -> str:
    if change.row.index in own:
        if own[change.row.index].kind not in FROM_INPUTS:
            return own[change.row.index].text
        return f"{own[change.row.index].text.split('; row ')[0]}; {change.fit}"
    reader = walk.spec.rows[blamed.row]
    message = blamed.text.split(f"{reader.word}: ", 1)[-1].split("; row ")[0]
    where = f"{walk.spec.where}, {change.row} {walk.spec.rows[change.row.index].word}"
    return f"{where}: {change.what} does not fit row {reader.index} ({reader.word}: {message}); {change.fit}"


def _changes(walk: Walk, index: int) -> Iterator[Change]:
    """Likely changes of row `index` and of the rows that lead to it."""
    rows = walk.spec.rows
    yield from _other_sources(rows[index])
    for ancestor in sorted(walk.ancestors[index], reverse=True):
        row = rows[ancestor]
        if ancestor != index and not row.joined and row.sources != (ancestor - 1,) and ancestor > 0:
            written = (*row.written_sources, *row.sources)[0]
            yield Change(replace(row, sources=(ancestor - 1,)), 3, f"'from' {written}", "does it mean -1?")
        if not row.joined and ancestor < len(rows) - 1:
            try:
                block, options, is_head = find_block(row.word)
            except UserError:
                continue
            if not is_head:
                yield from _other_sizes(row, block, options, walk)


def _other_sources(row: Row) -> Iterator[Change]:
    """The row with one source replaced, those near it first."""
    for place, source in enumerate(row.sources):
        others = [s for s in range(row.index) if s not in row.sources]
        for other in sorted(others, key=lambda s: abs(s - source)):
            sources = (*row.sources[:place], other, *row.sources[place + 1 :])
            fit = f"row {other} would fit in place of row {source}" if source != IMAGE else f"row {other} would fit"
            relative = row.written_sources[place : place + 1] == [-1]
            yield Change(replace(row, sources=sources), 5 if relative else 0, f"'from' {source}", fit)


def _other_sizes(row: Row, block, options, walk: Walk) -> Iterator[Change]:
    """The row with another stride, scale or padding, or taken out where it only changes the size."""
    given, names = _given(row, block, options)
    shape, before = walk.shapes[row.index], _before(walk, row)
    if not isinstance(shape, tuple) or not isinstance(before, tuple):
        return
    making = f"making {_size(shape)} of {_size(before)}"
    if block is nn.Upsample:
        meant = replace(row, args=(None, 2, given.get("mode", "nearest")), kwargs={})
        if (given.get("size"), given.get("scale_factor")) not in ((None, 2), ("None", 2)):
            yield Change(meant, 0, making, "write [None, 2, nearest]")
    else:
        if begins_with_width_in(row, before, walk.spec):
            without = replace(row, args=row.args[1:])
            yield Change(without, 0, show_row(row.args), f"the width in is left out: write {show_row(without.args)}")
        yield from _other_arguments(row, given, names)
    if before[1:] != shape[1:]:
        odd = max(before[1], shape[1]) not in (2 * before[1], 2 * shape[1])
        out = replace(row, word="nn.Identity", args=(), kwargs={}, number=1)
        rank = 5 if before[0] != shape[0] else 1 if odd else 2
        yield Change(out, rank, making, "without this row all would fit")


def _other_arguments(row: Row, given: dict, names) -> Iterator[Change]:
    pads = next((name for name in names if plain_name(name) in SHORT_NAMES["p"]), None)
    name = next((name for name in names if plain_name(name) in SHORT_NAMES["k"]), None)
    kernel = given.get(name)
    half = (kernel - 1) // 2 if isinstance(kernel, int) and not isinstance(kernel, bool) else None
    if pads and half is not None and given.get(pads) is not None and given[pads] != half:
        yield Change(_with(row, given, pads, half), 0, f"{pads}={given[pads]}", f"{pads}={half} would fit")
    elif pads and half and names[pads].default == 0 and pads not in given:
        yield Change(_with(row, given, pads, half), 1, f"no {pads}", f"{pads}={half} would fit")
    stride = next((name for name in names if name in STRIDE), None)
    if isinstance(kernel, int) and kernel % 2 == 0 and kernel > 2:
        yield Change(_with(row, given, name, kernel - 1), 1, f"{name}={kernel}", f"{name}={kernel - 1} would fit")
    if stride is not None:
        now = given.get(stride, names[stride].default)
        if isinstance(kernel, int) and isinstance(now, int) and now > kernel:
            swapped = _with(row, {**given, name: now}, stride, kernel)
            yield Change(swapped, 0, f"{name}={kernel}, {stride}={now}", f"{name}={now}, {stride}={kernel} would fit")
        for value in (2, 1):
            if value != now:
                unlikely = value == 2 and isinstance(kernel, int) and kernel < 2 or now not in (1, 2, None)
                rank = 2 + unlikely if now in (1, 2) else 1
                yield Change(_with(row, given, stride, value), rank, f"{stride}={now}", f"{stride}={value} would fit")


def _given(row: Row, block, options) -> tuple[dict, dict[str, inspect.Parameter]]:
    """Arguments of the row by name, and the parameters that a row may give, in order."""
    signature = read_signature(block, options)
    names = {name: p for name, p in signature.named.items() if name not in (signature.width_in, "n")}
    given = dict(zip(names, row.args, strict=False))
    for key, value in row.kwargs.items():
        name = key if key in names else nearest_argument(key, names)
        if name:
            given[name] = value
    return given, names


def _with(row: Row, given: dict, name: str, value) -> Row:
    return replace(row, args=(), kwargs={**given, name: value})


def _size(shape) -> str:
    return f"{shape[2]}x{shape[1]}"
