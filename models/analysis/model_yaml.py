"""The model YAML in a weights file, as text."""

import re

import yaml

from graftdet.models.spec.keys import SECTIONS
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError

_NUM_CLASSES = re.compile(r"^nc\s*:\s*\d+", re.MULTILINE)


def yaml_of_weights(weights: WeightsFile) -> str:
    """The model YAML of a weights file as text, one line per row, with the number of classes of its weights.

    Raises:
        UserError: the file holds weights without a YAML.
    """
    if weights.yaml is None:
        raise UserError(f"{weights.path}: holds weights without their YAML")
    text = weights.yaml if isinstance(weights.yaml, str) else _dump(weights.yaml)
    return text if weights.nc is None else _NUM_CLASSES.sub(f"nc: {weights.nc}", text, count=1)


def _dump(values: dict) -> str:
    """A mapping as YAML: scalars, then tables and rows with one line per entry."""
    lines = []
    for key in sorted(values, key=lambda key: key in SECTIONS):
        value = values[key]
        if isinstance(value, (dict, list)) and value and key != "names":
            entries = value.items() if isinstance(value, dict) else value
            dumped = (_line(dict([entry]) if isinstance(value, dict) else [entry]) for entry in entries)
            lines += ["", f"{key}:"] if key in SECTIONS else [f"{key}:"]
            lines += [f"  {line}" for line in dumped]
        else:
            lines.append(f"{key}: {_line(value)}")
    return "\n".join(lines) + "\n"


def _line(value) -> str:
    """A value in flow style on one line; of a list or mapping of one entry the line of block style."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1_000_000, allow_unicode=True)
    text = text.strip().removesuffix("\n...").strip()
    if isinstance(value, dict) and len(value) == 1:
        return text[1:-1]
    return f"- {text[1:-1]}" if isinstance(value, list) and len(value) == 1 else text
