"""The images of a split that consists of folders and list files, and their ids."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from graftdet.data.formats.files.image_finder import ImageFinder
from graftdet.data.formats.format import DataConfig
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.parallel_io import DirectoryListings
from graftdet.data.paths import find_below, replace_last_folder
from graftdet.utils.errors import UserError
from graftdet.utils.files import is_litter, read_regular_file
from graftdet.utils.images.io import IMAGE_SUFFIXES, OPTIONAL_SUFFIXES
from graftdet.utils.text import decode_unicode
from graftdet.utils.untrusted.limits import MAX_LIST

LISTED_TWICE = "images listed twice"


def find_sources(config: DataConfig, split: str) -> list[Path]:
    """Return the folders and files that a split consists of.

    Args:
        config: the data YAML.
        split: train, val or test.

    Raises:
        UserError: if one does not exist, or the split is a mapping.
    """
    value, where = config.splits[split], f"{config.path}: {split}"
    if isinstance(value, dict):
        raise UserError(
            f"{where}: the {config.format} format takes folders or list files, not images: and annotations:"
        )
    items = value if isinstance(value, list) else [value]
    return [find_below(config.root, item, where, split, config.missing_hint) for item in items]


def list_images(
    config: DataConfig, split: str, problems: ProblemCounts, is_labeled: Callable[[str], bool] | None = None
) -> list[Path]:
    """Return the images of a split, each once.

    A split is a folder (searched recursively), a list file, an image, or a list of these. The images of a folder are
    sorted by path, those of a list file keep their order.

    Args:
        config: the data YAML.
        split: train, val or test.
        problems: receives the images that are listed twice.
        is_labeled: whether a file that has not the suffix of an image is one nevertheless, since it has labels.

    Raises:
        UserError: if a folder or list file does not exist.
    """
    where = f"{config.path}: {split}"
    found: dict[str, Path] = {}
    for source in find_sources(config, split):
        for path in _images_of(source, config.root, where, is_labeled) or images_of_labels(source):
            key = os.path.normpath(path)
            if key in found:
                problems.add(LISTED_TWICE, path)
            found.setdefault(key, path)
    return list(found.values())


def _images_of(source: Path, root: Path, where: str, is_labeled: Callable[[str], bool] | None = None) -> list[Path]:
    if source.is_dir():
        return list(walk_images(source, is_labeled))
    if source.suffix.lower() in IMAGE_SUFFIXES:
        return [source]
    if source.suffix.lower() == ".txt":
        return _listed(source, root)
    raise UserError(f"{where}: {source}: expected a folder or a .txt list of images")


def images_of_labels(folder: Path) -> list[Path]:
    """Return the images of a folder of label files: those of the folder `images` in place of `labels`."""
    names = ("labels", "label", "Labels", "Label", "LABELS")
    for images in replace_last_folder(folder, names, "images", "Images", "image", "Image", "IMAGES"):
        if images.is_dir():
            return list(walk_images(images))
    return []


def walk_images(folder: Path, is_labeled: Callable[[str], bool] | None = None) -> Iterator[Path]:
    """Yield the images below a folder, sorted by name. Links to folders are followed once; litter is skipped.

    Args:
        folder: the folder.
        is_labeled: whether a file that has not the suffix of an image is one nevertheless.
    """
    visited = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not is_litter(name))
        files = [name for name in files if not is_litter(name)]
        known = {os.path.splitext(name)[0] for name in files if _suffix(name) in IMAGE_SUFFIXES - OPTIONAL_SUFFIXES}
        for name in sorted(files):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in IMAGE_SUFFIXES - OPTIONAL_SUFFIXES:
                yield Path(base, name)
            elif stem in known:  # the original of an image that was converted
                continue
            elif suffix.lower() in OPTIONAL_SUFFIXES or (is_labeled and is_labeled(os.path.join(base, name))):
                yield Path(base, name)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _listed(path: Path, root: Path) -> list[Path]:
    """The images of a list file, relative to the list (`./images/a.jpg`) or to the dataset folder.

    Lines that lead nowhere, as those written on another machine, are found by their ends (`ImageFinder`).
    """
    lines = [_unquoted(line) for line in read_lines(path)]
    if os.sep == "/":  # written on Windows
        lines = [line.replace("\\", "/") for line in lines]
    lines = [line for line in lines if not _is_litter_path(line, root)]
    base = max((path.parent, root), key=lambda folder: sum(os.path.exists(folder / line) for line in lines[:5]))
    paths = [base / line for line in lines]
    listings = DirectoryListings()
    missing = [index for index, image in enumerate(paths) if not listings.contains(str(image))]
    if missing:
        names = [lines[index] for index in missing]
        found = ImageFinder([base, root], root, search=len(missing) == len(lines)).find_all(names)
        for index, other in zip(missing, found.paths, strict=True):
            paths[index] = Path(other) if other is not None and os.path.exists(other) else paths[index]
    return paths


def _unquoted(line: str) -> str:
    """A line without the quotes around it, which some tools write."""
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line


def _is_litter_path(line: str, root: Path) -> bool:
    """Whether a listed image lies in a folder of litter, not counting the folders that contain the dataset."""
    path = Path(line)
    parts = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    hidden = not path.is_absolute() or path.is_relative_to(root)
    return any(is_litter(part) and (hidden or not part.startswith(".")) for part in parts if part not in (".", ".."))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that are not blank.

    Raises:
        UserError: if the file cannot be read or is not UTF-8; names the likely encoding.
    """
    try:
        data = read_regular_file(path, MAX_LIST)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    text = decode_unicode(data, str(path), comments=False)
    return [line.strip() for line in text.splitlines() if line.strip() and "\0" not in line]


def make_image_ids(paths: list[Path], root: Path) -> Sequence[int | str]:
    """Return an id for each image of a source that has none.

    An id is the stem of the file, as a number if all stems are distinct numbers (139 for COCO's `000000000139.jpg`);
    if stems are not unique, it is the path below `root`. All ids are of one type, since evaluators sort them.
    """
    stems = [path.stem for path in paths]
    if all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    if len(set(stems)) == len(stems):
        return stems
    return [(path.relative_to(root) if path.is_relative_to(root) else path).as_posix() for path in paths]
