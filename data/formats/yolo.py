"""YOLO text labels: one `.txt` per image, one row per box (`class cx cy w h`, relative to the image size).

The published layout: images below a folder `images`, labels at the same path below `labels`, or beside the images.
"""

import functools
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.data.formats.format import FORMATS, OTHER_CLASS, DataConfig, Format, Writer, select_names
from graftdet.data.formats.image_lists import list_images, make_image_ids, walk_images
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.parallel_io import map_threads
from graftdet.data.paths import find_optional
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import IMAGE_SUFFIXES

BAD_ROW = "malformed rows in label files"
BAD_LABEL_FILE = "label files that cannot be read"
NO_IMAGE_FILE = "label files without an image"
BAD_CLASS = "rows with a class number that the dataset does not have"


@FORMATS.register("yolo")
class Yolo(Format):
    """Images and text labels; published YOLOv5 datasets work unchanged.

    A split is a folder (searched recursively), a `.txt` list of images (relative to the list or to the dataset folder),
    or a list of these. Rows of more than five numbers are polygons (`class x1 y1 x2 y2 ...`, the segment labels); their
    bounding box is used. An image with an empty label file, or without one, has no objects. Coordinates are relative to
    the image as rotated by EXIF. Image ids are made from file names (`image_lists.make_image_ids`).
    """

    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = ProblemCounts()
        self.root = config.root
        where = f"{config.path}: {split}"
        self.paths = list_images(config, split, self.problems)
        classes = _read_classes(config, where)
        self.names, self.category_ids = select_names(classes, names, strict, where)
        self._class_numbers = {number for number, _ in classes}

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate a list of images, or a folder with label files."""
        value = value[0] if isinstance(value, list) and value else value
        path = find_optional(root, value) if isinstance(value, str) else None
        if path is None or path.suffix == ".json":
            return 0
        if path.is_file():
            return 2 * int(Path(_first_line(path)).suffix.lower() in IMAGE_SUFFIXES)
        first = next(walk_images(path), None)
        if first is None:
            return 0
        labels = label_path(first)
        return 2 if labels.is_file() or (labels.parent.is_dir() and "images" in first.parts) else 0

    def __iter__(self) -> Iterator[Sample]:
        labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        results = map_threads(_read_labels, self.paths)
        for (path, (rows, problems)), image_id in zip(results, make_image_ids(self.paths, self.root), strict=True):
            for kind, location in problems:
                self.problems.add(kind, location)
            yield self._make_sample(path, image_id, rows, labels)
        self._count_labels_without_image()

    def _count_labels_without_image(self) -> None:
        """Count label files in the label folders of this split that belong to no image."""
        stems_by_folder: dict[Path, set[str]] = {}
        for path in self.paths:
            stems_by_folder.setdefault(path.parent, set()).add(path.stem)
        for image_folder, stems in stems_by_folder.items():
            folder = label_path(image_folder / "any").parent
            if folder == image_folder or not folder.is_dir() or not image_folder.is_dir():
                continue
            # listed images that are missing are counted as such
            stems = stems | {os.path.splitext(name)[0] for name in os.listdir(image_folder)}
            for name in sorted(os.listdir(folder)):
                if name.endswith(".txt") and name != "classes.txt" and name[:-4] not in stems:
                    self.problems.add(NO_IMAGE_FILE, folder / name)

    def _make_sample(self, path: Path, image_id: int | str, rows: list[tuple], labels: dict[int, int]) -> Sample:
        selected = []
        for line, number, *box in rows:
            if number in labels:
                selected.append((labels[number], *box))
            elif number not in self._class_numbers:
                kind = OTHER_CLASS if 0 <= number <= max(self._class_numbers) else BAD_CLASS
                self.problems.add(kind, f"{label_path(path)}, row {line}: class {number}")
        table = np.array(selected, np.float64).reshape(-1, 5)
        count = len(table)
        return Sample(
            path=path,
            boxes=table[:, 1:],
            labels=table[:, 0].astype(np.int64),
            crowd=np.zeros(count, bool),
            areas=np.full(count, np.nan),
            annotation_ids=np.zeros(count, np.int64),
            image_id=image_id,
            normalized=True,
        )


def label_path(image_path: Path) -> Path:
    """Return the label file of an image: its last folder `images` replaced by `labels`, else beside the image."""
    parts = list(image_path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


@functools.lru_cache
def _label_folder(image_folder: str) -> str:
    return str(label_path(Path(image_folder, "any")).parent)


def _read_labels(image_path: Path) -> tuple[list[tuple], list[tuple[str, str]]]:
    """(rows (line, class, x1, y1, x2, y2), normalized; problems (kind, location)) of the label file of an image."""
    folder, name = os.path.split(image_path)
    path = os.path.join(_label_folder(folder), os.path.splitext(name)[0] + ".txt")
    if not os.path.isfile(path):
        path = str(image_path.with_suffix(".txt"))  # beside it, below a folder that happens to be called images
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        return [], [(BAD_LABEL_FILE, f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}")]
    rows, problems = [], []
    for line, content in enumerate(text.splitlines(), 1):
        values = content.split()
        if not values:
            continue
        row = _parse_row(values)
        if row is None:
            problems.append((BAD_ROW, f"{path}, row {line}: {content[:60]!r}"))
        else:
            rows.append((line, *row))
    return rows, problems


def _parse_row(values: list[str]) -> tuple | None:
    """(class, x1, y1, x2, y2) of a row; None if it is neither a box nor a polygon."""
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        return None
    try:
        number, *coordinates = map(float, values)
    except ValueError:
        return None
    if not math.isfinite(number) or number != int(number):
        return None
    if len(coordinates) == 4:
        x, y, width, height = coordinates
        return int(number), x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if not all(map(math.isfinite, coordinates)):
        return int(number), math.nan, math.nan, math.nan, math.nan
    xs, ys = coordinates[::2], coordinates[1::2]
    return int(number), min(xs), min(ys), max(xs), max(ys)


def _first_line(path: Path) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return next((line.strip() for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return ""


def _read_classes(config: DataConfig, where: str) -> list[tuple[int, str]]:
    """(class number, name): the `names:` of the YAML, `class0` ... for its `nc:`, or a classes.txt in the dataset."""
    if config.names_given:
        return list(zip(config.name_ids, config.names, strict=True))
    if config.nc:
        return [(number, f"class{number}") for number in range(int(config.nc))]
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        try:
            lines = (config.root / name).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        names = [line.strip() for line in lines if line.strip()]
        if names and len(set(names)) == len(names):
            return list(enumerate(names))
    raise UserError(f"{where}: text labels have no class names; expected names: (or nc:) in the YAML")


class YoloWriter(Writer):
    """Writes `images/SPLIT/` and `labels/SPLIT/`, coordinates with nine digits."""

    NOT_WRITTEN = "crowd regions (omitted), image, annotation and category ids, areas, masks"
    REQUIRES_UPRIGHT = True

    def write_split(self, split: str, samples: Sequence[Sample], image_paths: list[Path]) -> object:
        """Write the label files of a split."""
        folder = self.out / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        for sample, path in zip(samples, image_paths, strict=True):
            self.problems.add("crowd regions omitted", sample.path, int(sample.crowd.sum()))
            size = np.array([sample.width, sample.height], np.float64)
            source = np.asarray(sample.source_boxes, np.float64)
            corners = np.concatenate([source[:, :2], source[:, :2] + source[:, 2:]], 1)
            corners = np.clip(corners / np.tile(size, 2), 0, 1)
            rows = []
            for label, (x1, y1, x2, y2), crowd in zip(sample.labels, corners.tolist(), sample.crowd, strict=True):
                if not crowd:
                    rows.append(f"{label} {(x1 + x2) / 2:.9g} {(y1 + y2) / 2:.9g} {x2 - x1:.9g} {y2 - y1:.9g}\n")
            (folder / f"{path.stem}.txt").write_text("".join(rows), encoding="utf-8")
        return f"images/{split}"


Yolo.Writer = YoloWriter
