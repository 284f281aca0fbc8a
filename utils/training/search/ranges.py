"""Ranges of hyperparameters for a search, read from YAML."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftdet.utils.config import find_config, load_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.hyperparameter_names import current_keys
from graftdet.utils.hyperparameters import check_hyperparameter, type_of

_BOUNDS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Range:
    """The values to search for one hyperparameter.

    Attributes:
        key: The hyperparameter.
        kind: Its type: int, float or str.
        choices: The values; empty for a range of numbers.
        low, high: Bounds of a range of numbers, both included.
        log: Sample uniformly on a logarithmic scale.
        step: Distance between values; None: any number (any whole number for int).
    """

    key: str
    kind: type
    choices: tuple = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None

    def __str__(self) -> str:
        if self.choices:
            return f"[{', '.join(map(str, self.choices))}]"
        return f"{self.low:g} to {self.high:g}" + ", log" * self.log + (f", step {self.step:g}" if self.step else "")

    def suggest(self, trial: Any) -> float | int | str:
        """Return a value for an Optuna trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.kind is int:
            return trial.suggest_int(self.key, self.low, self.high, log=self.log, step=self.step or 1)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log, step=self.step)


def load_ranges(name_or_path: str | Path) -> dict[str, Range]:
    """Read ranges by hyperparameter: `{low: 1e-4, high: 1e-2, log: true}`, `{low: 1, high: 9, step: 2}`, `[0, 0.5]`.

    Args:
        name_or_path: A YAML file, or the name of one in `configs/hyp`.

    Raises:
        UserError: For unknown keys, values outside the range of a hyperparameter and empty ranges; names file and key.
    """
    path = find_config(name_or_path, "hyp")
    ranges = {key: _read_range(path, key, value) for key, value in current_keys(load_yaml(path), f"{path}: ").items()}
    if not ranges:
        raise UserError(f"{path}: contains no hyperparameter")
    return ranges


def _read_range(path: Path, key: str, value) -> Range:
    location = f"{path}: {key}"
    kind = type_of(f"{path}: ", key)
    if isinstance(value, list):
        choices = tuple(dict.fromkeys(check_hyperparameter(f"{path}: ", key, choice) for choice in value))
        if len(choices) < 2:
            raise UserError(f"{location}: expected several values to choose from, got {value}")
        return Range(key, kind, choices)
    if kind is str or not isinstance(value, dict):
        expected = "a list of names" if kind is str else "a list of values or {low: , high: }"
        raise UserError(f"{location}: expected {expected}, got {value!r}")
    unknown = [entry for entry in value if entry not in _BOUNDS]
    if unknown:
        raise UserError(
            f"{location}: unknown key '{unknown[0]}'{did_you_mean(str(unknown[0]), _BOUNDS)}; "
            f"expected {', '.join(_BOUNDS)}"
        )
    if missing := [entry for entry in ("low", "high") if entry not in value]:
        raise UserError(f"{location}: '{missing[0]}' is missing")
    low, high = (check_hyperparameter(f"{path}: ", key, value[entry]) for entry in ("low", "high"))
    log = to_number(value.get("log", False), bool, f"{location}, log")
    step = to_number(value["step"], kind, f"{location}, step") if "step" in value else None
    if not low < high:
        raise UserError(f"{location}: 'low' {low:g} must be less than 'high' {high:g}")
    if log and (low <= 0 or step is not None):
        reason = "cannot have a step" if step is not None else f"must start above 0, not at {low:g}"
        raise UserError(f"{location}: a logarithmic range {reason}")
    if step is not None and not 0 < step <= high - low:
        raise UserError(f"{location}: 'step' must be above 0 and at most {high - low:g}, got {step:g}")
    return Range(key, kind, low=low, high=high, log=log, step=step)
