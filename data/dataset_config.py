"""`--data` YAMLs: read as plain data, validated, and opened as splits."""

import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.format import DATA_KEYS, SPLIT_NAMES, DataConfig, Format
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.reading_options import ReadingOptions
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.formats.validation import CROWDS_HINT, validate_samples
from graftdet.data.paths import find_below
from graftdet.utils.config import check_class_names, find_config, load_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.bit_depth import depth_problem, sample_ranges
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)

MAX_CLASSES = 100_000
_IGNORED_KEYS = tuple(
    "roboflow channels flip_idx kpt_names kpt_skeleton skeleton author license licence description version date url"
    " task docs".split()
)  # added by exporters and other projects, without meaning here
_SPLIT_KEYS = ("images", "annotations")
DROP_EMPTY_HINT = "drop_empty: true in the data YAML drops those that no split has"


def load_data_config(name_or_path: str | Path) -> DataConfig:
    """Read a data YAML.

    Keys: `format` (coco, yolo, voc, shapes; detected if absent), `path` (absolute, else below `$DATASETS_DIR`, default
    `datasets`, else relative to the YAML), `train`, `val`, `test`, `names` (list, or mapping of number to name), `nc`
    (must agree with names), `source` (where to get the dataset), `download` (never executed).

    Args:
        name_or_path: path of the YAML, or the bare name of a file in `configs/data`.

    Returns:
        The configuration of a dataset that exists.

    Raises:
        UserError: for a mistake in the YAML, with file and key, or a missing dataset, with the paths that were tried.
    """
    path = find_config(name_or_path, "data")
    raw = load_yaml(path)
    if "backbone" in raw and "head" in raw:
        raise UserError(
            f"{path}: is a model YAML, not a dataset YAML; give it as --cfg, and the dataset YAML as --data"
        )
    format_name = _read_format(raw, path)
    names, name_ids, nc = _read_names(raw, path)
    values = {split: raw[split] for split in SPLIT_NAMES if raw.get(split) not in (None, "", [])}
    splits = {split: _check_split_value(value, path, split) for split, value in values.items()}
    from graftdet.data.formats import FORMATS

    missing_hint = _missing_hint(raw)
    format_class = FORMATS[format_name or "coco"]
    settings = format_class.read_settings(raw, path, len(names) if names else nc)
    root = format_class.find_root(_read_path(raw, "path", path), path, missing_hint, splits.values())
    if not splits and format_name:
        splits = dict(format_class.DEFAULT_SPLITS)
    if not splits:
        raise UserError(f"{path}: no split, expected one of train, val, test")
    format_name = format_name or _detect_format(path, root, splits, missing_hint)
    if raw.get("labels") is not None and format_name != "yolo":
        raise UserError(f"{path}: labels: states what the rows of YOLO labels are, but the format is {format_name}")
    return DataConfig(
        path,
        format_name,
        root,
        splits,
        names,
        name_ids,
        nc,
        names is not None,
        settings,
        missing_hint,
        ReadingOptions.from_yaml(raw, path),
    )


