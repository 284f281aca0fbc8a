"""YAML text -> ModelSpec: rows, names, sources. Nothing is evaluated and torch is not needed."""

import math
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import yaml
from graftdet.models.spec.row import Row
from graftdet.models.spec.row_parser import parse_rows
from graftdet.models.spec.scales import find_sized, scale_width, settle_size, with_size
from graftdet.models.spec.yaml_syntax import Report, parse_model_yaml, raise_problem
from graftdet.utils.config import check_class_names, read_text, to_number
from graftdet.utils.errors import UserError, did_you_mean

KEYS = (
    "nc", "names", "ch", "depth_multiple", "width_multiple", "scales", "scale", "anchors", "activation", "backbone", "head", "inplace",
)  # fmt: skip
# `inplace`, a switch of published files for memory, changes no result and is read over.
CONSTANTS = {"None": None, "True": True, "False": False}
MEANT = {
    "neck": "head", "classes": "nc", "numclasses": "nc", "nclasses": "nc", "depth": "depth_multiple", "gd": "depth_multiple",
    "width": "width_multiple", "gw": "width_multiple", "act": "activation", "channels": "ch", "inchannels": "ch",
}  # fmt: skip


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
    max_channels: float = math.inf  # of a row's output width, before the multiple
    size: str | None = None  # of the table `scales`, where there is one

    @classmethod
    def read(cls, cfg, report: Report = raise_problem) -> "ModelSpec":
        """Read `cfg`: a path, a bare name below configs/models, a dict, or a ModelSpec (returned as it is).

        Everything that is wrong in the file itself is told to `report` with file and row; by default that raises
        `UserError`. Where `report` returns, the nearest sensible value takes the place of the wrong one.
        """
        if isinstance(cfg, ModelSpec):
            return cfg
        if isinstance(cfg, dict):
            cfg = _as_plain(cfg)
            return cls.from_dict(cfg, "model", yaml.safe_dump(cfg, sort_keys=False), report)
        path, where, size = find_sized(cfg)
        return cls.from_text(read_text(path), where, report, size)

    @classmethod
    def from_text(cls, text: str, where: str, report: Report = raise_problem, size: str | None = None) -> "ModelSpec":
        """Parse YAML text; `where` names it in errors, `size` chooses from its `scales`."""
        return cls.from_dict(parse_model_yaml(text, where, report), where, text, report, size)

    @classmethod
    def from_dict(
        cls, values: dict, where: str, text: str, report: Report = raise_problem, size: str | None = None
    ) -> "ModelSpec":
        """Check a loaded mapping and resolve its rows."""
        values, sections = _settle_keys(values, where, report)
        values, size, where = settle_size(values, where, report, size)

        def number(key, kind, default, least):
            value = values.get(key)
            try:
                value = default if value is None else to_number(value, kind, f"{where}, {key}")
                if value is not None and not least <= value <= 1e6:
                    raise UserError(f"{where}, {key}: expected {least:g} to 1e6, got {value:g}")
            except UserError as error:
                report(str(error))
                value = default
            return value

        nc = number("nc", int, None, 1)
        names = _class_names(values.get("names"), where, report)
        if names and nc is not None and len(names) != nc:
            report(f"{where}: nc is {nc}, but names has {len(names)}; expected a name a class")
            names = None
        activation = values.get("activation")
        if activation is not None and not isinstance(activation, str):
            report(f"{where}, activation: expected a name such as nn.ReLU(), got {activation!r}")
            activation = None
        return cls(
            where=where,
            text=text if size is None else with_size(text, size),
            rows=parse_rows(sections, where, report),
            nc=len(names) if names and nc is None else nc,
            names=names,
            channels=number("ch", int, 3, 1),
            depth_multiple=number("depth_multiple", float, 1.0, 1e-6),
            width_multiple=number("width_multiple", float, 1.0, 1e-6),
            anchors=_check_anchors(values.get("anchors"), where, report),
            activation=activation,
            max_channels=values.get("max_channels", math.inf),
            size=size,
        )

    def scale_width(self, width: int) -> int:
        """What an output width as written becomes."""
        return scale_width(width, self.width_multiple, self.max_channels)

    @property
    def row_names(self) -> dict[str, int]:
        """The index of each row that has a name."""
        return {row.name: row.index for row in self.rows if row.name}

    def with_classes(self, nc: int | None) -> "ModelSpec":
        """The same model for `nc` classes (None: as written)."""
        return self if nc in (None, self.nc) else replace(self, nc=nc, names=None)

    def with_anchors(self, count: int) -> "ModelSpec":
        """The same model with `count` anchors a level, their sizes to be found from the data. Raises `UserError` where no row
        takes them."""
        if not any("anchors" in (*row.args, *row.kwargs.values()) for row in self.rows):
            raise UserError(f"{self.where}: anchors: {count} is set, but no row has the word anchors in its args")
        values = {**parse_model_yaml(self.text, self.where), "anchors": count}
        return ModelSpec.from_dict(values, self.where, yaml.safe_dump(values, sort_keys=False, default_flow_style=None))

    def resolve(self, value):
        """Replace the words nc, anchors, None, True and False in args, in lists too; other strings stay strings."""
        if isinstance(value, (list, tuple)):
            return [self.resolve(item) for item in value]
        return getattr(self, value) if value in ("nc", "anchors") else resolve_constants(value)


