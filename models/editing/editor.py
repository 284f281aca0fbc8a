"""Insert rows into the text of a model YAML, and swap modules in it.

Only the necessary characters are changed, so comments, quotes, spacing and line ends stay as written. The one exception
is a comment after a row that starts with the row's index: the number is updated.
"""

import re
from typing import Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftdet.models.editing.argument_mapping import map_arguments
from graftdet.models.editing.row_edits import check_result, rewrite_rows
from graftdet.models.editing.source_map import SECTIONS, Node, locate_rows
from graftdet.models.editing.text_edits import (
    Edit,
    apply_edits,
    find_index_comments,
    insertion_edits,
    new_index_comment,
)
from graftdet.models.graph.modules import find_block
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError, did_you_mean

Readers = Literal["next", "all"]
"""Which rows read a new row instead of the one before it: the next row if its `from` is -1, or all that read it."""


def insert_row(text: str, after: int | str, row: str, where: str = "model", readers: Readers = "next") -> str:
    """Insert a row. Sources of all rows are updated, so that they read the same rows as before, except for `readers`.

    Args:
        text: The YAML.
        after: Index or name of the row before the new one; -1 is the start.
        row: The new row as YAML text.
        where: Name of the file, for messages.
        readers: Which rows read the new row instead of row `after`.

    Returns:
        The YAML with the new row.

    Raises:
        UserError: If `row` is not a row, or `after` does not exist.
    """
    spec = ModelSpec.from_text(text, where)
    after = find_index(spec, after)
    name = _check_row(row, where)
    locations = locate_rows(text, where)
    sources, wanted = [], []
    for old, location in zip(spec.rows, locations, strict=True):
        written = old.written_sources
        moved = [_move(s, t, old.index, after, readers) for s, t in zip(written, old.sources, strict=True)]
        sources.append(tuple(moved))
        texts = [
            _source_text(target, source, node, old.index, after, name)
            for target, source, node in zip(moved, written, location.sources, strict=True)
        ]
        wanted.append([*texts, location.module.target.value])
    edits = rewrite_rows(text, locations, wanted, spec)
    comments = find_index_comments(text, locations)
    edits += [Edit(match.start(1), match.end(1), str(index + 1)) for index, match in comments.items() if index > after]
    comment = new_index_comment(comments.get(max(after, 0)), after + 1)
    edits += insertion_edits(text, locations, after, row.strip(), comment)
    text = apply_edits(text, edits)
    check_result(spec, text, sources, [old.module for old in spec.rows], after + 1)
    return text


def swap_module(text: str, old: str, new: str, where: str = "model", rows: str | None = None) -> tuple[str, list[int]]:
    """Replace a module by another one; args are adapted by `map_arguments`.

    Args:
        text: The YAML.
        old: Module name to replace. If no row has it, rows with another name of the same block are used.
        new: Module name to write.
        where: Name of the file, for messages.
        rows: Limit to "backbone", "head", or indices, ranges and names ("2,4,6-8,neck").

    Returns:
        The YAML, and the indices of the changed rows.

    Raises:
        UserError: If no row has the module `old`.
    """
    spec = ModelSpec.from_text(text, where)
    selected = select_rows(spec, rows)
    locations = locate_rows(text, where)
    replaced = {row.index for row in spec.rows if row.index in selected and row.module == old}
    replaced = replaced or {row.index for row in spec.rows if row.index in selected and _is_same_block(row.module, old)}
    if not replaced:
        present = sorted({row.module for row in spec.rows if row.index in selected})
        hint = did_you_mean(old, present) or f"; expected one of {', '.join(present)}"
        raise UserError(f"{where}: no row{f' of {rows}' if rows else ''} has the module '{old}'{hint}")
    modules = [new if row.index in replaced else row.module for row in spec.rows]
    wanted = [
        [*(source.target.value for source in location.sources), module]
        for location, module in zip(locations, modules, strict=True)
    ]
    text = apply_edits(text, rewrite_rows(text, locations, wanted, spec))
    check_result(spec, text, [row.sources for row in spec.rows], modules)
    return map_arguments(text, {index: spec.rows[index].module for index in sorted(replaced)}, where), sorted(replaced)


