"""Ranges of hyperparameters, read from YAML: between which values, or among which, a search may choose."""

from dataclasses import dataclass
from pathlib import Path

from graftdet.utils.config import find_config, load_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.hyperparameters import check_value, current_keys, type_of

_BOUNDS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Range:
    """Either `choices`, or all numbers from `low` to `high`: whole ones where `kind` is int, only each `step`-th, or
    (`log`) as many between 0.001 and 0.01 as between 0.01 and 0.1."""

    key: str
    kind: type
    choices: tuple = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None

    def __str__(self):
        if self.choices:
            return f"[{', '.join(map(str, self.choices))}]"
        return f"{self.low:g} to {self.high:g}" + ", log" * self.log + (f", step {self.step:g}" if self.step else "")

    def suggest(self, trial):
        """A value for an Optuna trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.kind is int:
            return trial.suggest_int(self.key, self.low, self.high, log=self.log, step=self.step or 1)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=self.step)


def load_ranges(name_or_path: str | Path) -> dict[str, Range]:
    """Read ranges by hyperparameter: `{low: 1e-4, high: 1e-2, log: true}`, `{low: 1, high: 9, step: 2}` or `[0, 0.5, 1]`.

    Raises `UserError` naming the file and the key: unknown ones, values that the hyperparameter does not take, bounds
    that leave nothing to choose.
    """
    path = find_config(name_or_path, "hyp")
    ranges = {key: _read(path, key, value) for key, value in current_keys(load_yaml(path), f"{path}: ").items()}
    if not ranges:
        raise UserError(f"{path}: names no hyperparameter to search for")
    return ranges


def _read(path: Path, key: str, value) -> Range:
    at = f"{path}: {key}"
    kind = type_of(f"{path}: ", key)
    if isinstance(value, list):
        choices = tuple(dict.fromkeys(check_value(f"{path}: ", key, choice) for choice in value))
        if len(choices) < 2:
            raise UserError(f"{at}: expected several values to choose from, got {value}")
        return Range(key, kind, choices)
    if kind is str or not isinstance(value, dict):
        what = "a list of words" if kind is str else "a list of values or {low: , high: }"
        raise UserError(f"{at}: expected {what}, got {value!r}")
    unknown = [word for word in value if word not in _BOUNDS]
    if unknown:
        raise UserError(
            f"{at}: unknown word '{unknown[0]}'{did_you_mean(str(unknown[0]), _BOUNDS)}; expected {', '.join(_BOUNDS)}"
        )
    if missing := [word for word in ("low", "high") if word not in value]:
        raise UserError(f"{at}: '{missing[0]}' is missing")
    low, high = (check_value(f"{path}: ", key, value[word]) for word in ("low", "high"))
    log = to_number(value.get("log", False), bool, f"{at}, log")
    step = to_number(value["step"], kind, f"{at}, step") if "step" in value else None
    if not low < high:
        raise UserError(f"{at}: 'low' {low:g} must be less than 'high' {high:g}")
    if log and (low <= 0 or step is not None):
        raise UserError(
            f"{at}: a logarithmic range has no step"
            if step is not None
            else f"{at}: a logarithmic range begins above 0, not at {low:g}"
        )
    if step is not None and not 0 < step <= high - low:
        raise UserError(f"{at}: 'step' must be above 0 and at most {high - low:g}, got {step:g}")
    return Range(key, kind, low=low, high=high, log=log, step=step)
