"""Finding the folder of a dataset and the files of its splits."""

import glob
import itertools
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from graftdet.utils.errors import UserError, nearest

logger = logging.getLogger(__name__)

_DRIVE = re.compile("[A-Za-z]:/")


def split_at_folder(folder: Path, names: Collection[str], ignore_case: bool = False) -> Iterator[tuple[Path, Path]]:
    """Yield (what comes before, what comes after) for each part of a path that has one of `names`, the last one first.

    Args:
        folder: the path of a folder.
        names: names of folders, lower-case with `ignore_case`.
        ignore_case: whether `Images` is `images`.
    """
    parts = folder.parts
    for index in range(len(parts) - 1, -1, -1):
        if (parts[index].lower() if ignore_case else parts[index]) in names:
            yield Path(*parts[:index]), Path(*parts[index + 1 :])


def replace_last_folder(folder: Path, names: Collection[str], *replacements: str) -> list[Path]:
    """Return a path with the last part that has one of `names` replaced: `a/images/train` -> `a/labels/train`.

    Args:
        folder: the path of a folder.
        names: names of folders.
        replacements: the names that replace it, each for one path of the result.

    Returns:
        The paths, which may not exist; none if no part has one of the names.
    """
    before, after = next(split_at_folder(folder, names), (None, None))
    return [] if before is None or after is None else [before / name / after for name in replacements]


def datasets_dir() -> Path:
    """Return the folder that holds datasets: `$DATASETS_DIR`, else `datasets` in the working directory."""
    return Path(os.environ.get("DATASETS_DIR") or "datasets")


def find_root(value: str | None, yaml_path: Path, missing_hint: str, splits: Iterable[Any] = ()) -> Path:
    """Return the folder of a dataset.

    A relative `path:` is looked up below `datasets_dir()`, then relative to the YAML. Published YAMLs write
    `../datasets/NAME` for a folder beside the checkout: that NAME is looked up below `datasets_dir()`, too. Where there
    is no such folder, as for a path of another machine, one that has a split of the YAML is used with a warning: the
    end of the path below `datasets_dir()` or beside the YAML, or the folder of the YAML.

    Args:
        value: the `path:` of the data YAML; None for the folder of the YAML itself.
        yaml_path: the data YAML.
        missing_hint: what to do if the dataset is missing, for the error message.
        splits: the values of `train:`, `val:` and `test:`.

    Returns:
        The absolute path of an existing folder.

    Raises:
        UserError: if there is no such folder; the message lists the paths that were tried.
    """
    if value is None:
        return yaml_path.absolute().parent
    if "\\" in value and os.sep == "/" and not os.path.isdir(value):  # written on Windows
        value = value.replace("\\", "/")
    path = Path(os.path.expanduser(value))
    if path.is_absolute() or _DRIVE.match(value):
        candidates = [path]
    elif path.parts:
        candidates = [datasets_dir() / path, yaml_path.parent / path]
    else:  # '.', the folder of the YAML
        candidates = [yaml_path.parent]
    if path.parts[:2] == ("..", "datasets"):
        candidates[:0] = [datasets_dir().joinpath(*path.parts[2:])]
    for candidate in candidates:
        if os.path.isdir(candidate):
            return candidate.absolute()
    _refuse_escapes(value, f"{yaml_path}: path")
    moved = _moved_root(path, yaml_path, list(splits))
    if moved:
        logger.warning("%s: path '%s' not found; its splits are read below %s", yaml_path, value, moved)
        return moved
    tried = ", ".join(str(candidate.absolute()) for candidate in dict.fromkeys(candidates))
    raise UserError(f"{yaml_path}: dataset '{value}' not found (tried {tried}); {missing_hint}")


def _moved_root(path: Path, yaml_path: Path, splits: list[Any]) -> Path | None:
    """The folder that has a split of a dataset whose `path:` does not exist: by the end of the path, or of the YAML."""
    beside = yaml_path.absolute().parent
    folders = [base / tail for tail in _tails(path) for base in (datasets_dir().absolute(), beside)]
    for folder in (*folders, beside):
        if os.path.isdir(folder) and any(_has_split(folder, value) for value in splits):
            return folder
    return None


