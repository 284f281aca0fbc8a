"""Characters in rows that look like those of YAML: full-width punctuation, non-breaking spaces, typographic dashes."""

import re
from typing import Any

from graftdet.models.spec.keys import SECTIONS
from graftdet.models.spec.problems import Problem, Report

_LOOKALIKES = {
    "\uff0c": ("a full-width comma", ","),
    "\u3001": ("an ideographic comma", ","),
    "\uff3b": ("a full-width bracket", "["),
    "\uff3d": ("a full-width bracket", "]"),
    "\u3010": ("a full-width bracket", "["),
    "\u3011": ("a full-width bracket", "]"),
    "\uff0d": ("a full-width minus", "-"),
    "\u2212": ("a mathematical minus", "-"),
    "\u2013": ("an en dash", "-"),
    "\u2014": ("an em dash", "-"),
    "\u3000": ("an ideographic space", " "),
    "\u00a0": ("a non-breaking space", " "),
}
_TABLE = str.maketrans({character: meant for character, (_, meant) in _LOOKALIKES.items()})
_ANY = re.compile("[" + "".join(_LOOKALIKES) + "]")
_ROW_START = re.compile(r"\s*[-\uff0d\u2212\u2013\u2014]?\s*[\[\uff3b\u3010]")
_QUOTED_OR_COMMENT = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|(?:^|(?<=\s))#.*$")


def replace_lookalikes(text: str, file: str, report: Report) -> str:
    """Report rows with characters that YAML does not read as the punctuation or space they look like.

    Args:
        text: the text of a model YAML.
        file: its name in problems.
        report: takes one problem per line.

    Returns:
        The text with these characters replaced one by one, so that positions stay; quoted text and comments as they
        were.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if not _ANY.search(line) or not _ROW_START.match(line):
            continue
        found = _ANY.search(_QUOTED_OR_COMMENT.sub(lambda match: " " * len(match[0]), line))
        if found:
            lines[number] = _replace(line)
            row, section, position = _row_on(lines[: number + 1])
            message = f"not valid YAML: holds {_LOOKALIKES[found[0]][0]}"
            about: dict[str, Any] = {"file": file, "section": section, "section_row": position}
            hint = f"write {_written(lines[number])}"
            report(Problem("yaml-syntax", "error", row, number + 1, found.start() + 1, message, hint, **about))
    return "\n".join(lines)


def _row_on(lines: list[str]) -> tuple[int | None, str | None, int | None]:
    """The index of the row that begins on the last line, its section, and its index there; None where none begins."""
    index = position = -1
    section = None
    for line in lines:
        heading = re.match(r"(\w+)\s*:", line)
        if heading:
            section, position = (heading[1] if heading[1] in SECTIONS else None), -1
        if section and re.match(r"\s*(-\s*)?\[", line[heading.end() if heading else 0 :]):
            index, position = index + 1, position + 1
    return (index, section, position) if section else (None, None, None)


def _written(line: str) -> str:
    """The row on a line, without what a list around it adds."""
    row = _QUOTED_OR_COMMENT.sub(lambda match: "" if match[0][0] == "#" else match[0], line)
    row = row[row.index("[") :].strip().rstrip(",")
    return row[1:] if row.startswith("[[") and row.count("[") > row.count("]") else row


def _replace(line: str) -> str:
    """The line with its lookalikes replaced outside quotes and comments."""
    parts, end = [], 0
    for match in _QUOTED_OR_COMMENT.finditer(line):
        parts += [line[end : match.start()].translate(_TABLE), match[0]]
        end = match.end()
    return "".join([*parts, line[end:].translate(_TABLE)])
