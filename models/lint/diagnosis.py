"""What is wrong with a model YAML that arithmetic cannot accept: its rows are built, broken or not."""

from collections.abc import Callable
from dataclasses import replace

from graftdet.models.graph.detection_model import DetectionModel, activation_problem
from graftdet.models.graph.errors import ignored_key_problems
from graftdet.models.lint.graph_warnings import graph_warnings
from graftdet.models.lint.root_cause import find_causes
from graftdet.models.lint.row_cache import RowCache
from graftdet.models.lint.stale_indices import explain_stale_indices, explain_unused_rows
from graftdet.models.spec.keys import KEYS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import Problem, ProblemError, in_order
from graftdet.models.spec.row import UNREADABLE

_DEFAULT_NC = 80  # number of classes to continue with where the file has none
_SCOPE = {"row-number": None, "row-name": None, "row-source": "inputs"}  # of a row's problem, what else it may explain


def find_problems(
    spec: ModelSpec,
    parsed: list[Problem],
    nc: int | None = None,
    caches: Callable[[ModelSpec], RowCache] | None = None,
) -> list[Problem]:
    """Find all problems of a model.

    A broken row is given a likely meaning (the nearest known module, its arguments without the wrong ones, or an output
    that fits the rows after it), so that the rows after it are checked, too, and each mistake is reported once.

    Args:
        spec: the model.
        parsed: problems that the parser found.
        nc: number of classes; None takes the file's.
        caches: gives the outcomes of building rows of an earlier check, by default none.

    Returns:
        Errors, then warnings; both start with those of the file as a whole and continue row by row.
    """
    spec, errors = _check_keys(spec, nc)
    errors = [*_without_consequences(parsed), *errors]
    if not spec.rows:
        return in_order(errors)
    cache = RowCache() if caches is None else caches(spec)
    found, row_errors = find_causes(spec, _scopes(spec, errors), cache)
    misplaced = {problem.row for problem in found.problems if problem.rule == "head-position"}
    errors = [problem for problem in errors if problem.row not in misplaced or problem.rule != "row-source"]
    errors = explain_stale_indices(spec, errors + _merge_sizes(spec, row_errors), cache)
    if not errors:
        try:
            DetectionModel(spec)
        except ProblemError as error:
            errors = list(error.problems)
    warnings = ignored_key_problems(spec) + found.warnings + graph_warnings(spec, found, errors)
    return in_order(errors) + in_order(warnings if errors else explain_unused_rows(spec, warnings, cache))


def _merge_sizes(spec: ModelSpec, errors: list[Problem]) -> list[Problem]:
    """The errors; where several rows are too large for one cause, the width multiple, the first of them for all."""
    large = [error for error in errors if error.rule == "model-size"]
    if len(large) < 3 or spec.width_multiple <= 2:
        return errors
    hint = f"width_multiple is {spec.width_multiple:g}, with which {len(large) - 1} more rows are too large"
    return [replace(large[0], hint=hint), *(error for error in errors if error not in large)]


def _check_keys(spec: ModelSpec, nc: int | None) -> tuple[ModelSpec, list[Problem]]:
    """Problems of the keys that the parser does not find, and the spec without them."""
    errors = []
    activation = activation_problem(spec)
    if activation:
        errors.append(activation)
        spec = replace(spec, activation=None)
    given = any(spec.values.get(key) is not None for key in ("nc", "names"))
    misspelled = any(key not in KEYS and isinstance(value, int) for key, value in spec.values.items())
    if spec.nc is None and nc is None and not given and not misspelled:
        errors.append(spec.problem("missing-classes", "'nc', the number of classes, is missing"))
    return spec.with_classes(nc or spec.nc or _DEFAULT_NC), errors


def _without_consequences(parsed: list[Problem]) -> list[Problem]:
    """The problems of the parser, without those of rows whose text was repaired provisionally."""
    repaired = {problem.row for problem in parsed if problem.rule == "yaml-syntax" and problem.row is not None}
    return [problem for problem in parsed if problem.rule == "yaml-syntax" or problem.row not in repaired]


def _scopes(spec: ModelSpec, errors: list[Problem]) -> dict[int, str]:
    """Rows with a problem already, as `Propagation` takes them; a wrong number or name does not hide others, but rows
    that read a name which two rows have may mean either.
    """
    scopes = {}
    for problem in errors:
        if problem.row is None:
            continue
        unreadable = spec.rows[problem.row].module == UNREADABLE
        scope = "all" if unreadable else _SCOPE.get(problem.rule, "own")
        if scope:
            scopes[problem.row] = scope
        if problem.rule == "row-name":
            name = spec.rows[problem.row].written[-1]
            for row in spec.rows:
                if name in row.written_sources:
                    scopes.setdefault(row.index, "inputs")
    return scopes