def resolve_constants(value):
    """Replace the words None, True and False, in lists and mappings too."""
    if isinstance(value, dict):
        return {key: resolve_constants(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve_constants(item) for item in value]
    return CONSTANTS.get(value, value) if isinstance(value, str) else value


def _as_plain(value):
    """A mapping from Python code as YAML would hold it: tuples and arrays as lists, NumPy's numbers as plain ones."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {key: _as_plain(item) for key, item in value.items()}
    return [_as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _class_names(names, where, report):
    if names is None:
        return None
    where = f"{where}, names"
    try:
        if isinstance(names, dict):
            numbered = {to_number(key, int, f"{where}, key"): name for key, name in names.items()}
            if sorted(numbered) != list(range(len(names))):
                raise UserError(
                    f"{where}: expected the numbers 0 to {len(names) - 1}, got {', '.join(map(str, names)):.80}"
                )
            names = [numbered[number] for number in range(len(names))]
        if not isinstance(names, list):
            raise UserError(f"{where}: expected a list of class names, got {names!r}")
        return tuple(check_class_names(names, where))
    except UserError as error:
        return report(str(error))


def _settle_keys(values: dict, where, report) -> tuple[dict, dict[str, list]]:
    """The values under the keys that are meant, and the rows of each section; no section where one of them cannot be
    read, as indices would mean other rows then."""
    settled, whole = {key: value for key, value in values.items() if key in KEYS}, True
    for key, value in values.items():
        if key in KEYS:
            continue
        if (
            values.get("scales", "") is None
            and isinstance(value, list)
            and all(isinstance(v, (int, float)) for v in value)
        ):
            report(f"{where}: unknown key '{key}'; is it a size? Indent it below scales")
            continue
        rows = isinstance(value, list) and any(
            isinstance(row, list) and len(row) > 2 and _has_word(row) for row in value
        )
        meant = _meant_key(str(key), rows, [k for k in KEYS if values.get(k) is None and "scale" not in k])
        hint = did_you_mean(key, KEYS) or f"; known keys: {', '.join(KEYS)}"
        if isinstance(value, dict):
            hint = did_you_mean(key, ["scales"]) or hint
        hint = "; rows belong under backbone or head" if rows else hint
        report(f"{where}: unknown key '{key}'" + (f"; did you mean '{meant}'?" if meant else hint))
        if meant:
            settled[meant] = value
        whole = whole and (meant is not None or not rows)
    for key in ("backbone", "head"):
        if not isinstance(settled.get(key), list):
            what = "is missing" if settled.get(key) is None else f"must be a list of rows, got {settled[key]!r}"
            report(f"{where}: '{key}' {what}; expected a list of rows [from, number, module, args]")
            whole = False
    if whole and not settled["backbone"] and not settled["head"]:
        report(f"{where}: the model has no rows; expected rows [from, number, module, args] in backbone and head")
    return settled, {key: settled[key] for key in ("backbone", "head")} if whole else {}


def _has_word(row: list) -> bool:
    return any(isinstance(part, str) for part in row)


def _meant_key(key: str, rows: bool, missing: list[str]) -> str | None:
    """The key that is `missing` and that an unknown one most likely stands for."""
    plain = key.lower().replace("_", "").replace("-", "").replace(" ", "")
    if rows:
        missing = [k for k in missing if k in ("backbone", "head")]
        if len(missing) == 1:
            return missing[0]
    alike = [k for k in missing if k.replace("_", "") == plain or MEANT.get(plain) == k]
    near = get_close_matches(key.lower(), missing, n=1, cutoff=0.6)
    return next(iter([*alike, *near]), None)


def _check_anchors(anchors, where, report):
    """Anchors are a number a level, or one list of widths and heights in pixels a level."""
    if anchors is None or (isinstance(anchors, int) and not isinstance(anchors, bool) and 1 <= anchors <= 100):
        return anchors
    expected = f"{where}, anchors: expected a number a level or a list of [w, h, w, h, ...] a level"
    if not isinstance(anchors, list) or not anchors:
        report(f"{expected}, got {anchors!r}")
        return 3
    found = []
    lengths = [len(level) for level in anchors if isinstance(level, list) and level and len(level) % 2 == 0]
    usual = max(lengths, key=lengths.count, default=6)
    for i, level in enumerate(anchors):
        numbers = level if isinstance(level, list) else []
        wrong = [v for v in numbers if isinstance(v, bool) or not isinstance(v, (int, float)) or not 0 < v < 1e6]
        if wrong:
            found.append(f"{expected}; level {i} holds {', '.join(map(repr, wrong[:3]))}")
        elif not numbers or len(level) % 2:
            found.append(f"{expected}; level {i} is {level!r}" + (f", {len(level)} numbers" if numbers else ""))
        elif len(level) != usual:
            found.append(
                f"{where}, anchors: level {i} has {len(level)} numbers, expected {usual} as the other levels have"
            )
    if not lengths and len(found) > 1:  # one mistake of the whole
        found = [f"{expected}, got {anchors!r}"]
    for problem in found:
        report(problem)
    return [[1.0] * usual] * len(anchors) if found and lengths else 3 if found else anchors


def unused_rows(spec: ModelSpec) -> list[Row]:
    """Rows but the last that no row reads."""
    read = {s for row in spec.rows for s in row.sources}
    return [row for row in spec.rows[:-1] if row.index not in read]
