"""Edits of the text of a model YAML: a new row in the style of its neighbors, comments that contain row indices."""

import re
from dataclasses import dataclass

from graftdet.models.editing.source_map import Node, RowLocation


@dataclass(frozen=True)
class Edit:
    """Replaces the characters from `start` to `end` (exclusive) by `new`."""

    start: int
    end: int
    new: str


_INDEX_COMMENT = re.compile(r"[ \t,\]]*#[ \t]*(?:(?:row|layer|index)[ \t]+|[(\[])?(\d+)(?![\d.x])")


def find_index_comments(text: str, rows: list[RowLocation]) -> dict[int, re.Match]:
    """Return the comments after rows that start with the row's index, such as `# 17 (P3)`.

    Args:
        text: The YAML.
        rows: All its rows.

    Returns:
        Match by row index (group 1 is the number); empty if fewer than half of the numbers are indices.
    """
    matches = {index: _INDEX_COMMENT.match(text, row.node.end) for index, row in enumerate(rows)}
    numbered = {index: match for index, match in matches.items() if match}
    correct = {index: match for index, match in numbered.items() if int(match[1]) == index}
    return correct if len(correct) >= 2 and 2 * len(correct) >= len(numbered) else {}


def new_index_comment(neighbor: re.Match | None, index: int) -> str:
    """Return the comment of a new row in the style of its neighbor's; "" if that has none."""
    if neighbor is None:
        return ""
    gap, sign, rest = re.fullmatch(
        r"[,\]]*([ \t]*)[,\] \t]*(#)(.*)", neighbor[0][: neighbor.start(1) - neighbor.start()]
    ).groups()
    return f"{gap if len(gap) == 1 else '  '}{sign}{rest}{index}{({'(': ')', '[': ']'}).get(rest[-1:], '')}"


def insertion_edits(text: str, rows: list[RowLocation], after: int, row: str, comment: str) -> list[Edit]:
    """Return the edits that insert a row in the style of its neighbors.

    Args:
        text: The YAML.
        rows: All its rows.
        after: Index of the row before the new one; -1: insert before the first row.
        row: YAML text of the new row.
        comment: Comment after it, or "".
    """
    neighbor = rows[max(after, 0)]
    newline = "\r\n" if "\r\n" in text else "\n"
    if not neighbor.section.flow:
        line_start = text.rfind("\n", 0, neighbor.dash) + 1
        dash = f"{text[line_start : neighbor.dash]}- {row}{comment}"
        if after < 0:
            return [_insert(line_start, f"{dash}{newline}")]
        return [_insert(_line_end(text, neighbor.node.end) or neighbor.node.end, f"{newline}{dash}")]
    indent = newline + " " * _column(text, neighbor)
    if after < 0:
        one_line = (
            "\n"
            not in text[
                neighbor.node.start : next((p.start for p in neighbor.section.children[1:]), neighbor.section.end)
            ]
        )
        return [_insert(neighbor.node.start, f"{row}, " if one_line else f"{row},{comment}{indent}")]
    line_start = text.rfind("\n", 0, neighbor.node.start) + 1
    comma_line = text[text.rfind("\n", 0, neighbor.comma) + 1 : neighbor.comma] if neighbor.comma is not None else ""
    end = _line_end(text, neighbor.node.end)
    if text[line_start : neighbor.node.start].strip() == ",":  # commas are at the start of lines
        return [_insert(end or neighbor.node.end, f"{newline}{text[line_start : neighbor.node.start]}{row}{comment}")]
    if neighbor.comma is not None and not comma_line.strip() and end is not None:
        return [_insert(end, f"{newline}{comma_line}, {row}{comment}")]
    if neighbor.comma is not None:
        end = _line_end(text, neighbor.comma + 1)
        return [_insert(neighbor.comma + 1, f" {row},") if end is None else _insert(end, f"{indent}{row},{comment}")]
    if end is None:  # the closing bracket of the section follows on the same line
        one_line = "\n" not in text[neighbor.section.start : neighbor.node.end]
        return [_insert(neighbor.node.end, f", {row}" if one_line else f",{indent}{row}")]
    return [_insert(neighbor.node.end, ","), _insert(end, f"{indent}{row}{comment}")]


def _insert(position: int, new: str) -> Edit:
    return Edit(position, position, new)


def _line_end(text: str, position: int) -> int | None:
    """Index of the end of the line if nothing but a comment follows on it, else None."""
    match = re.compile(r"[ \t]*(#[^\r\n]*)?(?=\r?\n|$)").match(text, position)
    return match.end() if match else None


def _column(text: str, neighbor: RowLocation) -> int:
    """Column of the rows of the section that start a line; if there are none, column of the first row."""

    def column(node: Node) -> int:
        return node.start - text.rfind("\n", 0, node.start) - 1

    first = [p for p in neighbor.section.children if not text[p.start - column(p) : p.start].strip()]
    before = [p for p in first if p.start <= neighbor.node.start]
    return column((before[-1:] or first[:1] or neighbor.section.children[:1])[0])


def apply_edits(text: str, edits: list[Edit]) -> str:
    """Return the text after all `edits`, which must not overlap."""
    pieces, done = [], 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        pieces += [text[done : edit.start], edit.new]
        done = edit.end
    return "".join([*pieces, text[done:]])
