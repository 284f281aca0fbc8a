"""Indices that were not renumbered: a row was inserted or removed by hand, and rows after it still use the old ones."""

from dataclasses import replace

from graftdet.models.lint.graph_warnings import levels_differ
from graftdet.models.lint.propagation import propagate
from graftdet.models.lint.row_cache import RowCache
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.problems import Problem, Reporter
from graftdet.models.spec.row import show_row
from graftdet.models.spec.row_parser import parse_rows

_SYMPTOMS = frozenset(("row-source", "size-mismatch", "width-mismatch", "source-misfit", "row-misfit"))
_RESIZING = (
    ([-1, 1, "nn.Upsample", [None, 2, "nearest"]], "a row that doubles the size"),
    ([-1, 1, "nn.MaxPool2d", [2, 2]], "a row that halves the size"),
)
Sections = dict[str, list]


def explain_stale_indices(spec: ModelSpec, problems: list[Problem], cache: RowCache) -> list[Problem]:
    """Replace problems that come from indices that were not renumbered by one problem.

    Args:
        spec: the model.
        problems: its errors.
        cache: outcomes of building rows, with the time for the search.

    Returns:
        The errors; where moving all indices from some row on by one or two, or inserting a row that changes the size,
        resolves all that may come from indices, one problem instead of them, at the first of their rows.
    """
    symptoms = [problem for problem in problems if _is_symptom(spec, problem)]
    others = [problem for problem in problems if problem not in symptoms]
    if not symptoms or len(symptoms) + len(unused_rows(spec)) < 2:
        return problems
    search = _Search(spec, others, cache)
    hint = search.find_shift() or search.find_gap()
    if hint is None:
        return problems
    first = symptoms[0]
    return [*others, replace(first, rule="stale-indices", hint=hint)]


def explain_unused_rows(spec: ModelSpec, warnings: list[Problem], cache: RowCache) -> list[Problem]:
    """The same for warnings about rows that no row reads, of a model without errors: one warning replaces all."""
    first = next((warning for warning in warnings if warning.rule == "unused-row"), None)
    shift = _Search(spec, [], cache).find_shift(minimum=2, verb="may be") if first else None
    if shift is None or " from 0 " in shift:
        return warnings
    return [replace(first, rule="stale-indices", hint=f"{first.hint} Or {shift}")]


def _is_symptom(spec: ModelSpec, problem: Problem) -> bool:
    """Whether a problem may come from wrong indices; of a head, its number of levels may be wrong."""
    head_args = problem.rule == "invalid-arguments" and problem.row == spec.rows[-1].index
    return problem.rule in _SYMPTOMS or head_args


class _Search:
    """Searches for changes of all indices after which a model has no problems but the `others`."""

    def __init__(self, spec: ModelSpec, others: list[Problem], cache: RowCache):
        self.spec, self.cache = spec, cache
        self.others = len(others)
        self.sections: Sections = {"backbone": [], "head": []}
        for row in spec.rows:
            self.sections[row.section].append(row.written)

    def find_shift(self, minimum: int = 1, verb: str = "are") -> str | None:
        """What to do to the indices so that all rows fit, where at least `minimum` of them are moved."""
        used = sorted({s for row in self.spec.rows for s in row.written_sources if type(s) is int and s >= 0})
        for step in (-1, 1, -2, 2):
            movable = used[: len(used) + 1 - minimum]
            # after a removed row, the fewest indices that resolve it; after an inserted one, all that may be old
            for first in reversed(movable) if step < 0 else movable:
                if self._fits(self._moved(first, step)):
                    return _describe_shift(first, step, verb)
        return None

    def find_gap(self) -> str | None:
        """Where the indices would fit if there were a row that changes the size."""
        positions = [(section, i) for section, rows in self.sections.items() for i in range(len(rows))]
        for row, what in _RESIZING:
            fitting = []
            for index, (section, i) in enumerate(positions):
                rows = self.sections[section]
                if self._fits({**self.sections, section: [*rows[:i], row, *rows[i:]]}):
                    fitting.append(index)
            if fitting:
                before = f"row {fitting[0]}" if len(fitting) == 1 else f"one of the rows {fitting[0]} to {fitting[-1]}"
                return f"as if {what} was removed before {before} by hand, such as {show_row(row)}"
        return None

    def _moved(self, first: int, step: int) -> Sections:
        """The rows with all indices from `first` on moved by `step`."""

        def move(source):
            return source + step if type(source) is int and source >= first else source

        def move_row(row):
            if not isinstance(row, list) or not row:
                return row
            source = [move(s) for s in row[0]] if isinstance(row[0], list) else move(row[0])
            return [source, *row[1:]]

        return {section: [move_row(row) for row in rows] for section, rows in self.sections.items()}

    def _fits(self, sections: Sections) -> bool:
        if self.cache.is_expired:
            return False
        found: list[Problem] = []
        rows = parse_rows(sections, Reporter(self.spec.file, found.append))
        moved = replace(self.spec, rows=rows)
        if len(found) > self.others or unused_rows(moved):
            return False
        broken = {problem.row: "all" for problem in found}
        result = propagate(moved, self.cache, broken, limit=self.others)
        fits = len(found) + len(result.problems) <= self.others and levels_differ(result)
        return fits and not self.cache.is_expired


def _describe_shift(first: int, step: int, verb: str) -> str:
    by = "one" if abs(step) == 1 else "two"
    rows = "a row was" if abs(step) == 1 else "two rows were"
    if step < 0:
        return f"the indices from {first} on {verb} {by} too large, as if {rows} removed before it by hand"
    insert = "; python -m models insert renumbers them"
    return f"the indices from {first} on {verb} {by} too small, as if {rows} inserted before it by hand{insert}"