def open_split(config: DataConfig, split: str, names: list[str] | None = None, single_class: bool = False) -> Split:
    """Open a split: invalid boxes and images are dropped, counted in `problems`, and reported as a warning.

    Args:
        config: the data YAML.
        split: train, val or test.
        names: classes to select, in this order (default: those of the YAML, else all of the source, in the same order
            for every split).
        single_class: merge all classes into one class 'object'.

    Returns:
        The validated split.

    Raises:
        UserError: if the split does not exist, a name is unknown, more than half of the images cannot be read, or the
            training split has no boxes except crowd regions. For other splits the latter is a warning.
    """
    source = open_annotations(config, split, names)
    where = f"{config.path}: {split}"
    if source.drawing:
        samples = SampleTable.from_samples(islice(source, source.drawing.sample_size))
    else:
        samples = validate_samples(source, source.problems, where)
        ranges = sample_ranges(samples.paths)
        if problem := depth_problem(ranges.values(), config.reading.depth):
            logger.warning("%s: %s: %s (first: %s)", where, *problem, next(iter(ranges)))
    for note in source.notes:
        logger.info("%s: %s", where, note)
    _report(source.problems, config, split)
    if split == "train" and len(samples.labels) and not source.drawing:
        counts = np.bincount(samples.labels, minlength=len(source.names))
        if empty := [name for name, count in zip(source.names, counts, strict=True) if not count]:
            shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
            logger.info("%s: %s without any box: %s; %s", where, counted(len(empty), "class"), shown, DROP_EMPTY_HINT)
    depth = config.reading.depth
    opened = Split(split, samples, source.names, source.category_ids, source.problems, source.drawing, depth)
    if samples.crowd.all():
        crowds = [f"all are crowds; {CROWDS_HINT}"] if len(samples.boxes) else []
        reason = "; ".join(source.problems.lines() + crowds) or "no annotations"
        if split == "train":
            raise UserError(f"{where}: no boxes to train on ({reason})")
        logger.warning("%s: no boxes to evaluate on (%s); metrics will be meaningless", where, reason)
    return _merge_classes(opened) if single_class else opened


def open_annotations(config: DataConfig, split: str, names: list[str] | None = None) -> Format:
    """Open the annotations of a split in their format: an iterable of samples that are not validated yet.

    Args:
        config: the data YAML.
        split: train, val or test.
        names: classes to select, as in `open_split`.

    Raises:
        UserError: if the split does not exist or has no classes.
    """
    from graftdet.data.formats import FORMATS

    if split not in config.splits:
        known = ", ".join(config.splits)
        hint = f"add {split}: to the YAML, or divide its images: python -m data split"
        meant = did_you_mean(split, config.splits)
        raise UserError(f"{config.path}: has no split '{split}'{meant} (known: {known}); {hint}")
    format_class = FORMATS[config.format]
    strict = names is not None or config.names_given
    if config.reading.drop_empty and names is None:
        names, strict = _names_with_boxes(config), False
    names = names or config.names
    first_split = next(iter(config.splits))
    if names is None and split != first_split:
        # Every split numbers its classes like the first one, whatever its own files list.
        names = format_class(config, first_split, None).names
    source = format_class(config, split, names, strict)
    if not source.names:
        raise UserError(f"{config.path}: {split}: no classes; expected names: as a list, or a source that has them")
    if config.names is None and not strict:
        config.names = source.names
    return source


def _names_with_boxes(config: DataConfig) -> list[str]:
    """The classes of the YAML or the source that have a box in any split; found once per data YAML."""
    from graftdet.data.formats import FORMATS

    if config.names_with_boxes is None:
        names, found = config.names, set[str]()
        for split in config.splits:
            source = FORMATS[config.format](config, split, names, config.names_given)
            names = names or source.names
            found.update(source.names[label] for label in np.unique(source.table().labels).tolist())
        config.names_with_boxes = [name for name in names or () if name in found]
    return config.names_with_boxes


def _report(problems: ProblemCounts, config: DataConfig, split: str) -> None:
    """One warning if something was dropped or changed."""
    lines = problems.lines()
    if lines:
        more = f" and {counted(len(lines) - 3, 'other kind')}" if len(lines) > 3 else ""
        text = "; ".join(lines[:3]) + more
        logger.warning("%s: %s (python -m data check %s lists all)", split, text, config.path)


def _merge_classes(split: Split) -> Split:
    table = SampleTable.from_samples(split.samples)
    samples = replace(table, labels=np.zeros_like(table.labels))
    drawing = split.drawing and split.drawing.map_labels([0] * len(split.names))
    return replace(split, samples=samples, names=["object"], category_ids=split.category_ids[:1], drawing=drawing)


