"""Text that is not valid YAML: which line is wrong, which row it holds, and how the line is most likely meant."""

import re
from typing import Any, NamedTuple

import yaml

from graftdet.models.spec.keys import KEYS, SECTIONS
from graftdet.models.spec.lookalikes import replace_lookalikes
from graftdet.models.spec.positions import Document
from graftdet.models.spec.problems import Problem, ProblemError, Report, raise_problem
from graftdet.models.spec.row_text import (
    TextFault,
    close_brackets,
    find_text_fault,
    is_wrong_comment,
    opened_brackets,
    surplus_brackets,
    without_comment,
    wrong_dash,
)
from graftdet.utils.config import YamlError

_MAX_REPAIRS = 50  # lines that are repaired one after the other
_MAX_DEPTH = 50  # of brackets; rows have four
_KEYS = "|".join(sorted(KEYS, key=len, reverse=True))
_CONFLICT = re.compile(r"(<{7}|\|{7}|={7}|>{7})(?!\S)")
_ROW = re.compile(r"(\s*)(-?\s*)\[")


class RowIndex(NamedTuple):
    """A row: its index over both sections, its section, and its index there."""

    index: int  # type: ignore[assignment]  # also a method of tuples
    section: str
    position: int


class Fault(NamedTuple):
    """A wrong line: its number from 0, the row on it, the reason, and the line as it is meant (None: not known)."""

    number: int
    row: RowIndex | None
    reason: str
    repaired: str | None
    column: int = 1


def parse_document(text: str, file: str, report: Report = raise_problem) -> Document:
    """Parse the text of a model YAML.

    Each line that is not valid YAML is reported; where `report` returns, the line is repaired provisionally, so that
    the rows after it are read too.

    Args:
        text: the YAML text.
        file: its name in problems.
        report: takes the problems.

    Raises:
        ProblemError: a line is wrong and its meaning is not known; this problem was not reported.
        YamlError: too many lines are wrong.
    """
    text = replace_lookalikes(_without_conflicts(text, file, report), file, report)
    for _ in range(_MAX_REPAIRS):
        try:
            return Document.parse(text, file)
        except YamlError as error:
            fault = _LineScan(text).run() or _broken_row(text, error)
            if fault is None:
                problem = Problem("yaml-syntax", "error", None, error.line, error.column, error.problem, file=file)
                raise ProblemError(problem) from None
            index, section, position = fault.row or (None, None, None)
            position_in_file = (index, fault.number + 1, fault.column)
            about: dict[str, Any] = {"file": file, "section": section, "section_row": position}
            problem = Problem("yaml-syntax", "error", *position_in_file, f"not valid YAML: {fault.reason}", **about)
            if fault.repaired is None:
                raise ProblemError(problem) from None
            report(problem)
            lines = text.split("\n")
            lines[fault.number] = fault.repaired
            text = "\n".join(lines)
    return Document.parse(text, file)


def _without_conflicts(text: str, file: str, report: Report) -> str:
    """The text with the first version of each merge conflict, which is reported; other lines stay at their numbers."""
    lines = text.split("\n")
    inside = other = False  # a conflict, its second version
    for number, line in enumerate(lines):
        marker = _CONFLICT.match(line)
        if marker and not inside:
            message = f"not valid YAML: '{marker[0]}' marks a merge conflict; remove one of the two versions"
            report(Problem("yaml-syntax", "error", None, number + 1, 1, message, file=file))
        if marker:
            inside = marker[0][0] == "<" or (inside and marker[0][0] != ">")
            other = inside and marker[0][0] != "<"
        if marker or other:
            lines[number] = ""
    return "\n".join(lines)


def _broken_row(text: str, error: YamlError) -> Fault | None:
    """The row in which the parser stops, with its brackets closed or, failing that, replaced by an unreadable row."""
    found = _last_row(text)
    if found is None:
        return None
    number, row = found
    line = text.split("\n")[number]
    content = without_comment(line)
    surplus = surplus_brackets(line, row.position)
    written = line[: len(content)]
    start = re.match(r"\s*-\s+(?=\[)", line)
    column = len(start[0]) + 1 if start else len(line) - len(line.lstrip()) + 1
    if surplus < 0:
        count = f" ({-surplus} of them)" if surplus < -1 else ""
        reason, repaired = f"a ']' is missing{count}", close_brackets(written, -surplus)
    elif surplus > 0 and written.endswith("]" * surplus):
        reason, repaired = "there is one ']' too many", written[:-surplus]
    else:
        reason = "there is one ']' too many" if surplus > 0 else error.reason
        repaired = f"{start[0]}[-1, 1, '?', []]" if start else None
    return Fault(number, row, reason, None if start is None or repaired == line else repaired, column)


