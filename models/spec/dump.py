"""A model YAML from a mapping: rows and sizes on one line each, as in the files of this project."""

import yaml

from graftdet.models.spec.keys import SECTIONS


def dump_model(values: dict) -> str:
    """Write the mapping of a model YAML as text: numbers, then tables and rows with one line per entry."""
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