def _read_format(raw: dict, path: Path) -> str | None:
    """The value of `format:`, if any; all keys are checked against those of the format."""
    from graftdet.data.formats import FORMATS

    name = raw.get("format")
    if name is not None and name not in FORMATS:
        hint = did_you_mean(str(name), FORMATS)
        raise UserError(f"{path}: unknown format '{name}'{hint} (known: {', '.join(sorted(FORMATS))})")
    known = FORMATS[name].KEYS if name else DATA_KEYS
    for key in raw:
        if key not in (*known, *_IGNORED_KEYS):
            others = [other for other in sorted(FORMATS) if key in FORMATS[other].KEYS]
            hint = f"; it requires format: {' or '.join(others)}" if others else did_you_mean(key, known)
            raise UserError(f"{path}: unknown key '{key}'{hint} (known: {', '.join(known)})")
    return name


def _read_names(raw: dict, path: Path) -> tuple[list[str] | None, list[int] | None, int | None]:
    """(names, their numbers, nc) from `names:` and `nc:`."""
    names = raw.get("names")
    nc = to_number(raw["nc"], int, f"{path}: nc") if raw.get("nc") is not None else None
    if nc is not None and not 1 <= nc <= MAX_CLASSES:
        raise UserError(f"{path}: nc: expected a number of classes of at least 1, got {nc}")
    if names is None:
        return None, None, nc
    if isinstance(names, dict):
        numbered = sorted((to_number(number, int, f"{path}: names: key"), name) for number, name in names.items())
        ids, names = [number for number, _ in numbered], [name for _, name in numbered]
    elif isinstance(names, list):
        ids = list(range(len(names)))
    else:
        raise UserError(f"{path}: names: expected a list, or a mapping of number to name, got {names!r}")
    names = check_class_names([name.strip() if isinstance(name, str) else name for name in names], f"{path}: names")
    if min(ids) < 0 or len(set(ids)) < len(ids):
        raise UserError(f"{path}: names: numbers must be different and not negative, got {ids}")
    if nc is not None and nc != len(names):
        raise UserError(f"{path}: nc is {nc} but names has {counted(len(names), 'class')}")
    return names, ids, nc


def _check_split_value(value: Any, path: Path, split: str) -> str | list[str] | dict[str, str]:
    """Validate the value of `train:`, `val:` or `test:`."""
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


def _read_path(raw: dict, key: str, path: Path) -> str | None:
    value = raw.get(key)
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{path}: {key}: expected a path, got {value!r}")


def _missing_hint(raw: dict) -> str:
    """What to do if the dataset does not exist."""
    source, download = raw.get("source"), raw.get("download")
    if not source and isinstance(download, str) and download.startswith(("http://", "https://")):
        source = download.split()[0]
    hint = "set DATASETS_DIR to the folder that contains it, or path: in the YAML"
    if source:
        hint += "; get it from " + " ".join(str(source).split())
    elif download:
        hint += "; the download: block of the YAML is never executed, see there where to get it"
    return hint


def _detect_format(path: Path, root: Path, splits: dict, missing_hint: str) -> str:
    """The format with the highest rating for a split."""
    from graftdet.data.formats import FORMATS

    for value in splits.values():
        ratings = {name: FORMATS[name].recognizes(root, value) for name in sorted(FORMATS)}
        best = max(ratings.values())
        found = [name for name in ratings if ratings[name] == best]
        if best and len(found) > 1:
            chosen = "yolo" if "yolo" in found else found[0]
            message = "%s: annotations of several formats (%s) fit %s; %s is used, format: in the YAML sets it"
            logger.warning(message, path, ", ".join(found), value, chosen)
            return chosen
        if best:
            return found[0]
    for split, value in splits.items():  # raise if the files do not exist
        for item in value if isinstance(value, list) else [value]:
            found = find_below(root, item, f"{path}: {split}", split, missing_hint)
            if found.is_file() and found.suffix.lower() != ".txt":
                raise UserError(f"{path}: {split}: {found}: expected a folder, a .txt list of images, or a COCO JSON")
    raise UserError(
        f"{path}: cannot detect the format of {root}: found no labels/ folder beside images/ (yolo), no "
        f"annotations/instances_*.json (coco), no Annotations/*.xml (voc), no labelTxt/ (dota), no JSON beside images "
        f"(labelme); add format: with one of {', '.join(sorted(FORMATS))}"
    )
