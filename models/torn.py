"""YAML text that does not parse: which row is torn, and what is missing there."""

import re
from collections.abc import Callable

import yaml

from utils.config import parse_yaml
from utils.errors import UserError

from .margins import find_wrong_line

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
                at = f"{where}, row {line.row[0]} ({line.row[1]} row {line.row[2]}), line" if line.row else f"{where}, line"
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
        return f"{at}: not valid YAML: a ']' is missing" + (f" ({-torn['surplus']} of them)" if torn["surplus"] < -1 else "")
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
        named = re.fullmatch(r"(.*\[[^\[\]]*?)\s*,\s*([a-z]\w*)\]", kept)  # [..., [16, p3]: the row's name is likely outside
        if named and torn["surplus"] == -1 and named[2] not in ("nearest", "nc", "anchors"):
            kept = f"{named[1]}], {named[2]}]"
        lines[torn["line"]] = kept + "]" * (0 if kept.count("]") == kept.count("[") else -torn["surplus"])
    elif torn["surplus"] > 0 and kept.endswith("]" * torn["surplus"]):
        lines[torn["line"]] = kept[: -torn["surplus"]]
    else:
        lines[torn["line"]] = start[0] + "[-1, 1, '?', []]"
    return None if lines[torn["line"]] == line else "\n".join(lines)
