"""Which row is the cause where rows do not fit: the one whose change makes all rows after it fit."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from graftdet.models.lint.changes import CERTAIN, Change, likely_changes
from graftdet.models.lint.graph_warnings import levels_differ
from graftdet.models.lint.propagation import INPUT_RULES, Propagation, propagate
from graftdet.models.lint.row_cache import RowCache
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.problems import Problem
from graftdet.models.spec.row import IMAGE, Row, show_row

_MAX_CAUSES = 6
_MAX_ALTERNATIVES = 4  # changes that leave problems, and are tried together with a second one
_CHANGEABLE = INPUT_RULES - {"map-list"}
PARTS_OF_RULES = {"size-mismatch": "from", "width-mismatch": "from"}  # the part of a row that a problem is at


class _Attempt(NamedTuple):
    """A change of one row, the pass over the rows with it, and its cost: the lowest is the most likely."""

    cost: tuple
    found: Propagation
    change: Change


def find_causes(
    spec: ModelSpec, parsed: dict[int, str], cache: RowCache | None = None
) -> tuple[Propagation, list[Problem]]:
    """Find the problems of all rows, each at the row that is its cause.

    Args:
        spec: the model.
        parsed: rows whose problems were reported when they were parsed, as `Propagation` takes them.
        cache: outcomes of building rows, with the time for the search.

    Returns:
        The pass over the rows as they are; its problems, where those that one change of a row resolves are replaced by
        the problem of that row.
    """
    cache = RowCache() if cache is None else cache
    first = propagate(spec, cache, parsed)
    last, causes = _resolve_all(first, cache, together=True)
    return first, [*{cause.row: cause for cause in reversed(causes)}.values(), *last.problems]


def _resolve_all(found: Propagation, cache: RowCache, together: bool) -> tuple[Propagation, list[Problem]]:
    """Change row after row while that resolves problems; the last pass, and the problem of each row that is changed."""
    causes: list[Problem] = []
    while len(causes) < _MAX_CAUSES and not cache.is_expired:
        resolved = _resolve_one(found, cache) or (_resolve_two(found, cache) if together else None)
        if resolved is None:
            break
        found, more = resolved
        causes += more
    return found, causes


def _resolve_one(found: Propagation, cache: RowCache) -> tuple[Propagation, list[Problem]] | None:
    """The pass after the change of one row that leaves the fewest problems, and the problem of that row.

    None where no change leaves fewer problems than there are, counting the row that is changed: it must resolve two
    problems, or the only one. Problems that do not come from what a row reads stay and do not count.
    """
    for failing, dependent in _failing(found):
        limit = len(found.problems) - dependent + max(dependent - 2, 0)
        best = min(_attempts(found, failing, cache, limit), key=lambda attempt: attempt.cost, default=None)
        if best is not None:
            return best.found, [_cause(found, failing, best.change)]
    return None


def _resolve_two(found: Propagation, cache: RowCache) -> tuple[Propagation, list[Problem]] | None:
    """The same for changes that resolve one problem each and, together, all that come from what rows read."""
    for failing, dependent in _failing(found):
        if dependent + found.consequences < 2 or failing.rule not in _CHANGEABLE:
            continue
        limit = len(found.problems) - (not found.consequences)  # a consequence may turn out as a problem of its own
        attempts = [
            attempt
            for attempt in _attempts(found, failing, cache, limit)
            if not any((p.row, p.rule) == (failing.row, failing.rule) for p in attempt.found.problems)
        ]
        for attempt in sorted(attempts, key=lambda attempt: attempt.cost)[:_MAX_ALTERNATIVES]:
            last, causes = _resolve_all(attempt.found, cache, together=False)
            if len(last.problems) <= len(found.problems) - dependent:
                return last, [_cause(found, failing, attempt.change), *causes]
    return None


def _failing(found: Propagation) -> Iterator[tuple[Problem, int]]:
    """Problems that an earlier row may be the cause of, and the number of problems that come from what rows read."""
    dependent = sum(problem.rule in _CHANGEABLE for problem in found.problems)
    for problem in found.problems:
        if problem.rule in _CHANGEABLE:
            yield problem, dependent
        elif problem.rule == "invalid-arguments":
            yield problem, dependent + 1


def _attempts(found: Propagation, failing: Problem, cache: RowCache, limit: int) -> Iterator[_Attempt]:
    """Changes after which at most `limit` problems are left, the limit falling with each one found."""
    unused = len(unused_rows(found.spec))
    independent = sum(problem.rule not in _CHANGEABLE for problem in found.problems)
    odd = _first_odd_size(found, failing.row)
    for change in likely_changes(found, failing.row):
        if cache.is_expired:
            return
        index = change.row.index
        spec = replace(found.spec, rows=(*found.spec.rows[:index], change.row, *found.spec.rows[index + 1 :]))
        unread = len(unused_rows(spec))
        if unread > unused:
            continue
        other = propagate(spec, cache, found.parsed, limit)
        remaining = len(other.problems)
        if remaining > limit or other.consequences:
            continue
        if remaining <= independent and change.rank != CERTAIN and not levels_differ(other):
            continue
        limit = remaining
        likely = index == odd and change.row.module == found.spec.rows[index].module
        yield _Attempt((remaining, unread, change.rank - 2 * likely, failing.row - index), other, change)


def _first_odd_size(found: Propagation, index: int) -> int | None:
    """The first row leading to row `index` whose size is neither a divisor nor a multiple of the size it reads."""
    for row in (found.spec.rows[i] for i in sorted(found.ancestors[index])):
        before, shape = found.input_of(row), found.shapes[row.index]
        if row.joined or not isinstance(shape, tuple) or not isinstance(before, tuple):
            continue
        if any(max(sizes) % max(min(sizes), 1) for sizes in zip(before[1:], shape[1:], strict=True)):
            return row.index
    return None


def _cause(found: Propagation, failing: Problem, change: Change) -> Problem:
    """The problem of the row that is changed."""
    row = found.spec.rows[change.row.index]
    own = {problem.row: problem for problem in found.problems}.get(change.row.index)
    if own is not None:
        if own.rule not in INPUT_RULES:
            return own
        fixed = _replacement(row, change) if PARTS_OF_RULES.get(own.rule) == change.part else None
        return replace(own, hint=change.fix, replacement=fixed)
    reader = found.spec.rows[failing.row]
    message = f"{change.what} does not fit row {reader.index} ({reader.module}: {failing.message})"
    rule = "source-misfit" if change.part == "from" else "row-misfit"
    fixed = _replacement(row, change)
    return found.spec.problem(rule, message, change.fix, row, change.part, replacement=fixed)


def _replacement(row: Row, change: Change) -> str | None:
    """The YAML text of the part of the row that is changed; None where the whole row is to be removed."""
    if change.part == "args":
        return _args_text(change.row)
    if change.part != "from":
        return None
    pairs = zip(row.written_sources, row.sources, change.row.sources, strict=True)
    texts = [show_row(written if new == old else _source(row, new)) for written, old, new in pairs]
    return f"[{', '.join(texts)}]" if row.joined else texts[0]


def _source(row: Row, source: int) -> int:
    """A source as the row may write it: -1 for the row before it and for the image."""
    return source - row.index if source in (IMAGE, row.index - 1) else source


def _args_text(row: Row) -> str:
    """Positional and named arguments as a row has them."""
    if row.kwargs and not row.args:
        return show_row(row.kwargs)
    return show_row([*row.args, row.kwargs] if row.kwargs else row.args)
