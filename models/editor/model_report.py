"""What the page shows of a model YAML as it is typed: problems with their fixes, rows with their costs, the graph."""

import contextlib
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from graftdet.models.analysis.graph_svg import Graph, draw_graph, row_strides
from graftdet.models.analysis.row_summary import RowSummary, totals
from graftdet.models.arithmetic.row_costs import RowCost, level_strides, row_costs
from graftdet.models.lint.check import check_spec
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem, ProblemError, in_order
from graftdet.models.spec.row import Row, show_row
from graftdet.utils.errors import UserError

DEFAULT_NC = 80  # classes of a model whose file has no number
SIZE = 640  # of the image, pixels
_SCALAR_END = re.compile(r"[,\]\}\r\n]|[ \t]#|:(?=\s)|$", re.MULTILINE)
_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class ParsedModel:
    """A model YAML that was read.

    Attributes:
        spec: the model; None where its text cannot be read at all.
        problems: all problems.
        rows: structure and cost of each row; with a likely shape and no cost where a row cannot be built.
        costs: what each row reads and costs; None for those rows.
        complete: whether the cost of every row is in `rows`.
        strides: those of the levels of the head; None where they are not known.
    """

    spec: ModelSpec | None
    problems: Sequence[Problem]
    rows: list[RowSummary]
    costs: list[RowCost | None]
    complete: bool = False
    strides: list[float] | None = None


def read_model(text: str, file: str, size: str | None = None) -> ParsedModel:
    """Read, check and cost the text of a model YAML.

    Args:
        text: the YAML.
        file: its name, for problems.
        size: the model size, of a file with several.
    """
    parsed: list[Problem] = []
    try:
        spec = ModelSpec.from_text(text, file, parsed.append, size)
    except ProblemError as error:
        return ParsedModel(None, in_order([*parsed, *error.problems]), [], [])
    except UserError as error:
        return ParsedModel(None, [Problem("yaml-syntax", "error", None, 1, 1, str(error), "", file)], [], [])
    problems = check_spec(spec, parsed, caches=_cache_of)
    built = spec.with_classes(spec.nc or DEFAULT_NC)
    if _is_too_large(problems):
        costs: list[RowCost | None] = [None] * len(spec.rows)
    else:
        costs = row_costs(built)
    has_errors = any(problem.severity == "error" for problem in problems)
    if None in costs and not has_errors:
        summaries, strides = _rows_by_torch(built)
        return ParsedModel(spec, problems, summaries, costs, True, strides)
    shapes = _likely_shapes(built) if None in costs and not _is_too_large(problems) else []
    rows = [
        _summary(row, cost, shape, spec.depth_multiple)
        for row, cost, shape in zip_longest(spec.rows, costs, shapes[: len(costs)])
    ]
    strides = level_strides(spec, costs) if costs else None
    return ParsedModel(spec, problems, rows, costs, None not in costs, strides)


def report_model(text: str, file: str, size: str | None = None) -> dict[str, Any]:
    """Return what the page shows of a model YAML, as JSON values.

    Args:
        text: the YAML.
        file: its name, for problems.
        size: the model size, of a file with several.

    Returns:
        `problems`, `rows`, `totals`, and `svg`, the graph; None where the text cannot be read.
    """
    model = read_model(text, file, size)
    spec, problems = model.spec, [problem_values(problem, text) for problem in model.problems]
    if spec is None or not model.rows:
        return {"problems": problems, "rows": [], "totals": None, "svg": None}
    strides = row_strides(model.rows, (SIZE, SIZE))
    sums = totals(model.rows)
    return {
        "problems": problems,
        "rows": [
            row_values(row, summary, cost, stride, spec, model.complete or cost is not None)
            for row, summary, cost, stride in zip(spec.rows, model.rows, model.costs, strides, strict=True)
        ],
        "totals": {
            **{"rows": len(model.rows), "incomplete": not model.complete, "params": sums["params"]},
            **{"macs": sums["macs"], "gflops": sums["flops"] / 1e9, "strides": model.strides, "size": SIZE},
        },
        "svg": draw_graph(Graph(spec.label, model.rows, spec.nc or DEFAULT_NC, model.strides, (SIZE, SIZE))),
    }


def build_rows(text: str, file: str) -> None:
    """Build the rows of a model YAML, so that the check of an edited text builds only those that have changed.

    Args:
        text: the YAML; what is wrong with it is reported by `report_model`.
        file: its name.
    """
    with contextlib.suppress(UserError, ProblemError):
        spec = ModelSpec.from_text(text, file, lambda problem: None)
        if not _is_too_large(check_spec(spec, [], caches=_cache_of)):
            _likely_shapes(spec)


