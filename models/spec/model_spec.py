"""YAML text -> ModelSpec: rows, names, sources. Nothing is evaluated and torch is not needed."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from graftdet.models.spec.keys import read_activation, read_anchors, read_class_names, read_number, resolve_keys
from graftdet.models.spec.positions import Positions
from graftdet.models.spec.problems import Problem, ProblemError, Report, Reporter, raise_problem
from graftdet.models.spec.row import MAX_REPEATS, Row
from graftdet.models.spec.row_parser import parse_rows
from graftdet.models.spec.scales import find_sized, resolve_size, scale_width, text_of_size
from graftdet.models.spec.yaml_syntax import parse_document
from graftdet.utils.config import read_text
from graftdet.utils.untrusted.limits import MAX_BLOCKS, MAX_ROWS, MAX_TEXT, limit

LARGE = "--allow-large reads larger ones"
CONSTANTS = {"None": None, "True": True, "False": False}


@dataclass(frozen=True)
class ModelSpec:
    """A model YAML as data.

    Attributes:
        file: what it was read from, as the user named it; "model" where that was a mapping.
        text: the YAML text, which a checkpoint carries along; it names the size where the file has several.
        rows: all rows, those of the backbone first.
        nc: number of classes; None if the file does not give it.
        names: names of the classes.
        channels: channels of the image.
        depth_multiple, width_multiple: factors of the rows' numbers and output widths.
        anchors: a number per level, or one list of widths and heights in pixels per level.
        activation: the default activation of the model, as text.
        max_channels: limit of a row's output width, before the multiple.
        size: name of the size in the table `scales`; None where there is no table.
        size_chosen: whether the file or its name chose the size; otherwise it is the first of the table.
        values: the mapping that was read, under the keys that are meant.
        positions: line and column of keys and rows.
    """

    file: str
    text: str
    rows: tuple[Row, ...]
    nc: int | None
    names: tuple[str, ...] | None
    channels: int
    depth_multiple: float
    width_multiple: float
    anchors: Any
    activation: str | None
    max_channels: float = math.inf
    size: str | None = None
    size_chosen: bool = field(default=True, compare=False)
    values: dict = field(default_factory=dict, compare=False, repr=False)
    positions: Positions = field(default_factory=Positions, compare=False, repr=False)

    @classmethod
    def read(cls, cfg: "str | Path | dict | ModelSpec", report: Report = raise_problem) -> "ModelSpec":
        """Read a model YAML.

        Args:
            cfg: a path, a bare name below configs/models, a mapping, or a ModelSpec (returned as it is).
            report: takes each problem of the file. Where it returns, the nearest sensible value replaces the wrong one.

        Raises:
            UserError: there is no such file, or its text cannot be read at all.
            ProblemError: the file has a problem (with the default `report`).
        """
        if isinstance(cfg, ModelSpec):
            return cfg
        if isinstance(cfg, dict):
            return cls.from_dict(cfg, report=report)
        path, file, size = find_sized(cfg)
        return cls.from_text(read_text(path), file, report, size)

    @classmethod
    def from_text(cls, text: str, file: str, report: Report = raise_problem, size: str | None = None) -> "ModelSpec":
        """Parse YAML text; `file` names it in problems, `size` chooses from its `scales`. Otherwise as `read`."""
        if len(text) > limit(MAX_TEXT):
            message = f"has {len(text)} characters, expected at most {limit(MAX_TEXT)}"
            raise ProblemError(Problem("model-size", "error", None, None, None, message, LARGE, file))
        document = parse_document(text, file, report)
        spec = cls._from_values(document.values, text, Reporter(file, report, document.positions), size)
        return spec if spec.size is None else replace(spec, text=text_of_size(document, spec.size))

    @classmethod
    def from_dict(cls, values: dict, file: str = "model", report: Report = raise_problem) -> "ModelSpec":
        """Read a mapping, which may hold tuples and arrays; `file` names it in problems. Otherwise as `read`."""
        values = _as_plain(values)
        spec = cls._from_values(values, _dump(values), Reporter(file, report))
        return spec if spec.size is None else replace(spec, text=_dump({**values, "scale": spec.size}))

    @classmethod
    def _from_values(cls, values: dict, text: str, reporter: Reporter, size: str | None = None) -> "ModelSpec":
        values, sections, spelled = resolve_keys(values, reporter)
        sections = _limit_rows(sections, reporter)
        reporter.positions = positions = replace(reporter.positions, keys=spelled)
        sized = resolve_size(values, reporter, size)
        nc = read_number(values, "nc", int, 1, reporter)
        names = read_class_names(values, nc, reporter)
        depth, width = (read_number(values, f"{key}_multiple", float, 1e-6, reporter) for key in ("depth", "width"))
        widest = read_number(values, "max_channels", float, 1, reporter) or math.inf
        rows = parse_rows(sections, reporter)
        _check_blocks(rows, sized.depth_multiple or depth or 1.0, reporter)
        return cls(
            file=reporter.file,
            text=text,
            rows=rows,
            nc=len(names) if names and nc is None else nc,
            names=names,
            channels=read_number(values, "ch", int, 1, reporter) or 3,
            depth_multiple=sized.depth_multiple or depth or 1.0,
            width_multiple=sized.width_multiple or width or 1.0,
            anchors=read_anchors(values, reporter),
            activation=read_activation(values, reporter),
            max_channels=widest if sized.max_channels == math.inf else sized.max_channels,
            size=sized.name,
            size_chosen=sized.chosen,
            values=values,
            positions=positions,
        )

    @property
    def label(self) -> str:
        """The file and, where it has several, the size."""
        if self.size is None:
            return self.file
        return f"{self.file} (size {self.size}{'' if self.size_chosen else ', the first'})"

    @property
    def row_names(self) -> dict[str, int]:
        """The index of each row that has a name."""
        return {row.name: row.index for row in self.rows if row.name}

    def problem(
        self,
        rule: str,
        message: str,
        hint: str = "",
        row: Row | None = None,
        part: str | None = None,
        path: tuple[str | int, ...] = (),
        severity: str = "error",
        replacement: str | None = None,
    ) -> Problem:
        """A problem of this file: about element `part` ("from", "module", ...) of a row, or at `path` in the YAML."""
        if row is None:
            return Problem(
                rule,
                severity,
                None,
                *self.positions.find(path),
                message,
                hint,
                self.file,
                size=self.size,
                replacement=replacement,
            )
        position = self.positions.find(row.path_of(part))
        module = None if part == "module" else row.module
        known = replacement if row.in_order else None
        about: tuple[Any, ...] = (self.file, row.section, row.position, row.name, module, self.size, known)
        return Problem(rule, severity, row.index, *position, message, hint, *about)

    def scale_width(self, width: int) -> int:
        """The channels that an output width, as written, becomes."""
        return scale_width(width, self.width_multiple, self.max_channels)

    def with_classes(self, nc: int | None) -> "ModelSpec":
        """The same model for `nc` classes (None: as written)."""
        return self if nc in (None, self.nc) else replace(self, nc=nc, names=None)

    def with_anchors(self, count: int) -> "ModelSpec":
        """The same model with `count` anchors per level, whose sizes are found from the data.

        Raises:
            ProblemError: no row takes them.
        """
        if not any("anchors" in (*row.args, *row.kwargs.values()) for row in self.rows):
            message = f"anchors: {count} is set, but no row has 'anchors' in its args"
            raise ProblemError(self.problem("invalid-anchors", message, path=("anchors",)))
        values = {**self.values, "anchors": count, **({"scale": self.size} if self.size else {})}
        return replace(self, anchors=count, values=values, text=_dump(values))

    def resolve(self, value):
        """Replace the names nc, anchors, None, True and False in args, in lists too; other strings stay strings."""
        if isinstance(value, (list, tuple)):
            return [self.resolve(item) for item in value]
        return getattr(self, value) if value in ("nc", "anchors") else resolve_constants(value)


def _limit_rows(sections: dict[str, list], reporter: Reporter) -> dict[str, list]:
    """The rows of the sections, fewer where there are too many, which is reported."""
    number, largest = sum(map(len, sections.values())), limit(MAX_ROWS)
    if number > largest:
        reporter.error("model-size", f"the model has {number} rows, expected at most {largest}", LARGE)
        return {section: rows[: largest // 2] for section, rows in sections.items()}
    return sections


def _check_blocks(rows: tuple[Row, ...], depth_multiple: float, reporter: Reporter) -> None:
    """Report rows whose numbers add up to too many blocks."""
    numbers, largest = [max(1, round(row.number * depth_multiple)) for row in rows], limit(MAX_BLOCKS)
    too_long = max(numbers, default=0) > MAX_REPEATS  # a single row, which is reported itself
    if sum(numbers) > largest and not too_long:
        reporter.error("model-size", f"the rows build {sum(numbers)} blocks, expected at most {largest}", LARGE)


def resolve_constants(value):
    """Replace the names None, True and False, in lists and mappings too."""
    if isinstance(value, dict):
        return {key: resolve_constants(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve_constants(item) for item in value]
    return CONSTANTS.get(value, value) if isinstance(value, str) else value


def unused_rows(spec: ModelSpec) -> list[Row]:
    """Rows other than the last that no row reads."""
    read = {s for row in spec.rows for s in row.sources}
    return [row for row in spec.rows[:-1] if row.index not in read]


def _dump(values: dict) -> str:
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def _as_plain(value):
    """A mapping from Python code as YAML would hold it: tuples and arrays as lists, NumPy's numbers as plain ones."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {key: _as_plain(item) for key, item in value.items()}
    return [_as_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
