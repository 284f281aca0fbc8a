"""Problems of a model YAML: values with file, position, row, rule and fix, and the text made from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graftdet.models.spec.positions import Path, Positions
from graftdet.utils.errors import UserError

MAX_MESSAGE = 800
"""Longest message [characters]."""


@dataclass(frozen=True)
class Problem:
    """One problem of a model YAML.

    Attributes:
        rule: id of the rule in `graftdet.models.lint.rules`.
        severity: "error" or "warning".
        row: index of the row over both sections; None for the file as a whole.
        line, column: counted from 1; None where the model was not read from text.
        message: what is wrong, and with which value.
        hint: the likely fix; empty where none is known.
        file: the file as the user named it.
        section, section_row: the section of the row and its index there.
        name, module: the row's own name and its module, where they are known.
        size: the model size (of `scales`) that was read, where the file has several.
        replacement: YAML text that resolves the problem in place of the element at line and column, where it is known.
    """

    rule: str
    severity: str
    row: int | None
    line: int | None
    column: int | None
    message: str
    hint: str = ""
    file: str = "model"
    section: str | None = None
    section_row: int | None = None
    name: str | None = None
    module: str | None = None
    size: str | None = None
    replacement: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """`x.yaml:31:12: error[unknown-module] row 19 (head row 10): 'Cnv' is not a known module; ...`."""
        row = f" {self.row_text}" if self.row_text else ""
        return f"{self.position_text}: {self.severity}[{self.rule}]{row}: {self.text}"

    @property
    def text(self) -> str:
        """Message and hint on one line."""
        return _shorten(" ".join(f"{self.message}{'; ' if self.hint else ''}{self.hint}".split()))

    @property
    def position_text(self) -> str:
        """`file:line:column`, as editors read it."""
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    @property
    def row_text(self) -> str:
        """`row 19 (head row 10) 'p4' Conv`; empty for the file as a whole."""
        if self.row is None:
            return ""
        name = f" '{self.name}'" if self.name else ""
        size = f", size {self.size}" if self.size else ""
        module = f" {self.module:.80}" if self.module else ""
        return f"row {self.row} ({self.section} row {self.section_row}){name}{module}{size}"

    def github(self) -> str:
        """The problem as a workflow command of GitHub Actions, which shows it beside the line."""
        where = {"file": self.file, "line": self.line, "col": self.column, "title": self.rule}
        parts = ",".join(f"{key}={_escape(str(value), ':,')}" for key, value in where.items() if value is not None)
        text = f"{self.row_text}: {self.text}" if self.row_text else self.text
        return f"::{self.severity} {parts}::{_escape(text)}"


def _shorten(text: str) -> str:
    """The text without its middle where it is very long: it may quote a value of the file, of any length."""
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE // 2]} ... {text[-MAX_MESSAGE // 2 :]}"


def _escape(text: str, more: str = "") -> str:
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + more else c for c in text)


class ProblemError(UserError):
    """Raised for problems of a model YAML, which it carries as `problems`."""

    def __init__(self, *problems: Problem):
        super().__init__("\n".join(map(str, problems)))
        self.problems: Sequence[Problem] = problems

    def describe(self) -> str:
        """One line per problem; each contains its severity."""
        return str(self)


Report = Callable[[Problem], None]
"""Takes the problems as they are found; where it returns, reading continues with the nearest sensible value."""


def raise_problem(problem: Problem) -> None:
    """The `Report` that stops at the first problem.

    Raises:
        ProblemError: always.
    """
    raise ProblemError(problem)


class Reporter:
    """Makes the problems of one file, with their positions, and hands them to `report`."""

    def __init__(self, file: str, report: Report = raise_problem, positions: Positions | None = None):
        self.file, self.report, self.positions = file, report, positions or Positions()

    def error(self, rule: str, message: str, hint: str = "", path: Path = (), **row: Any) -> None:
        """Report an error at `path` in the YAML; `row` are the fields of `Problem` that identify its row."""
        position = self.positions.find(path)
        index = row.pop("row", None)
        self.report(Problem(rule, "error", index, *position, message, hint, self.file, **row))


def in_order(problems: list[Problem]) -> list[Problem]:
    """Problems without repetitions, those of the file as a whole first, then row by row."""
    return sorted(dict.fromkeys(problems), key=lambda problem: -1 if problem.row is None else problem.row)
