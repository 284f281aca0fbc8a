"""Lines of a model YAML that stand wrongly: tabs, keys without colon or off the margin, rows without dash or out of line."""

import re
from typing import NamedTuple

_KEYS = "nc|names|ch|depth_multiple|width_multiple|scales|scale|anchors|activation|backbone|head"
_ROW = re.compile(r"(\s*)(-?\s*)\[")


class Line(NamedTuple):
    """A line that stands wrongly: its number from 0, the row that it holds or None, what is wrong, and how it is meant."""

    number: int
    row: tuple[int, str, int] | None  # index, section, position
    wrong: str
    meant: str | None  # None: not known


def find_wrong_line(text: str) -> Line | None:
    """The first line of a text that stands wrongly; None where none is seen. For texts that do not parse."""
    section, position, index, first = None, -1, -1, None
    flow: list[tuple] = []  # rows of a section written as one list in brackets
    table = False  # within `scales`
    left_open = 0  # brackets of the row, or of the value of a key, that the lines so far leave open
    for number, line in enumerate(text.split("\n")):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if re.match(r"<{7}|={7}|>{7}", line):
            return Line(number, None, f"'{line[:7]}' is the mark of a merge conflict; keep one of the two versions", None)
        key = re.match(rf"(\s*)({_KEYS})\b(.*)", line)
        if left_open > 0 and not re.match(rf"\s*-\s|({_KEYS})\s*:", line):
            left_open += _opened(line)
            continue
        left_open = _opened(line) if re.match(r"\s*-\s", line) or (key and key[2] not in ("backbone", "head")) else 0
        if key and not re.match(r"\s*-", line):
            wrong = _wrong_key(*key.groups())
            if wrong:
                return Line(number, None, *wrong)
            wrong = _wrong_flow(flow)
            if wrong:
                return wrong
            flow, table = [], key[2] == "scales"
            section, position, first = (key[2] if key[2] in ("backbone", "head") else None), -1, None
            continue
        wrong = _wrong_size(line) if table else None
        if wrong:
            return Line(number, None, *wrong)
        if flow and line.strip().startswith("]"):
            flow.append((number, flow[-1][1], line))
            continue
        row = None
        found = _ROW.match(line)
        if section and found:
            position, index = position + 1, index + 1
            row = (index, section, position)
            first = first or found
        if line[: len(line) - len(line.lstrip())].count("\t"):
            return Line(number, row, "begins with a tab; indent with spaces", _margin(text, number) + line.lstrip())
        if row and not first[2].strip() and (flow or line.lstrip().startswith("[[")):
            flow.append((number, row, line))
        if row and first[2].strip() and first is not found:
            wrong = _wrong_row(found, first)
            if wrong:
                return Line(number, row, wrong, first[1] + "- " + line[found.end() - 1 :])
    return _wrong_flow(flow)


def _opened(line: str) -> int:
    """How many brackets the line opens more than it closes, quoted text and its comment apart."""
    content = re.sub(r"(^|\s)#.*$", "", re.sub(r"'[^']*'|\"[^\"]*\"", "", line))
    return content.count("[") - content.count("]")


def _margin(text: str, number: int) -> str:
    """The spaces that the rows near a line begin with."""
    lines = text.split("\n")
    near = sorted(range(len(lines)), key=lambda other: abs(other - number))
    return next((" " * (len(lines[i]) - len(lines[i].lstrip())) for i in near if re.match(r" *-?\s*\[", lines[i])), "  ")


def _wrong_flow(flow: list[tuple]) -> Line | None:
    """The first of the rows of one list in brackets that leaves a quote or a bracket open, or closes one too many."""
    for place, (number, row, line) in enumerate(flow):
        content = re.sub(r"(^|\s)#.*$", "", line)
        if content.count("'") % 2 or content.count('"') % 2:
            return Line(number, row, "a quote is missing", None)
        surplus = content.count("]") - content.count("[") + (place == 0)
        if place < len(flow) - 1 and surplus > 0:
            return Line(number, row, "there is a ']' too many", None)
        if place == len(flow) - 1 and surplus == 0 and place:
            return Line(number, row, f"the ']' that ends '{row[1]}' is missing", None)
    return None


def _wrong_key(margin: str, key: str, rest: str) -> tuple[str, str] | None:
    """What is wrong with a line that begins with a key, and the line as it is meant."""
    if not rest.lstrip().startswith(":"):
        value = rest.lstrip(" =\uff1a")
        if "\uff1a" in rest:
            return f"a full-width colon stands behind '{key}'; write ':'", f"{key}: {value}"
        return f"a ':' is missing behind '{key}'", f"{key}: {value}"
    value = rest.lstrip()[1:]
    if margin:
        return f"the key '{key}' is indented; keys begin at the margin", f"{key}:{value}"
    if value and not value[0].isspace():
        return f"a space is missing behind '{key}:'", f"{key}: {value}"
    return None


def _wrong_size(line: str) -> tuple[str, str] | None:
    """What is wrong with a line `n: [0.33, 0.25, 1024]` of the table of sizes, and the line as it is meant."""
    size = re.match(r"(\s+)([\w'\"]+)(\s*:)?(\s*)(\[[^#]*)", line)
    if not size or (size[3] and size[4] and _opened(line) == 0):
        return None
    meant = size[5].rstrip() + "]" * (_opened(line) > 0)
    wrong = f"a ':' is missing behind '{size[2]}'" if not size[3] else f"a space is missing behind '{size[2]}:'"
    if _opened(line):
        wrong = f"there is a ']' too {'few' if _opened(line) > 0 else 'many'}"
        meant = meant if _opened(line) > 0 else size[5].split("]")[0] + "]"
    return wrong, f"{size[1]}{size[2]}: {meant}"


def _wrong_row(found, first) -> str | None:
    if not found[2].strip():
        return "'- ' is missing before the row"
    if found[2] == "-":
        return "a space is missing behind '-'"
    if found[1] != first[1]:
        return f"is indented by {len(found[1])} spaces, the rows before it by {len(first[1])}"
    return None
