"""Indices that were not renumbered: a row was put in or taken out by hand, and those behind it still count the old way."""

import copy

import yaml

from utils.config import parse_yaml
from utils.errors import UserError

from .spec import ModelSpec
from .walk import find_likeliest_walk

_SIGNS = (": 'from' is ", "inputs differ in", "anchors for")


def explain_shift(spec: ModelSpec, problems: list[str]) -> list[str]:
    """Where moving all indices from some row on by one would heal a file, tell so in the first of the `problems` that
    come from it, in place of them all."""
    signs = [line for line in problems if any(sign in line for sign in _SIGNS)]
    if len(signs) < 2 or len(signs) < len(problems):
        return problems
    try:
        values = parse_yaml(spec.text, spec.where)
    except (UserError, yaml.YAMLError):
        return problems
    used = sorted({s for row in _rows(values) for s in _indices(row)})
    for least in reversed(used):  # the fewest that heal it
        for step in (-1, 1):
            if _is_healthy(_moved(values, least, step), spec):
                what = "taken out" if step < 0 else "put in"
                hint = f"the indices from {least} on are one too {'large' if step < 0 else 'small'}, as if a row was {what} before it"
                return [f"{signs[0]}; {hint} by hand; python -m models insert renumbers them"]
    return problems


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


def _is_healthy(values, spec: ModelSpec) -> bool:
    found: list[str] = []
    moved = ModelSpec.from_dict(values, spec.where, spec.text, found.append).with_classes(spec.nc)
    return not found and not find_likeliest_walk(moved).problems