def _last_row(text: str) -> tuple[int, RowIndex] | None:
    """The last row that begins before the parser stops, and its line; None where it stops elsewhere."""
    section, path, row, line = None, [], None, 0
    counts = dict.fromkeys(SECTIONS, 0)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.ScalarEvent) and path == ["map"] and event.value in counts:
                section = event.value
            elif isinstance(event, yaml.CollectionStartEvent):
                if path == ["map", "list"] and section:
                    row, line = RowIndex(sum(counts.values()), section, counts[section]), event.start_mark.line
                    counts[section] += 1
                path.append("map" if isinstance(event, yaml.MappingStartEvent) else "list")
                if len(path) > _MAX_DEPTH:  # which the parser takes quadratic time for
                    return None
            elif isinstance(event, yaml.CollectionEndEvent):
                path.pop()
                section = None if path == ["map"] else section
    except yaml.MarkedYAMLError as error:
        at_end = error.problem_mark is None or error.problem_mark.index >= len(text.rstrip())
        mark = error.context_mark if at_end and error.context_mark else error.problem_mark
        if row is None or mark is None:
            return None
        lines = text.split("\n")
        if path == ["map", "list"] and re.match(r"\s*-", lines[line]):  # the parser has not begun the broken one
            return _row_before(lines, line, row, mark.line)
        return line, row
    except yaml.YAMLError:
        return None
    return None


def _row_before(lines: list[str], line: int, row: RowIndex, last: int) -> tuple[int, RowIndex]:
    """The last row that begins after `row` and not after line `last`; `row` itself where there is none."""
    index, section, position = row
    for number in range(line + 1, min(last, len(lines) - 1) + 1):
        heading = re.match(rf"({'|'.join(SECTIONS)})\s*:", lines[number])
        if heading:
            section, position = heading[1], -1
        elif re.match(r"\s*(-\s*)?\[", lines[number]):
            line, index, position = number, index + 1, position + 1
    return line, RowIndex(index, section, position)


