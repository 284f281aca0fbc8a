"""`--data` YAMLs: read as data, checked, and opened as splits."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from graftdet.data.formats.base import Problems, Split
from graftdet.data.formats.validation import settle_all
from graftdet.data.paths import find_below
from graftdet.utils.config import check_class_names, find_config, load_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean

SPLITS = ("train", "val", "test")
_KEYS = (*SPLITS, "path", "format", "names", "nc", "download", "source")
_IGNORED = ("roboflow",)  # what exporters add and nobody needs
_SPLIT_KEYS = ("images", "annotations")


@dataclass
class DataConfig:
    """A data YAML that was read and whose data set is there."""

    path: Path  # of the YAML
    format: str  # a word of `FORMATS`
    root: Path  # folder of the data set
    splits: dict  # train, val, test -> what the YAML says of it: text, list of text, or {images, annotations}
    names: list[str] | None = None  # classes wanted, in order; None until they were read from the source
    name_ids: list[int] | None = None  # the numbers that the YAML gives them (YOLO's class numbers)
    nc: int | None = None  # what the YAML says, for sources whose classes have no names
    names_given: bool = False  # by the YAML; False: read from the source
    missing_hint: str = field(default="", repr=False)  # where to get the data set

    def has(self, split: str) -> bool:
        """Whether the YAML names this split."""
        return split in self.splits


def load_data_config(name_or_path: str | Path) -> DataConfig:
    """Read a data YAML given by path or by bare name (`configs/data/`).

    Keys: `format` (coco, yolo, voc, shapes; guessed when absent), `path` (absolute, else below `$DATASETS_DIR`,
    default `datasets`, else relative to the YAML), `train`, `val`, `test`, `names` (list, or dict number: name),
    `nc` (checked against names), `source` (where to get the data set), `download` (never executed).
    Raises `UserError` naming the file and the key, or the places where the data set was looked for.
    """
    path = find_config(name_or_path, "data")
    raw = load_yaml(path)
    for key in raw:
        if key not in _KEYS + _IGNORED:
            raise UserError(f"{path}: unknown key '{key}'{did_you_mean(key, _KEYS)} (known: {', '.join(_KEYS)})")
    names, name_ids, nc = _names(raw, path)
    splits = {split: _split_value(raw[split], path, split) for split in SPLITS if raw.get(split) not in (None, "", [])}
    from graftdet.data.formats import FORMATS

    word = raw.get("format")
    if word is not None and word not in FORMATS:
        raise UserError(f"{path}: unknown format '{word}'{did_you_mean(word, FORMATS)} (known: {', '.join(FORMATS)})")
    hint = _missing_hint(raw)
    root = FORMATS[word or "coco"].find_root(_text(raw, "path", path), path, hint)
    if not splits and word:
        splits = dict(FORMATS[word].SPLITS)
    if not splits:
        raise UserError(f"{path}: no split, expected one of train, val, test")
    word = word or _guess_format(path, root, splits, hint)
    return DataConfig(path, word, root, splits, names, name_ids, nc, names is not None, hint)


def open_split(config: DataConfig, split: str, names: list[str] | None = None, single_class: bool = False) -> Split:
    """Open a split: bad boxes and pictures are dropped, counted in `.problems` and told on standard error.

    `names` selects classes by name and orders them (default: the YAML's, else all that the source has, the same for
    every split); `single_class` makes one class 'object' of them all. Raises `UserError` when the split is not there,
    a name is unknown, more than half of the pictures cannot be read, or the training split has no boxes but crowds; of
    another split without any that is told.
    """
    source = open_source(config, split, names)
    where = f"{config.path}: {split}"
    samples = settle_all(source, source.problems, where)
    _tell(source.problems, config, split)
    opened = Split(split, samples, source.names, source.category_ids, source.problems)
    if samples.crowd.all():
        seen = "; ".join(source.problems.lines()) or ("all are crowds" if len(samples.boxes) else "none are there")
        if split == "train":
            raise UserError(f"{where}: no boxes to learn from ({seen})")
        print(f"{where}: no boxes to measure with ({seen}); scores will say nothing", file=sys.stderr)
    return _one_class(opened) if single_class else opened


def open_source(config: DataConfig, split: str, names: list[str] | None = None):
    """Return the `Format` of a split: an iterable of samples as the source states them, nothing checked yet."""
    from graftdet.data.formats import FORMATS

    if split not in config.splits:
        has = ", ".join(config.splits)
        raise UserError(f"{config.path}: has no split '{split}'{did_you_mean(split, config.splits)} (it has {has})")
    kind = FORMATS[config.format]
    strict = names is not None or config.names_given
    names = names or config.names
    if names is None and split != next(iter(config.splits)):
        # Every split numbers its classes as the first one does, whatever its own files list.
        names = kind(config, next(iter(config.splits)), None).names
    source = kind(config, split, names, strict)
    if not source.names:
        raise UserError(f"{config.path}: {split}: no classes; expected names: as a list, or a source that has them")
    if config.names is None and not strict:
        config.names = source.names
    return source


def _tell(problems: Problems, config: DataConfig, split: str) -> None:
    """One line on standard error when something was dropped or mended."""
    lines = problems.lines()
    if lines:
        more = f" and {len(lines) - 3} other kinds" if len(lines) > 3 else ""
        told = "; ".join(lines[:3]) + more
        print(f"{split}: {told} (python -m data check {config.path} tells all)", file=sys.stderr)


def _one_class(split: Split) -> Split:
    samples = replace(split.samples, labels=np.zeros_like(split.samples.labels))
    return Split(split.name, samples, ["object"], split.category_ids[:1], split.problems)


def _names(raw: dict, path: Path) -> tuple[list[str] | None, list[int] | None, int | None]:
    """Return (names, their numbers, nc) of a YAML's `names:` and `nc:`."""
    names = raw.get("names")
    count = to_number(raw["nc"], int, f"{path}: nc") if raw.get("nc") is not None else None
    if count is not None and not 1 <= count <= 100_000:
        raise UserError(f"{path}: nc: expected a number of classes from 1 on, got {count}")
    if names is None:
        return None, None, count
    if isinstance(names, dict):
        numbered = sorted((to_number(number, int, f"{path}: names: key"), name) for number, name in names.items())
        ids, names = [number for number, _ in numbered], [name for _, name in numbered]
    elif isinstance(names, list):
        ids = list(range(len(names)))
    else:
        raise UserError(f"{path}: names: expected a list, or a mapping of number to name, got {names!r}")
    names = check_class_names(names, f"{path}: names")
    if min(ids) < 0 or len(set(ids)) < len(ids):
        raise UserError(f"{path}: names: numbers must be different and not negative, got {ids}")
    if count is not None and count != len(names):
        raise UserError(f"{path}: nc is {count} but names has {len(names)} classes")
    return names, ids, count


