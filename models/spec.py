"""YAML text -> ModelSpec: rows, names, sources. Nothing is evaluated and torch is not needed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from utils.config import find_config, read_text, to_number
from utils.errors import UserError, did_you_mean

from .torn import Report, parse_model_yaml, raise_problem

KEYS = ("nc", "names", "ch", "depth_multiple", "width_multiple", "anchors", "activation", "backbone", "head", "inplace")
CONSTANTS = {"None": None, "True": True, "False": False}
IMAGE = -1  # the source of a row that reads the picture itself
UNREADABLE = "?"  # the word of a row that could not be read, where reading goes on


@dataclass(frozen=True)
class Row:
    """One row `[from, number, module, args, name]` of a model YAML, its sources resolved to row indices."""

    index: int
    section: str
    position: int  # within its section
    sources: tuple[int, ...]  # absolute indices, IMAGE for the picture
    joined: bool  # `from` was a list: the block receives a list of maps
    number: int
    word: str
    args: tuple
    kwargs: dict
    name: str | None
    written: list = field(compare=False)  # the row as the author wrote it

    def __str__(self):
        named = f" '{self.name}'" if self.name else ""
        return f"row {self.index} ({self.section} row {self.position}){named}"


@dataclass(frozen=True)
class ModelSpec:
    """A model YAML as data. `text` is what it was read from and what a checkpoint carries along."""

    where: str
    text: str
    rows: tuple[Row, ...]
    nc: int | None
    names: tuple[str, ...] | None
    channels: int
    depth_multiple: float
    width_multiple: float
    anchors: Any
    activation: str | None

    @classmethod
    def read(cls, cfg, report: Report = raise_problem) -> "ModelSpec":
        """Read `cfg`: a path, a bare name below configs/models, a dict, or a ModelSpec (returned as it is).

        Everything that is wrong in the file itself is told to `report` with file and row; by default that raises
        `UserError`. Where `report` returns, the nearest sensible value takes the place of the wrong one.
        """
        if isinstance(cfg, ModelSpec):
            return cfg
        if isinstance(cfg, dict):
            return cls.from_dict(cfg, "model", yaml.safe_dump(cfg, sort_keys=False), report)
        path = find_config(cfg, "models")
        return cls.from_text(read_text(path), str(cfg if Path(cfg).is_file() else path.name), report)

    @classmethod
    def from_text(cls, text: str, where: str, report: Report = raise_problem) -> "ModelSpec":
        """Parse YAML text; `where` names it in errors."""
        return cls.from_dict(parse_model_yaml(text, where, report), where, text, report)

    @classmethod
    def from_dict(cls, values: dict, where: str, text: str, report: Report = raise_problem) -> "ModelSpec":
        """Check a loaded mapping and resolve its rows."""
        for key in values:
            if key not in KEYS:
                report(f"{where}: unknown key '{key}'{did_you_mean(key, KEYS)}")
        for key in ("backbone", "head"):
            if not isinstance(values.get(key), list):
                report(f"{where}: '{key}' must be a list of rows [from, number, module, args]")
                values = {**values, key: []}

        def number(key, kind, default, least):
            value = values.get(key)
            try:
                value = default if value is None else to_number(value, kind, f"{where}, {key}")
                if value is not None and not least <= value <= 1e6:
                    raise UserError(f"{where}, {key}: expected at least {least}, got {value}")
            except UserError as error:
                report(str(error))
                value = default
            return value

        nc = number("nc", int, None, 1)
        names = _class_names(values.get("names"), where, report)
        if names and nc is not None and len(names) != nc:
            report(f"{where}: nc is {nc}, but names has {len(names)}")
            names = None
        activation = values.get("activation")
        if activation is not None and not isinstance(activation, str):
            report(f"{where}, activation: expected a name such as nn.ReLU(), got {activation!r}")
            activation = None
        return cls(
            where=where,
            text=text,
            rows=_parse_rows(values, where, report),
            nc=len(names) if names and nc is None else nc,
            names=names,
            channels=number("ch", int, 3, 1),
            depth_multiple=number("depth_multiple", float, 1.0, 1e-6),
            width_multiple=number("width_multiple", float, 1.0, 1e-6),
            anchors=_check_anchors(values.get("anchors"), where, report),
            activation=activation,
        )

    def with_classes(self, nc: int | None) -> "ModelSpec":
        """The same model for `nc` classes (None: as written)."""
        return self if nc in (None, self.nc) else replace(self, nc=nc, names=None)

    def with_anchors(self, count: int) -> "ModelSpec":
        """The same model with `count` anchors a level, their sizes to be found from the data."""
        values = {**parse_model_yaml(self.text, self.where), "anchors": count}
        return ModelSpec.from_dict(values, self.where, yaml.safe_dump(values, sort_keys=False, default_flow_style=None))

    def resolve(self, value):
        """Replace the words nc, anchors, None, True and False in args, in lists too; other strings stay strings."""
        if isinstance(value, (list, tuple)):
            return [self.resolve(item) for item in value]
        if value == "nc" or value == "anchors":
            return getattr(self, value)
        return CONSTANTS.get(value, value) if isinstance(value, str) else value


def _class_names(names, where, report):
    if names is None:
        return None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=str if len({type(k) for k in names}) > 1 else None)]
    if not isinstance(names, list) or not names:
        return report(f"{where}, names: expected a list of class names, got {names!r}")
    return tuple(str(name) for name in names)


def _check_anchors(anchors, where, report):
    """Anchors are a number a level, or one list of widths and heights in pixels a level."""
    if anchors is None or (isinstance(anchors, int) and not isinstance(anchors, bool) and 1 <= anchors <= 100):
        return anchors
    expected = f"{where}, anchors: expected a number a level or a list of [w, h, w, h, ...] a level"
    found = []
    if not isinstance(anchors, list) or not anchors:
        found.append(f"{expected}, got {anchors!r}")
        anchors = []
    for i, level in enumerate(anchors):
        numbers = level if isinstance(level, list) else []
        wrong = [v for v in numbers if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < 1e6]
        if not numbers or len(level) % 2:
            found.append(f"{expected}; level {i} is {level!r}")
        elif isinstance(anchors[0], list) and len(level) != len(anchors[0]):
            found.append(f"{where}, anchors: level {i} has {len(level)} numbers, level 0 has {len(anchors[0])}")
        found += [f"{expected}; level {i} holds {value!r}" for value in wrong]
    for problem in found:
        report(problem)
    return 3 if found else anchors


def _parse_rows(values: dict, where: str, report) -> tuple[Row, ...]:
    rows, indices = [], {}
    for section in ("backbone", "head"):
        for position, written in enumerate(values[section]):
            at = f"{where}, row {len(rows)} ({section} row {position})"
            row = _parse_row(written, len(rows), section, position, indices, at, report)
            rows.append(row)
            if row.name:
                indices[row.name] = row.index
    if not rows:
        report(f"{where}: the model has no rows")
    return tuple(rows)


def _parse_row(written, index, section, position, indices, at, report) -> Row:
    if not isinstance(written, list) or len(written) not in (4, 5):
        short = isinstance(written, list) and len(written) == 3 and isinstance(written[2], str)
        hint = "; args are missing, write [] where there are none" if short else ""
        if not short and isinstance(written, (list, str)) and any(isinstance(part, str) and " " in part for part in written):
            hint = "; is a comma missing?"
        report(f"{at}: expected [from, number, module, args] or with a name as fifth, got {written!r}{hint}")
        written = [*written, []] if short else [-1, 1, UNREADABLE, []]
    source, number, word, args, *name = written
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1000:
        report(f"{at}: number must be a whole number of at least 1, got {number!r}")
        number = 1
    if not isinstance(word, str) or not word:
        report(f"{at}: module must be a word such as Conv, got {word!r}")
        word = UNREADABLE
    at = f"{at} {word}"
    args, kwargs = _parse_args(args, at, report)
    name = name[0] if name else None
    if name is not None and (not isinstance(name, str) or not name or name.lstrip("-").isdigit()):
        name = report(f"{at}: a row's name must be a word, got {name!r}")
    if name in indices:
        name = report(f"{at}: the name '{name}' is row {indices[name]}'s already; expected a name of its own")
    joined = isinstance(source, list)
    if joined and not source:
        report(f"{at}: 'from' is empty; expected -1, a row's index or a list of them")
        source, joined = -1, False
    sources = source if joined else [source]
    sources = tuple(_resolve_source(s, index, indices, at, report) for s in sources)
    return Row(index, section, position, sources, joined, number, word, args, kwargs, name, written)


def _parse_args(args, at, report) -> tuple[tuple, dict]:
    args = [] if args is None else args
    if isinstance(args, dict):
        args, kwargs = [], args
    elif isinstance(args, list):
        kwargs = args[-1] if args and isinstance(args[-1], dict) else {}
        args = args[:-1] if kwargs else args
    else:
        report(f"{at}: args must be a list or a mapping of names, got {args!r}; write [{args}]")
        args, kwargs = [args], {}
    if any(not isinstance(key, str) for key in kwargs):
        report(f"{at}: argument names must be words, got {sorted(map(str, kwargs))}")
        kwargs = {key: value for key, value in kwargs.items() if isinstance(key, str)}
    return tuple(args), kwargs


def _resolve_source(source, index, indices, at, report) -> int:
    """Return the absolute index that `source` (an index, a negative offset or a row's name) means in row `index`."""
    if isinstance(source, str):
        if source in indices:
            return indices[source]
        named = f"; names before it: {', '.join(indices)}" if indices else "; no row before it has a name"
        report(f"{at}: 'from' names '{source}', which is no row before this one{did_you_mean(source, indices) or named}")
    elif isinstance(source, bool) or not isinstance(source, int):
        report(f"{at}: 'from' must be a row's index, a negative offset or a row's name, got {source!r}")
    else:
        absolute = source if source >= 0 else index + source
        if IMAGE <= absolute < index:
            return absolute
        valid = f"0 to {index - 1} or -1 to -{index}" if index else "-1 (the picture)"
        report(f"{at}: 'from' is {source}, but only rows before it can be read: {valid}")
    return index - 1