class _LineScan:
    """Finds the first line that no model YAML has; keys, rows and sizes are recognized by how they begin."""

    def __init__(self, text: str):
        self.lines = text.split("\n")
        self.section: str | None = None
        self.position = self.index = -1
        self.first: re.Match | None = None  # first row of the section
        self.flow: list[tuple[int, RowIndex | None, str]] = []  # rows of a section written as one list in brackets
        self.in_scales = False
        self.left_open = 0  # brackets that the lines so far of a row, or of the value of a key, leave open

    def run(self) -> Fault | None:
        for number, line in enumerate(self.lines):
            if line.strip() and not line.lstrip().startswith("#") and (fault := self._line(number, line)):
                return fault
        return self._end_of_flow()

    def _line(self, number: int, line: str) -> Fault | None:
        key = re.match(rf"(\s*)({_KEYS})\b(.*)", line)
        if self.left_open > 0 and not re.match(rf"\s*-\s|({_KEYS})\s*:", line):
            self.left_open += opened_brackets(line)
            return None
        opens = re.match(r"\s*-\s", line) or (key and key[2] not in SECTIONS)
        self.left_open = opened_brackets(line) if opens else 0
        if key and not re.match(r"\s*-", line):
            wrong = _wrong_key(*key.groups())
            return Fault(number, None, *wrong) if wrong else self._begin_key(key[2])
        if self.in_scales and (wrong := _wrong_size(line)):
            return Fault(number, None, *wrong)
        if self.flow and line.strip().startswith("]"):
            self.flow.append((number, self.flow[-1][1], line))
            return None
        return self._row(number, line)

    def _begin_key(self, key: str) -> Fault | None:
        fault = self._end_of_flow()
        self.flow, self.in_scales = [], key == "scales"
        self.section, self.position, self.first = key if key in SECTIONS else None, -1, None
        return fault

    def _row(self, number: int, line: str) -> Fault | None:
        row, found = None, _ROW.match(line)
        if self.section and found:
            self.position, self.index = self.position + 1, self.index + 1
            row = RowIndex(self.index, self.section, self.position)
            self.first = self.first or found
        elif self.section and self.flow and line.lstrip().startswith("("):
            self.position, self.index = self.position + 1, self.index + 1
            row = RowIndex(self.index, self.section, self.position)
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return Fault(number, row, "begins with a tab; indent with spaces", self._indent(number) + line.lstrip())
        if self.first is None:
            return None
        dashes = bool(self.first[2].strip())
        if not dashes and (row or is_wrong_comment(line)) and (self.flow or line.lstrip().startswith("[[")):
            self.flow.append((number, row, line))
        if not dashes or found is None or row is None:
            return None
        reason = wrong_dash(found, self.first) if self.first is not found else None
        if reason:
            return Fault(number, row, reason, self.first[1] + "- " + line[found.end() - 1 :])
        return _text_fault(number, row, line, find_text_fault(line, in_brackets=False))

    def _indent(self, number: int) -> str:
        """The spaces that the rows nearest to a line begin with."""
        for i in sorted(range(len(self.lines)), key=lambda i: abs(i - number)):
            if re.match(r" *-?\s*\[", self.lines[i]):
                return " " * (len(self.lines[i]) - len(self.lines[i].lstrip()))
        return "  "

    def _end_of_flow(self) -> Fault | None:
        """The first row of one list in brackets that leaves a quote or a bracket open, or closes one too many."""
        for i, (number, row, line) in enumerate(self.flow):
            content = re.sub(r"(^|\s)#.*$", "", line)
            if content.count("'") % 2 or content.count('"') % 2:
                return Fault(number, row, "a quote is missing", None)
            if wrong := _text_fault(number, row, line, find_text_fault(line, in_brackets=True)):
                return wrong
            surplus = content.count("]") - content.count("[") + (i == 0)
            if i < len(self.flow) - 1 and surplus > 0:
                return Fault(number, row, "there is one ']' too many", None)
            if surplus == 0 and (wrong := _missing_comma(number, row, line, self.flow[i + 1 :])):
                return wrong
            if i == len(self.flow) - 1 and surplus == 0 and i:
                return Fault(number, row, f"the ']' that ends '{row.section}' is missing", None)
        return None


def _text_fault(number: int, row: RowIndex | None, line: str, fault: TextFault | None) -> Fault | None:
    """The fault of a line in which commas, brackets or comment signs are wrong."""
    return fault and Fault(number, row, fault.reason, fault.repaired if fault.repaired != line else None, fault.column)


def _missing_comma(number: int, row: RowIndex | None, line: str, later: list) -> Fault | None:
    """The fault of a complete row of a list in brackets without a comma before the next row."""
    written = without_comment(line)
    if not later or later[0][2].strip().startswith("]") or not written.endswith("]"):
        return None
    repaired = f"{written}," + line[len(written) :]
    return Fault(number, row, "a comma is missing after the row", repaired, len(written) + 1)


def _wrong_key(indent: str, key: str, rest: str) -> tuple[str, str] | None:
    """What is wrong with a line that begins with a key, and the line as it is meant."""
    if not rest.lstrip().startswith(":"):
        value = rest.lstrip(" =\uff1a")
        if "\uff1a" in rest:
            return f"a full-width colon follows '{key}'; write ':'", f"{key}: {value}"
        return f"a ':' is missing after '{key}'", f"{key}: {value}"
    value = rest.lstrip()[1:]
    if indent:
        return f"the key '{key}' is indented; keys begin in the first column", f"{key}:{value}"
    if value and not value[0].isspace():
        return f"a space is missing after '{key}:'", f"{key}: {value}"
    return None


def _wrong_size(line: str) -> tuple[str, str] | None:
    """What is wrong with a line `n: [0.33, 0.25, 1024]` of the table of sizes, and the line as it is meant."""
    size = re.match(r"(\s+)([\w'\"]+)(\s*:)?(\s*)(\[[^#]*)", line)
    opened = opened_brackets(line)
    if not size or (size[3] and size[4] and opened == 0):
        return None
    meant = size[5].rstrip() + "]" * (opened > 0) if opened >= 0 else size[5].split("]")[0] + "]"
    reason = f"a space is missing after '{size[2]}:'" if size[3] else f"a ':' is missing after '{size[2]}'"
    if opened:
        reason = "a ']' is missing" if opened > 0 else "there is one ']' too many"
    return reason, f"{size[1]}{size[2]}: {meant}"
