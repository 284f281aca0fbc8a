"""DOTA: text files of oriented boxes with class names (Xia et al., DOTA, CVPR 2018), read as upright boxes."""

import math
import os
import re
from pathlib import Path
from typing import Any

from graftdet.data.formats.files.image_lists import list_images, walk_images
from graftdet.data.formats.files.yolo_paths import label_path
from graftdet.data.formats.format import FORMATS, DataConfig
from graftdet.data.formats.per_image import Annotation, Entry, PerImageFormat
from graftdet.data.paths import find_first, split_at_folder
from graftdet.utils.files import read_regular_file
from graftdet.utils.text import decode_unicode
from graftdet.utils.untrusted.limits import MAX_LABELS

_HEADER = re.compile(r"\s*(imagesource|gsd)\s*:", re.IGNORECASE)


@FORMATS.register("dota")
class Dota(PerImageFormat):
    """Images, and rows `x1 y1 x2 y2 x3 y3 x4 y4 class difficult` in pixels.

    A split is a folder of images (searched recursively), a `.txt` list of images, or a list of these. Labels are in a
    folder `labelTxt` (or `labelTxt-v1.0`, ...) or `labels` in place of `images`, or beside the images. An object
    becomes the box around its corners; difficult ones are treated as crowds.
    """

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate a folder of images by the labels of the first image that has any."""
        path = find_first(root, value)
        if path is None or not path.is_dir():
            return 0
        labels = _LabelFolders()
        for image, _ in zip(walk_images(path), range(10), strict=False):
            file = labels.find(image)
            rows = _rows(file) if file else []
            if rows:
                return 3 * int(_parse_row(rows[0]) is not None)
        return 0

    def list_entries(self, config: DataConfig, split: str) -> list[Entry]:
        """Return the images with their label files."""
        labels = _LabelFolders()
        return [Entry(image, labels.find(image)) for image in list_images(config, split, self.problems)]

    def parse(self, data: bytes, path: Path) -> Annotation:
        """Return the rows of a label file as boxes."""
        objects, malformed = [], []
        for line, content in enumerate(decode_unicode(data, str(path), comments=False).splitlines(), 1):
            if not content.strip() or _HEADER.match(content):
                continue
            row = _parse_row(content)
            if row is None:
                malformed.append(f"row {line}: {content[:60]!r}")
            else:
                objects.append(row)
        return Annotation(objects, malformed=tuple(malformed))


def _parse_row(content: str) -> tuple[str, tuple[float, float, float, float], bool] | None:
    """(class, corners, whether it is difficult) of a row."""
    values = content.replace(",", " ").split()
    if len(values) < 9:
        return None
    try:
        numbers = [float(value) for value in values[:8]]
    except ValueError:
        return None
    name, difficult = " ".join(values[8:]), "0"
    if len(values) > 9 and re.fullmatch(r"[\d.]+", values[-1]):
        name, difficult = " ".join(values[8:-1]), values[-1]
    if not all(map(math.isfinite, numbers)) or re.fullmatch(r"[-+\d.]+", values[8]):
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return name, (min(xs), min(ys), max(xs), max(ys)), difficult not in ("0", "0.0")


def _rows(path: Path) -> list[str]:
    try:
        lines = decode_unicode(read_regular_file(path, MAX_LABELS), str(path), comments=False).splitlines()
    except (OSError, ValueError):
        return []
    return [line for line in lines if line.strip() and not _HEADER.match(line)]


class _LabelFolders:
    """Finds label files; each folder of images is resolved once."""

    def __init__(self):
        self._folders: dict[Path, list[Path]] = {}

    def find(self, image: Path) -> Path | None:
        """Return the label file of an image, or None."""
        folder = image.parent
        if folder not in self._folders:
            self._folders[folder] = [*_folders_of_labels(folder), label_path(folder / "any").parent, folder]
        paths = (labels / f"{image.stem}.txt" for labels in self._folders[folder])
        return next((path for path in paths if path.is_file()), None)


def _folders_of_labels(image_folder: Path) -> list[Path]:
    """The folders `labelTxt...` in place of the last folder `images`."""
    parent, rest = next(split_at_folder(image_folder.absolute(), ("images",), ignore_case=True), (None, Path()))
    names = sorted(os.listdir(parent)) if parent is not None and parent.is_dir() else []
    bases = [parent / name for name in names if parent is not None and name.lower().startswith("labeltxt")]
    return [folder for base in bases for folder in (base / rest, base / "labelTxt" / rest)]
