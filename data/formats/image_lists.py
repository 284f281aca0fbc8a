"""Which pictures a split of folders and list files has, and how they are called."""

import os
from collections.abc import Iterator
from pathlib import Path

from graftdet.data.formats.base import Problems
from graftdet.data.paths import find_below
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import IMAGE_SUFFIXES

LISTED_TWICE = "pictures listed twice"


def list_pictures(config, split: str, problems: Problems) -> list[Path]:
    """Return the pictures of a split, each once: a folder (searched whole), a list file, a picture, or several of them.

    Folders give their pictures sorted by path, list files in their own order. A picture that comes twice is noted.
    """
    value, where = config.splits[split], f"{config.path}: {split}"
    if isinstance(value, dict):
        raise UserError(
            f"{where}: the {config.format} format takes folders or list files, not images: and annotations:"
        )
    found: dict[str, Path] = {}
    for item in value if isinstance(value, list) else [value]:
        place = find_below(config.root, item, where, split, config.missing_hint)
        for path in _pictures_at(place, config.root, where):
            key = os.path.normpath(path)
            if key in found:
                problems.note(LISTED_TWICE, path)
            found.setdefault(key, path)
    return list(found.values())


def _pictures_at(place: Path, root: Path, where: str) -> Iterator[Path]:
    if place.is_dir():
        yield from walk_pictures(place)
    elif place.suffix.lower() in IMAGE_SUFFIXES:
        yield place
    elif place.suffix.lower() == ".txt":
        yield from _listed(place, root)
    else:
        raise UserError(f"{where}: {place}: expected a folder or a .txt list of pictures")


def walk_pictures(folder: Path) -> Iterator[Path]:
    """The pictures below a folder by name; links to folders are followed, each folder once, hidden files passed over."""
    seen = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:
                yield Path(base, name)


def _listed(path: Path, root: Path) -> list[Path]:
    """The pictures of a list file: its paths are relative to itself (`./images/a.jpg`), else to the data set's folder."""
    lines = read_lines(path)
    if os.sep == "/":  # written on Windows
        lines = [line.replace("\\", "/") for line in lines]
    base = max((path.parent, root), key=lambda place: sum(os.path.exists(place / line) for line in lines[:5]))
    return [base / line for line in lines]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises `UserError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, expected one path or name a line") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    return [line.strip() for line in text.splitlines() if line.strip() and "\0" not in line]


def image_ids(paths: list[Path], root: Path) -> list[int] | list[str]:
    """An id for each picture of a source that has none: its file's stem, as a number where all are different numbers
    (COCO's `000000000139.jpg` is 139); where stems are not unique, the path below `root`. Ids are of one type, as
    evaluators sort them.
    """
    stems = [path.stem for path in paths]
    if all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    if len(set(stems)) == len(stems):
        return stems
    return [(path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths]