def problem_values(problem: Problem, text: str) -> dict[str, Any]:
    """A problem as JSON values; `start` and `end` are indices in the text, `fix` what replaces that part."""
    start = _offset(text, problem.line, problem.column)
    end = element_end(text, start) if problem.line else start
    fix = problem.replacement
    if fix is not None and end > start and fix != text[start:end]:
        edit: dict[str, Any] | None = {"start": start, "end": end, "text": fix}
    else:
        edit = None
    return {
        **{"rule": problem.rule, "severity": problem.severity, "row": problem.row, "message": problem.text},
        **{"line": problem.line, "column": problem.column, "start": start, "end": end, "fix": edit},
        "where": problem.row_text,
    }


def row_values(
    row: Row, summary: RowSummary, cost: RowCost | None, stride: int, spec: ModelSpec, known: bool
) -> dict[str, Any]:
    """A row as JSON values; `line` is where it starts, from 1, `known` whether its shape and cost are."""
    inputs = None if cost is None else cost.inputs
    line, _ = spec.positions.find(row.path)
    return {
        **{"index": row.index, "section": row.section, "line": line, "name": row.name, "module": row.module},
        **{"repeats": summary.repeats, "args": summary.args, "sources": list(row.sources), "stride": stride},
        **{"inputs": inputs if isinstance(inputs, list) or inputs is None else [inputs]},
        **{"shapes": list(summary.shapes), "known": known, "params": summary.params, "macs": summary.macs},
    }


def element_end(text: str, start: int) -> int:
    """Index after the YAML element that starts at index `start`: a list or mapping in brackets, or one value."""
    first = text[start : start + 1]
    if first in ("'", '"'):
        end = text.find(first, start + 1)
        return end + 1 if end >= 0 else len(text)
    if first not in _CLOSING:
        end = _SCALAR_END.search(text, start).start()  # type: ignore[union-attr]
        return start + len(text[start:end].rstrip())
    open_brackets: list[str] = []
    for index in range(start, len(text)):
        character = text[index]
        if character in _CLOSING:
            open_brackets.append(_CLOSING[character])
        elif open_brackets and character == open_brackets[-1]:
            open_brackets.pop()
        if not open_brackets:
            return index + 1
        if character == "\n":  # a bracket that is not closed
            return index
    return len(text)


def _offset(text: str, line: int | None, column: int | None) -> int:
    """Index in the text of a line and column that count from 1; 0 where they are not known."""
    start = 0
    for _ in range((line or 1) - 1):
        start = text.find("\n", start) + 1
        if not start:
            return len(text)
    return min(start + (column or 1) - 1, len(text))


def _cache_of(spec: ModelSpec) -> Any:
    """The outcomes of building rows of earlier texts. Imports torch."""
    return _row_caches()(spec)


@functools.cache
def _row_caches() -> Any:
    from graftdet.models.lint.row_cache import RowCaches

    return RowCaches()


def _is_too_large(problems: Sequence[Problem]) -> bool:
    return any(problem.rule == "model-size" for problem in problems)


def _likely_shapes(spec: ModelSpec) -> list:
    """The outputs that the rows have if those that cannot be built have a likely one."""
    from graftdet.models.lint.propagation import propagate

    return propagate(spec, _cache_of(spec)).shapes


def _summary(row: Row, cost: RowCost | None, likely: Any, depth_multiple: float) -> RowSummary:
    args = show_row([*row.args, *([row.kwargs] if row.kwargs else [])])[1:-1]
    shape = likely if cost is None else cost.shape
    shapes = tuple(shape) if isinstance(shape, list) else (shape,) if shape else ()
    about = row.index, row.name or "", row.sources, row.number, row.module, args
    figures = (cost.params, 0, cost.macs) if cost else (0, 0, 0)
    return RowSummary(*about, shapes, *figures, depth_multiple)


def _rows_by_torch(spec: ModelSpec) -> tuple[list[RowSummary], list[float]]:
    """Rows and strides of a model without errors whose code the arithmetic does not know, such as that of plugins."""
    from graftdet.models.analysis.summary import summarize
    from graftdet.models.graph.detection_model import DetectionModel

    model = DetectionModel(spec)
    return summarize(model, (SIZE, SIZE)), list(model.head.strides)
