"""Delete rows of a model YAML, and name them; comments and layout survive, indices of other rows are updated."""

import re

from graftdet.models.editing.row_edits import rewrite_rows
from graftdet.models.editing.source_map import Node, RowLocation, locate_rows
from graftdet.models.editing.text_edits import Edit, apply_edits, find_index_comments
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE, Row
from graftdet.utils.errors import UserError

_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def delete_row(text: str, index: int, where: str = "model") -> str:
    """Delete a row. Rows that read it read its first source instead; all others read the same rows as before.

    Args:
        text: The YAML.
        index: Index of the row.
        where: Name of the file, for messages.

    Returns:
        The YAML without the row and the comment on its line.

    Raises:
        UserError: If there is no such row, it is the last one or the only one of its section, or shares parts.
    """
    spec = ModelSpec.from_text(text, where)
    deleted = _find(spec, index)
    if index == len(spec.rows) - 1:
        raise UserError(f"{where}: {deleted} is the head, which a model needs; swap it for another head")
    if sum(row.section == deleted.section for row in spec.rows) == 1:
        raise UserError(f"{where}: {deleted} is the only row of its section")
    locations = locate_rows(text, where)
    wanted, expected = [], []
    for row, location in zip(spec.rows, locations, strict=True):
        nodes = location.sources
        if row.index == index:
            wanted.append([*(node.target.value for node in nodes), location.module.target.value])
            continue
        moved = [_move(source, deleted) for source in row.sources]
        expected.append((tuple(moved), row))
        texts = [
            _source_text(target, written, node, source == index, spec, row.index - (row.index > index))
            for target, source, written, node in zip(moved, row.sources, row.written_sources, nodes, strict=True)
        ]
        wanted.append([*texts, location.module.target.value])
    comments = find_index_comments(text, locations)
    edits = [Edit(match.start(1), match.end(1), str(i - 1)) for i, match in comments.items() if i > index]
    start, end = _extent(text, locations[index])
    edits += [edit for edit in rewrite_rows(text, locations, wanted, spec) if not start <= edit.start < end]
    new = apply_edits(text, [edit for edit in edits if not start <= edit.start < end] + [Edit(start, end, "")])
    rows = ModelSpec.from_text(new, where).rows
    for (sources, before), row in zip(expected, rows, strict=True):
        same = (row.module, row.args, row.kwargs, row.number, row.name) == (
            *(before.module, before.args, before.kwargs, before.number, before.name),
        )
        if row.sources != sources or not same:
            raise UserError(f"{where}: {before} shares a part with another row (a YAML alias); write it out first")
    return new


def rename_row(text: str, index: int, name: str, where: str = "model") -> str:
    """Name a row, in its fifth element and wherever a row reads it by its old name.

    Args:
        text: The YAML.
        index: Index of the row.
        name: The new name; "" removes it, rows then read the row by its index.
        where: Name of the file, for messages.

    Returns:
        The YAML with the new name.

    Raises:
        UserError: If there is no such row, or another one has that name, or it is no name.
    """
    spec = ModelSpec.from_text(text, where)
    row = _find(spec, index)
    if name and not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is no name of a row; expected a letter, then letters, digits, '_', '.' or '-'")
    if name and spec.row_names.get(name, index) != index:
        raise UserError(f"{where}: row {spec.row_names[name]} is named '{name}' already")
    if (row.name or "") == name:
        return text
    locations = locate_rows(text, where)
    node = locations[index].node
    if node.alias:
        raise UserError(f"{where}: {row} is written once and used twice (a YAML alias); write it out first")
    edits = [_name_edit(text, node, name)]
    edits += [
        Edit(source.start, source.end, name or str(index))
        for reader, location in zip(spec.rows, locations, strict=True)
        for written, source in zip(reader.written_sources, location.sources, strict=True)
        if row.name and written == row.name and not source.alias
    ]
    new = apply_edits(text, edits)
    renamed = ModelSpec.from_text(new, where)
    if [r.sources for r in renamed.rows] != [r.sources for r in spec.rows] or renamed.row_names.get(
        name, index
    ) != index:
        raise UserError(f"{where}: {row} shares a part with another row (a YAML alias); write it out first")
    return new


def _find(spec: ModelSpec, index: int) -> Row:
    if not 0 <= index < len(spec.rows):
        raise UserError(f"{spec.label} has no row {index}, expected 0 to {len(spec.rows) - 1}")
    return spec.rows[index]


def _move(source: int, deleted: Row) -> int:
    """The row that a row reads after the deletion, if it read `source` before."""
    if source == deleted.index:
        return deleted.sources[0]
    return source - (source > deleted.index)


def _source_text(target: int, written: int | str, node: Node, was_deleted: bool, spec: ModelSpec, index: int) -> str:
    """The text of a source of row `index` that reads row `target`: an index, an offset or a name, as it was written."""
    if isinstance(written, str):
        if not was_deleted:
            return node.target.value
        name = spec.rows[target].name if target >= 0 else None  # rows before the deleted one have their old index
        return name or str(target if target != IMAGE else target - index)
    new = target if written >= 0 and target != IMAGE else target - index
    return node.target.value if new == written else str(new)


def _extent(text: str, location: RowLocation) -> tuple[int, int]:
    """Start and end of a row with its dash or comma, the comment after it and the end of its line."""
    newline = re.compile(r"[ \t]*(#[^\r\n]*)?(\r?\n|$)")
    if location.dash >= 0:
        start = text.rfind("\n", 0, location.dash) + 1
        return start, newline.match(text, location.node.end).end()
    siblings = location.section.children
    number = siblings.index(location.node)
    if number + 1 < len(siblings):
        return location.node.start, siblings[number + 1].start
    return siblings[number - 1].end, location.node.end


def _name_edit(text: str, node: Node, name: str) -> Edit:
    """The edit of the fifth element of a row."""
    args = node.children[3]
    if len(node.children) > 4:
        old = node.children[4]
        return Edit(old.start, old.end, name) if name else Edit(args.end, old.end, "")
    if not node.flow:
        raise UserError("the row is a list with one element per line; write its name as fifth element")
    return Edit(args.end, args.end, f", {name}")
