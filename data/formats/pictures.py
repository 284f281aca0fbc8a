"""Which pictures a split of folders and list files has."""

import os
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError
from utils.images import PICTURE_SUFFIXES

from ..places import find_below
from .base import Problems

LISTED_TWICE = "pictures listed twice"


def list_pictures(config, split: str, problems: Problems) -> list[Path]:
    """Return the pictures of a split: a folder (searched whole), a list file of paths, or several of them.

    Folders give their pictures sorted by path, list files in their own order. A picture that comes twice is noted.
    """
    value = config.splits[split]
    where = f"{config.path}: {split}"
    if isinstance(value, dict):
        raise UserError(f"{where}: the {config.format} format takes folders or list files, not images: and annotations:")
    found: dict[str, Path] = {}
    for item in value if isinstance(value, list) else [value]:
        place = find_below(config.root, item, where, split, config.missing_hint)
        for path in walk_pictures(place) if place.is_dir() else read_list(place):
            key = os.path.normpath(path)
            if key in found:
                problems.note(LISTED_TWICE, path)
            found.setdefault(key, path)
    if not found:
        raise UserError(f"{where}: no pictures in {value}")
    return list(found.values())


def walk_pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted by path; links to folders are followed, hidden files passed over."""
    found, seen = [], set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES:
                found.append(Path(base, name))
    return sorted(found)


def read_list(path: Path) -> Iterator[Path]:
    """The paths of a list file, one a line; relative ones (`./images/a.jpg`) are relative to the file."""
    for line in read_lines(path):
        yield Path(os.path.normpath(path.parent / Path(line.replace("\\", "/") if os.sep == "/" else line)))


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises `UserError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, expected one path a line, or a folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return [line.strip() for line in text.splitlines() if line.strip() and "\0" not in line]


def swap_folder(path: Path, old: tuple[str, ...], new: str) -> Path:
    """`path` with the last folder in it that is called one of `old` called `new`; unchanged when there is none."""
    parts = list(path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] in old:
            parts[index] = new
            return Path(*parts)
    return path


def number_pictures(paths: list[Path]) -> list[int]:
    """An image id for each picture of a source that has none: its file name where all are different numbers
    (COCO's `000000000139.jpg` is 139), else its place from 1 on."""
    stems = [path.stem for path in paths]
    if all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems):
        ids = [int(stem) for stem in stems]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(paths) + 1))
