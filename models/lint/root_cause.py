"""Which row is the cause where rows do not fit: the one whose change makes all rows after it fit."""

from dataclasses import replace

from graftdet.models.lint.changes import Change, likely_changes
from graftdet.models.lint.graph_warnings import levels_differ
from graftdet.models.lint.propagation import INPUT_RULES, Propagation, propagate
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.problems import Problem

_MAX_CAUSES = 6
_CHANGEABLE = INPUT_RULES - {"map-list"} | {"invalid-arguments"}


def find_causes(spec: ModelSpec, parsed: dict[int, str]) -> tuple[Propagation, list[Problem]]:
    """Find the problems of all rows, each at the row that is its cause.

    Args:
        spec: the model.
        parsed: rows whose problems were reported when they were parsed, as `Propagation` takes them.

    Returns:
        The pass over the rows as they are; its problems, where those that one change of a row resolves are replaced by
        the problem of that row.
    """
    cache: dict = {}
    current = first = propagate(spec, cache, parsed)
    causes: dict[int, Problem] = {}
    for _ in range(_MAX_CAUSES):
        resolved = _resolve(current, cache)
        if resolved is None:
            break
        current, cause = resolved
        causes.setdefault(cause.row, cause)
    return first, [*causes.values(), *current.problems]


def _resolve(found: Propagation, cache: dict) -> tuple[Propagation, Problem] | None:
    """The pass after the change of one row that leaves the fewest problems, and the problem of that row.

    None where no change leaves fewer problems than there are, counting the row that is changed.
    """
    failing = next((problem for problem in found.problems if problem.rule in _CHANGEABLE), None)
    if failing is None:
        return None
    dependent = sum(problem.rule in _CHANGEABLE for problem in found.problems)
    independent = len(found.problems) - dependent
    # a row that has a problem may change at no cost; another one must resolve two, or the only one
    most = independent + max(dependent - 2, 0)
    best, unused = None, len(unused_rows(found.spec))
    odd = _first_odd_size(found, failing.row)
    for change in likely_changes(found, failing.row):
        index = change.row.index
        rows = (*found.spec.rows[:index], change.row, *found.spec.rows[index + 1 :])
        spec = replace(found.spec, rows=rows)
        unread = len(unused_rows(spec))
        if unread > unused:
            continue
        limit = most if best is None else min(most, best[0][0])
        other = propagate(spec, cache, found.parsed, limit)
        remaining = len(other.problems)
        if remaining > limit or other.consequences or not (remaining or levels_differ(other)):
            continue
        likely = index == odd and change.row.module == found.spec.rows[index].module
        cost = remaining, unread, change.rank - 2 * likely, failing.row - index
        if best is None or cost < best[0]:
            best = cost, other, change
    return best and (best[1], _cause(found, failing, best[2]))


def _first_odd_size(found: Propagation, index: int) -> int | None:
    """The first row leading to row `index` whose size is neither a divisor nor a multiple of the size it reads."""
    for row in (found.spec.rows[i] for i in sorted(found.ancestors[index])):
        before, shape = found.input_of(row), found.shapes[row.index]
        if not row.joined and isinstance(shape, tuple) and isinstance(before, tuple):
            if any(max(sizes) % max(min(sizes), 1) for sizes in zip(before[1:], shape[1:], strict=True)):
                return row.index
    return None


def _cause(found: Propagation, failing: Problem, change: Change) -> Problem:
    """The problem of the row that is changed."""
    own = {problem.row: problem for problem in found.problems}.get(change.row.index)
    if own is not None:
        return replace(own, hint=change.fix) if own.rule in INPUT_RULES else own
    row, reader = found.spec.rows[change.row.index], found.spec.rows[failing.row]
    message = f"{change.what} does not fit row {reader.index} ({reader.module}: {failing.message})"
    rule = "source-misfit" if change.part == "from" else "row-misfit"
    return found.spec.problem(rule, message, change.fix, row, change.part)
