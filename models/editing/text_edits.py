"""Putting a new row into the text of a model YAML, in the style of the rows around it; comments that count rows."""

import re
from dataclasses import dataclass

from graftdet.models.editing.source_map import Place


@dataclass(frozen=True)
class Edit:
    """Put `new` in the place of characters `start` to `end`."""

    start: int
    end: int
    new: str


_COUNT = re.compile(r"[ \t,\]]*#[ \t]*(?:(?:row|layer|index)[ \t]+|[(\[])?(\d+)(?![\d.x])")


def find_counts(text: str, places: list[Place]) -> dict[int, re.Match]:
    """The comments that tell their row's index, `# 17 (P3)` behind row 17; none in a file whose comments do not."""
    found = {index: _COUNT.match(text, place.part.end) for index, place in enumerate(places)}
    numbered = {index: match for index, match in found.items() if match}
    counting = {index: match for index, match in numbered.items() if int(match[1]) == index}
    return counting if len(counting) >= 2 and 2 * len(counting) >= len(numbered) else {}


def new_count(beside: re.Match | None, index: int) -> str:
    """The comment of a new row in the style of the one that counts the row beside it; '' where none does."""
    if beside is None:
        return ""
    gap, sign, rest = re.fullmatch(
        r"[,\]]*([ \t]*)[,\] \t]*(#)(.*)", beside[0][: beside.start(1) - beside.start()]
    ).groups()
    return f"{gap if len(gap) == 1 else '  '}{sign}{rest}{index}{({'(': ')', '[': ']'}).get(rest[-1:], '')}"


def put_row(text: str, places: list[Place], after: int, row: str, comment: str) -> list[Edit]:
    """What puts a new row and its comment behind row `after` (-1: before the first), as the rows around it are written."""
    place = places[max(after, 0)]
    newline = "\r\n" if "\r\n" in text else "\n"
    if not place.section.flow:
        line_start = text.rfind("\n", 0, place.dash) + 1
        dash = f"{text[line_start : place.dash]}- {row}{comment}"
        if after < 0:
            return [_put(line_start, f"{dash}{newline}")]
        return [_put(_line_end(text, place.part.end) or place.part.end, f"{newline}{dash}")]
    indent = newline + " " * _column(text, place)
    if after < 0:
        one_line = (
            "\n" not in text[place.part.start : next((p.start for p in place.section.parts[1:]), place.section.end)]
        )
        return [_put(place.part.start, f"{row}, " if one_line else f"{row},{comment}{indent}")]
    line_start = text.rfind("\n", 0, place.part.start) + 1
    comma_line = text[text.rfind("\n", 0, place.comma) + 1 : place.comma] if place.comma is not None else ""
    end = _line_end(text, place.part.end)
    if text[line_start : place.part.start].strip() == ",":  # commas stand in front of rows
        return [_put(end or place.part.end, f"{newline}{text[line_start : place.part.start]}{row}{comment}")]
    if place.comma is not None and not comma_line.strip() and end is not None:
        return [_put(end, f"{newline}{comma_line}, {row}{comment}")]
    if place.comma is not None:
        end = _line_end(text, place.comma + 1)
        return [_put(place.comma + 1, f" {row},") if end is None else _put(end, f"{indent}{row},{comment}")]
    if end is None:  # the section's bracket stands behind its last row
        one_line = "\n" not in text[place.section.start : place.part.end]
        return [_put(place.part.end, f", {row}" if one_line else f",{indent}{row}")]
    return [_put(place.part.end, ","), _put(end, f"{indent}{row}{comment}")]


def _put(position: int, new: str) -> Edit:
    return Edit(position, position, new)


def _line_end(text: str, position: int) -> int | None:
    """Where the line ends, where nothing but a comment follows on it; else None."""
    found = re.compile(r"[ \t]*(#[^\r\n]*)?(?=\r?\n|$)").match(text, position)
    return found.end() if found else None


def _column(text: str, place: Place) -> int:
    """Where rows of the section begin that begin a line; where none does, the column of the first row."""

    def column(part) -> int:
        return part.start - text.rfind("\n", 0, part.start) - 1

    first = [p for p in place.section.parts if not text[p.start - column(p) : p.start].strip()]
    before = [p for p in first if p.start <= place.part.start]
    return column((before[-1:] or first[:1] or place.section.parts[:1])[0])


def apply_edits(text: str, edits: list[Edit]) -> str:
    """The text with all `edits` in it, none of which overlap."""
    pieces, done = [], 0
    for edit in sorted(edits, key=lambda e: (e.start, e.end)):
        pieces += [text[done : edit.start], edit.new]
        done = edit.end
    return "".join([*pieces, text[done:]])
