"""YAML text that does not parse: which row is torn, and what is missing there."""

import re
from collections.abc import Callable
from typing import NamedTuple

import yaml
from graftdet.utils.config import parse_yaml
from graftdet.utils.errors import UserError

Report = Callable[[str], None]
_MOST = 50  # torn rows that are mended one after the other
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"")


def raise_problem(message: str) -> None:
    """The `report` that stops at the first mistake."""
    raise UserError(message)


def parse_model_yaml(text: str, where: str, report: Report = raise_problem) -> dict:
    """Load a model YAML's mapping. Each torn row is told to `report`; where that returns, the row is mended for the
    time being, so that the rows after it are read too. Raises `UserError` where nothing can be read at all."""
    for _ in range(_MOST):
        try:
            return parse_yaml(text, where)
        except UserError as error:
            line = find_wrong_line(text)
            if line is not None:
                at = (
                    f"{where}, row {line.row[0]} ({line.row[1]} row {line.row[2]}), line"
                    if line.row
                    else f"{where}, line"
                )
                problem = f"{at} {line.number + 1}: not valid YAML: {line.wrong}"
                if line.meant is None:
                    raise UserError(problem) from None
                report(problem)
                lines = text.split("\n")
                lines[line.number] = line.meant
                text = "\n".join(lines)
                continue
            torn = _find_torn_row(text)
            if torn is None:
                raise
            mended = _mend(text, torn)
            problem = _describe(torn, where, str(error))
            if mended is None:
                raise UserError(problem) from None
            report(problem)
            text = mended
    return parse_yaml(text, where)


def _find_torn_row(text: str) -> dict | None:
    """Where the parser stops: the last row that had begun, its first line, and how many brackets were open in it."""
    section, path, row = None, [], None
    counts = {"backbone": 0, "head": 0}
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.ScalarEvent) and path == ["map"] and event.value in counts:
                section = event.value
            elif isinstance(event, yaml.CollectionStartEvent):
                if path == ["map", "list"] and section:
                    row = {"section": section, "position": counts[section], "line": event.start_mark.line}
                    row["index"] = row["position"] + (counts["backbone"] if section == "head" else 0)
                    counts[section] += 1
                path.append("map" if isinstance(event, yaml.MappingStartEvent) else "list")
            elif isinstance(event, yaml.CollectionEndEvent):
                path.pop()
                section = None if path == ["map"] else section
    except yaml.MarkedYAMLError as error:
        mark = error.context_mark if "end of stream" in str(error.problem) else error.problem_mark
        if row is None or mark is None:
            return None
        lines = text.split("\n")
        if path == ["map", "list"] and re.match(r"\s*-", lines[row["line"]]):  # the parser has not begun the torn one
            row = _row_at(lines, row, mark.line)
        row["surplus"] = _surplus(lines[row["line"]], row["position"])
        return row
    except yaml.YAMLError:
        return None
    return None


def _row_at(lines: list[str], row: dict, last: int) -> dict:
    """The last row that begins after `row` and not after line `last`; `row` itself where none looks like one."""
    row = dict(row)
    for number in range(row["line"] + 1, min(last, len(lines) - 1) + 1):
        section = re.match(r"(backbone|head)\s*:", lines[number])
        if section:
            row["section"], row["position"] = section[1], -1
        elif re.match(r"\s*(-\s*)?\[", lines[number]):
            row.update(line=number, index=row["index"] + 1, position=row["position"] + 1)
    return row


def _content(line: str) -> str:
    """The line without its comment, quoted text blotted out, of unchanged length up to there."""
    return re.sub(r"\s+#.*$", "", _QUOTED.sub(lambda m: "q" * len(m[0]), line.rstrip()))


def _surplus(line: str, position: int) -> int:
    """How many ']' a row of one line has more than '['; 0 where brackets alone do not tell."""
    content = _content(line)
    surplus = content.count("]") - content.count("[")
    if content.count("{") != content.count("}") or content.count("'") + content.count('"'):
        return 0
    if re.match(r"\s*-\s+\[", line):
        return surplus
    return min(surplus, 0) if position > 0 and re.match(r"\s*\[", line) else 0


def _describe(torn: dict, where: str, problem: str) -> str:
    at = f"{where}, row {torn['index']} ({torn['section']} row {torn['position']}), line {torn['line'] + 1}"
    if torn["surplus"] < 0:
        return f"{at}: not valid YAML: a ']' is missing" + (
            f" ({-torn['surplus']} of them)" if torn["surplus"] < -1 else ""
        )
    if torn["surplus"] > 0:
        return f"{at}: not valid YAML: there is a ']' too many"
    return f"{at}: not valid YAML: {problem.split('not valid YAML: ')[-1]}"


def _mend(text: str, torn: dict) -> str | None:
    """The text with the torn row's brackets closed, or with an unreadable row in its place; None where it is not a
    row of one line."""
    lines = text.split("\n")
    line = lines[torn["line"]]
    start = re.match(r"\s*-\s+(?=\[)", line)
    if start is None:
        return None
    kept = line[: len(_content(line))]
    if torn["surplus"] < 0:
        named = re.fullmatch(
            r"(.*\[[^\[\]]*?)\s*,\s*([a-z]\w*)\]", kept
        )  # [..., [16, p3]: the row's name is likely outside
        if named and torn["surplus"] == -1 and named[2] not in ("nearest", "nc", "anchors"):
            kept = f"{named[1]}], {named[2]}]"
        lines[torn["line"]] = kept + "]" * (0 if kept.count("]") == kept.count("[") else -torn["surplus"])
    elif torn["surplus"] > 0 and kept.endswith("]" * torn["surplus"]):
        lines[torn["line"]] = kept[: -torn["surplus"]]
    else:
        lines[torn["line"]] = start[0] + "[-1, 1, '?', []]"
    return None if lines[torn["line"]] == line else "\n".join(lines)


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
            return Line(
                number, None, f"'{line[:7]}' is the mark of a merge conflict; keep one of the two versions", None
            )
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
    return next(
        (" " * (len(lines[i]) - len(lines[i].lstrip())) for i in near if re.match(r" *-?\s*\[", lines[i])), "  "
    )


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
