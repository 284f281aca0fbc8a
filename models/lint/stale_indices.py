"""Indices that were not renumbered: a row was put in or taken out by hand, and those behind it still count the old way."""

import copy

import yaml
from graftdet.models.lint.graph_warnings import levels_differ
from graftdet.models.lint.propagation import find_likeliest_walk
from graftdet.models.spec.model_spec import ModelSpec, unused_rows
from graftdet.models.spec.row import show_row
from graftdet.utils.config import parse_yaml
from graftdet.utils.errors import UserError

_SIGNS = (": 'from' is ", "inputs differ in", "anchors for", " does not fit row ")


def explain_shift(spec: ModelSpec, problems: list[str]) -> list[str]:
    """Where moving all indices from some row on by one or two would heal a file, or a row that changes the size is left
    out, tell so in the first of the `problems` that come from it, in place of them all."""
    signs = [line for line in problems if any(sign in line for sign in _SIGNS)]
    if not signs or len(signs) < len(problems) or len(signs) + len(unused_rows(spec)) < 2:
        return problems
    hint = find_shift(spec) or _find_gap(spec)
    return [f"{signs[0].split('; row ')[0]}; {hint}"] if hint else problems


def explain_unused(spec: ModelSpec, warnings: list[str]) -> list[str]:
    """The same for warnings, of rows that nothing reads: all that come from it are one line."""
    hint = find_shift(spec, at_least=2)
    if hint is None or " from 0 " in hint:
        return warnings
    first = next(line for line in warnings if "is read by no row" in line)
    return [f"{first.rstrip('?')}; or {hint.replace(' are ', ' may be ', 1)}"]


def find_shift(spec: ModelSpec, at_least: int = 1) -> str | None:
    """What to do to the indices of a file so that all fits, `at_least` so many of them moved; None where nothing helps."""
    values, cache = _values(spec), {}
    used = sorted({s for row in _rows(values) for s in _indices(row)}) if values else []
    for step in (-1, 1, -2, 2):
        movable = used[: len(used) + 1 - at_least]
        # behind a row taken out, the fewest that heal it; behind one put in, all that can count the old way
        for least in reversed(movable) if step < 0 else movable:
            if _is_healthy(_moved(values, least, step), spec, cache):
                count = "a row was" if abs(step) == 1 else "two rows were"
                what = f"{'one' if abs(step) == 1 else 'two'} too {'large' if step < 0 else 'small'}"
                made = "taken out" if step < 0 else "put in"
                next_time = "" if step < 0 else "; python -m models insert would have renumbered them"
                return f"the indices from {least} on are {what}, as if {count} {made} before it by hand{next_time}"
    return None


def _find_gap(spec: ModelSpec) -> str | None:
    """Where the indices would fit if a row that changes the size stood before some row."""
    values, cache = _values(spec), {}
    if not values:
        return None
    places = [("backbone", i) for i in range(len(values["backbone"]))] + [
        ("head", i) for i in range(len(values["head"]))
    ]
    for row, what in _RESIZING:
        fitting = []
        for index, (section, place) in enumerate(places):
            filled = {**values, section: [*values[section][:place], row, *values[section][place:]]}
            if _is_healthy(filled, spec, cache):
                fitting.append(index)
        if fitting:
            where = f"row {fitting[0]}" if len(fitting) == 1 else f"one of the rows {fitting[0]} to {fitting[-1]}"
            return f"as if {what} was taken out before {where} by hand, such as {show_row(row)}"
    return None


_RESIZING = (
    ([-1, 1, "nn.Upsample", [None, 2, "nearest"]], "a row that doubles the size"),
    ([-1, 1, "nn.MaxPool2d", [2, 2]], "a row that halves the size"),
)


def _values(spec: ModelSpec) -> dict | None:
    try:
        values = parse_yaml(spec.text, spec.where)
    except (UserError, yaml.YAMLError):
        return None
    whole = all(isinstance(values.get(section), list) for section in ("backbone", "head"))
    return values if whole else None


def _rows(values):
    return [row for section in ("backbone", "head") for row in values[section] if isinstance(row, list) and row]


def _indices(row) -> list[int]:
    source = row[0] if isinstance(row[0], list) else [row[0]]
    return [s for s in source if isinstance(s, int) and not isinstance(s, bool) and s >= 0]


def _moved(values, least: int, step: int) -> dict:
    values = copy.deepcopy(values)
    for row in _rows(values):
        source = row[0] if isinstance(row[0], list) else [row[0]]
        source = [s + step if type(s) is int and s >= least else s for s in source]
        row[0] = source if isinstance(row[0], list) else source[0]
    return values


def _is_healthy(values, spec: ModelSpec, cache) -> bool:
    found: list[str] = []
    moved = ModelSpec.from_dict(values, spec.where, spec.text, found.append).with_classes(spec.nc)
    if found or unused_rows(moved):
        return False
    walk = find_likeliest_walk(moved, cache, limit=0)
    return not walk.problems and levels_differ(walk)