def _split_value(value, path: Path, split: str):
    """Check the value of `train:`, `val:` or `test:`."""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        return [str(item) for item in value]
    if isinstance(value, dict):
        for key in value:
            if key not in _SPLIT_KEYS:
                hint = did_you_mean(key, _SPLIT_KEYS)
                raise UserError(f"{path}: {split}: unknown key '{key}'{hint} (known: {', '.join(_SPLIT_KEYS)})")
            if not isinstance(value[key], str):
                raise UserError(f"{path}: {split}: {key}: expected a path, got {value[key]!r}")
        if "annotations" in value:
            return dict(value)
    expected = "a path, a list of paths, or {images: FOLDER, annotations: FILE}"
    raise UserError(f"{path}: {split}: expected {expected}, got {value!r}")


def _text(raw: dict, key: str, path: Path) -> str | None:
    value = raw.get(key)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{path}: {key}: expected a path, got {value!r}")


def _missing_hint(raw: dict) -> str:
    """What to do when the data set is not there."""
    source, download = raw.get("source"), raw.get("download")
    if not source and isinstance(download, str) and download.startswith(("http://", "https://")):
        source = download.split()[0]
    hint = "set DATASETS_DIR to the folder that holds it, or path: in the YAML"
    if source:
        hint += "; get it from " + " ".join(str(source).split())
    elif download:
        hint += "; the YAML's download: block is never executed, see there where to get it"
    return hint


def _guess_format(path: Path, root: Path, splits: dict, hint: str) -> str:
    """The first format that recognises a split."""
    from graftdet.data.formats import FORMATS

    for value in splits.values():
        sure = {word: FORMATS[word].recognises(root, value) for word in sorted(FORMATS)}
        if best := max(sure.values()):
            return next(word for word in sure if sure[word] == best)
    for split, value in splits.items():  # not there at all?
        for item in value if isinstance(value, list) else [value]:
            find_below(root, item, f"{path}: {split}", split, hint)
    raise UserError(
        f"{path}: cannot tell the format of {root}: found no labels/ folder beside images/ (yolo), no "
        f"annotations/instances_*.json (coco), no Annotations/*.xml (voc); say format: {', '.join(sorted(FORMATS))}"
    )