def _is_same_block(module: str, other: str) -> bool:
    try:
        return find_block(module) == find_block(other)
    except UserError:
        return False


def select_rows(spec: ModelSpec, rows: str | None) -> set[int]:
    """Return the row indices for `--rows`.

    Args:
        spec: The model.
        rows: None (all rows), "backbone", "head", or indices, ranges and names separated by commas.

    Raises:
        UserError: If a part of it matches no row.
    """
    if rows is None:
        return {row.index for row in spec.rows}
    if not rows.strip(" ,"):
        raise UserError("--rows: is empty, expected backbone, head, or indices, ranges and names")
    chosen: set[int] = set()
    names = spec.row_names
    for part in filter(None, (p.strip() for p in rows.split(","))):
        span = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if part in SECTIONS:
            chosen.update(row.index for row in spec.rows if row.section == part)
        elif part in names:
            chosen.add(names[part])
        elif span and int(span[1]) <= int(span[2] or span[1]) < len(spec.rows):
            chosen.update(range(int(span[1]), int(span[2] or span[1]) + 1))
        else:
            near = did_you_mean(part, [*SECTIONS, *names])
            raise UserError(
                f"--rows {part}: expected backbone, head, 0 to {len(spec.rows) - 1}, a range, or a row's name{near}"
            )
    return chosen


def find_index(spec: ModelSpec, after: int | str) -> int:
    """Return the row index for `--after`.

    Args:
        spec: The model.
        after: Index or name of a row before the head; -1 is the start.

    Raises:
        UserError: If there is no such row.
    """
    names = spec.row_names
    if after in names:
        return names[after]
    try:
        index = int(after)
    except ValueError:
        raise UserError(
            f"--after {after}: {spec.label} has no row of that name{did_you_mean(str(after), names)}"
        ) from None
    if not -1 <= index < len(spec.rows) - 1:
        last = len(spec.rows) - 2
        raise UserError(
            f"--after {after}: expected the index (0 to {last}) or name of a row of {spec.label} before the head, "
            "or -1 for the start"
        )
    return index


def _check_row(row: str, where: str) -> str | None:
    """The name of the new row, if it has one. Raises `UserError` if `row` is not the YAML text of one row."""
    problem = f"{where}: the new row must be one YAML list [from, number, module, args] on one line, got {row!r}"
    try:
        reader = YAML(typ="safe", pure=True)
        value, node = reader.load(row), reader.compose(row)
    except (YAMLError, ValueError, RecursionError):
        raise UserError(problem) from None
    if (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(part, list) and len(part) in (4, 5) for part in value)
    ):
        raise UserError(f"{problem}; pass several rows as separate arguments, each in quotes")
    if (
        not isinstance(value, list)
        or len(value) not in (4, 5)
        or "\n" in row.strip()
        or not row.strip().startswith("[")
    ):
        raise UserError(problem)
    if node.end_mark.index != len(row.rstrip()):
        raise UserError(f"{problem}; remove the text after its last bracket")
    return value[4] if len(value) == 5 else None


def _move(written: int | str, target: int, index: int, after: int, readers: str) -> int:
    """The row that row `index` reads after the insertion, if it read row `target` before."""
    if target == after and index > after and (readers == "all" or (written == -1 and index == after + 1)):
        return after + 1
    return target + (target > after)


def _source_text(target: int, written: int | str, node: Node, index: int, after: int, name: str | None) -> str:
    """The text of a source that reads row `target`: an index, an offset or a name, as it was `written`."""
    if isinstance(written, str):
        return (name or str(target)) if target == after + 1 else node.target.value
    new = target if written >= 0 else target - index - (index > after)
    return node.target.value if new == written else str(new)