def _has_split(folder: Path, value: Any) -> bool:
    value = value.get("annotations") if isinstance(value, dict) else value
    return find_first(folder, value) is not None


def _tails(path: Path) -> Iterator[Path]:
    """The ends of a path, the longest one first, without root, drive and `..`."""
    parts = [part for part in path.parts if part not in (path.anchor, "..") and not part.endswith(":")]
    for start in range(len(parts)):
        yield Path(*parts[start:])


def find_below(root: Path, value: str, where: str, key: str, missing_hint: str) -> Path:
    """Return the file or folder of a split.

    Some exporters write `../train/images` for a folder beside the YAML: `train/images` is tried as well, and so are the
    paths below `datasets_dir()`. Of an absolute path of another machine, its last folders are tried below `root`.
    Backslashes separate folders.

    Args:
        root: the folder of the dataset.
        value: path in the data YAML, absolute or relative to `root`.
        where: YAML and split, for the error message.
        key: the key of the YAML, for the error message.
        missing_hint: what to do if the dataset is missing, for the error message.

    Raises:
        UserError: if it does not exist; the message lists the paths that were tried.
    """
    found = find_optional(root, value)
    if found:
        return found
    _refuse_escapes(value, f"{where}: {key}")
    _refuse_pattern(root, value, where)
    candidates = _candidates_below(root, value)
    tried = ", ".join(str(candidate) for candidate in candidates[:4]) + (", ..." if len(candidates) > 4 else "")
    parent = candidates[0].parent
    near = nearest(candidates[0].name, os.listdir(parent)) if parent.is_dir() else None
    hint = f"did you mean '{Path(value).parent / near}'?" if near else missing_hint
    named = "" if where.endswith(f": {key}") else f"{key} "
    raise UserError(f"{where}: {named}'{value}' not found (tried {tried}); {hint}")


def _refuse_escapes(value: str, where: str) -> None:
    r"""Raise `UserError` for a path with control characters: `"images\train"` in double quotes has a tab."""
    if any(ord(character) < 32 for character in value):
        raise UserError(
            f"{where} {value!r} has control characters: in double quotes YAML reads a backslash and a letter as one; "
            "use single quotes, or / in place of the backslash"
        )


def _refuse_pattern(root: Path, value: str, where: str) -> None:
    """Raise `UserError` for a pattern such as `images/*.jpg`."""
    if glob.has_magic(value):
        parts = value.replace("\\", "/").split("/")
        folder = "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
        hint = f", such as {folder}" if folder and find_optional(root, folder) else ""
        raise UserError(f"{where}: '{value}' is a pattern; expected a folder of images{hint}, or a .txt list of images")


def find_optional(root: Path, value: str) -> Path | None:
    """Return the file or folder of a split like `find_below`, or None if it does not exist."""
    # os.path.exists, unlike that of Path, is false for a name that is too long
    return next((candidate for candidate in _candidates_below(root, value) if os.path.exists(candidate)), None)


def find_first(root: Path, value: Any) -> Path | None:
    """Return the first file or folder of a split; None if it does not exist or the split is a mapping.

    Args:
        root: the folder of the dataset.
        value: the value of `train:`, `val:` or `test:`.
    """
    value = value[0] if isinstance(value, list) and value else value
    return find_optional(root, value) if isinstance(value, str) else None


def _candidates_below(root: Path, value: str) -> list[Path]:
    """The paths that a value can mean, the likeliest first."""
    if "\\" in value and os.sep == "/" and not os.path.exists(root / value):  # written on Windows
        value = value.replace("\\", "/")
    path = Path(os.path.expanduser(value))
    if path.is_absolute() or _DRIVE.match(value):
        return [path, *(root / tail for tail in _tails(path))]  # of another machine: its last folders may be here
    candidates = [root / path]
    if path.parts[:1] == ("..",):
        candidates += [root.joinpath(*path.parts[1:]), datasets_dir().joinpath(*path.parts[1:])]
        if path.parts[1:2] == ("datasets",):
            candidates.append(datasets_dir().joinpath(*path.parts[2:]))
    return candidates
