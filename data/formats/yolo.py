"""YOLO text labels: one `.txt` a picture, a row a box (`class cx cy w h` in fractions of the picture).

The published layout: pictures below a folder `images`, labels at the same place below `labels`, or beside the pictures.
"""

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from graftdet.data.formats.base import FORMATS, OTHER_CLASS, Format, Problems, Writer, select_names
from graftdet.data.formats.image_lists import image_ids, list_pictures, walk_pictures
from graftdet.data.formats.sample import Sample
from graftdet.data.parallel_io import map_threads
from graftdet.data.paths import look_below
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import IMAGE_SUFFIXES

BAD_ROW = "rows of label files that cannot be used"
BAD_FILE = "label files that cannot be read"
NO_PICTURE = "label files without a picture"
BAD_CLASS = "rows with a class number that the data set does not have"


@FORMATS.register("yolo")
class Yolo(Format):
    """Pictures and text labels, published YOLOv5 data sets unchanged.

    A split is a folder (read with its subfolders), a `.txt` list of pictures (relative to itself, else to the data
    set's folder), or a list of both. Rows of more than five numbers are polygons (`class x1 y1 x2 y2 ...`, the segment
    labels), taken as the box around their points. A missing or empty label file is a picture without objects.
    Fractions are of the picture as EXIF turns it. A picture's id is made of its name (`pictures.image_ids`).
    """

    def __init__(self, config, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = Problems()
        self.root = config.root
        where = f"{config.path}: {split}"
        self.paths = list_pictures(config, split, self.problems)
        classes = _classes(config, where)
        self.names, self.category_ids = select_names(classes, names, strict, where)
        self._numbers = {number for number, _ in classes}
        self._highest = max(self._numbers)

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        value = value[0] if isinstance(value, list) and value else value
        place = look_below(root, value) if isinstance(value, str) else None
        if place is None or place.suffix == ".json":
            return 0
        if place.is_file():
            return 2 * int(Path(_first_line(place)).suffix.lower() in IMAGE_SUFFIXES)
        first = next(walk_pictures(place), None)
        if first is None:
            return 0
        return 2 if label_path(first).is_file() or label_path(first).parent.is_dir() and "images" in first.parts else 0

    def __iter__(self) -> Iterator[Sample]:
        labels = {id_: label for label, id_ in enumerate(self.category_ids)}
        read = map_threads(_read_labels, self.paths)
        for (path, (rows, problems)), image_id in zip(read, image_ids(self.paths, self.root)):
            for kind, where in problems:
                self.problems.note(kind, where)
            yield self._sample(path, image_id, rows, labels)
        self._note_alone()

    def _note_alone(self) -> None:
        """Note the label files beside those of this split that no picture has, neither a listed nor another one."""
        listed: dict[Path, set[str]] = {}
        for path in self.paths:
            listed.setdefault(path.parent, set()).add(path.stem)
        for pictures, stems in listed.items():
            folder = label_path(pictures / "any").parent
            if folder == pictures or not folder.is_dir() or not pictures.is_dir():
                continue
            stems = stems | {
                os.path.splitext(name)[0] for name in os.listdir(pictures)
            }  # missing ones are counted as that
            for name in sorted(os.listdir(folder)):
                if name.endswith(".txt") and name != "classes.txt" and name[:-4] not in stems:
                    self.problems.note(NO_PICTURE, folder / name)

    def _sample(self, path: Path, image_id, rows: list[tuple], labels: dict[int, int]) -> Sample:
        kept = []
        for line, number, *box in rows:
            if number in labels:
                kept.append((labels[number], *box))
            elif number not in self._numbers:
                kind = OTHER_CLASS if 0 <= number <= self._highest else BAD_CLASS
                self.problems.note(kind, f"{label_path(path)}, row {line}: class {number}")
        table = np.array(kept, np.float64).reshape(-1, 5)
        count = len(table)
        return Sample(
            path=path,
            boxes=table[:, 1:],
            labels=table[:, 0].astype(np.int64),
            crowd=np.zeros(count, bool),
            areas=np.full(count, np.nan),
            annotation_ids=np.zeros(count, np.int64),
            image_id=image_id,
            fractions=True,
        )


def label_path(picture: Path) -> Path:
    """Where the labels of a picture lie: the last folder `images` of its path replaced by `labels`, else beside it."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


@functools.lru_cache
def _labels_folder(pictures: str) -> str:
    """The folder of the labels for a folder of pictures."""
    return str(label_path(Path(pictures, "any")).parent)


def _read_labels(picture: Path) -> tuple[list[tuple], list[tuple[str, str]]]:
    """(rows (line, class, x1, y1, x2, y2) in fractions, problems (kind, where)) of a picture's label file."""
    folder, name = os.path.split(picture)
    path = os.path.join(_labels_folder(folder), os.path.splitext(name)[0] + ".txt")
    if not os.path.isfile(path):
        path = str(picture.with_suffix(".txt"))  # beside it, below a folder that happens to be called images
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError) as error:
        return [], [(BAD_FILE, f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}")]
    rows, problems = [], []
    for line, content in enumerate(text.splitlines(), 1):
        words = content.split()
        if not words:
            continue
        row = _parse(words)
        if row is None:
            problems.append((BAD_ROW, f"{path}, row {line}: {content[:60]!r}"))
        else:
            rows.append((line, *row))
    return rows, problems


def _parse(words: list[str]) -> tuple | None:
    """(class, x1, y1, x2, y2) of a row's words; None when it is neither a box nor a polygon."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        return None
    try:
        number, *values = map(float, words)
    except ValueError:
        return None
    if not math.isfinite(number) or number != int(number):
        return None
    if len(values) == 4:
        x, y, width, height = values
        return int(number), x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if not all(map(math.isfinite, values)):
        return int(number), math.nan, math.nan, math.nan, math.nan
    return int(number), min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _first_line(path: Path) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return next((line.strip() for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return ""


def _classes(config, where: str) -> list[tuple[int, str]]:
    """(class number, name): the YAML's names, `class0` ... for its nc, or a classes.txt in the data set."""
    if config.names_given:
        return list(zip(config.name_ids, config.names))
    if config.nc:
        return [(number, f"class{number}") for number in range(int(config.nc))]
    for place in ("classes.txt", "labels/classes.txt", "obj.names"):
        try:
            lines = (config.root / place).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        names = [line.strip() for line in lines if line.strip()]
        if names and len(set(names)) == len(names):
            return list(enumerate(names))
    raise UserError(f"{where}: text labels hold no class names; expected names: (or nc:) in the YAML")


class YoloWriter(Writer):
    """`images/SPLIT/` and `labels/SPLIT/`, fractions to nine digits."""

    CANNOT_CARRY = "crowd regions (left out), image, annotation and category ids, areas, masks"
    UPRIGHT = True

    def write_split(self, split: str, samples: list[Sample], pictures: list[Path]) -> object:
        folder = self.out / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        for sample, picture in zip(samples, pictures):
            self.problems.note("crowd regions left out", sample.path, int(sample.crowd.sum()))
            size = np.array([sample.width, sample.height], np.float64)
            source = np.asarray(sample.source_boxes, np.float64)
            corners = np.concatenate([source[:, :2], source[:, :2] + source[:, 2:]], 1)
            corners = np.clip(corners / np.tile(size, 2), 0, 1)
            rows = []
            for label, (x1, y1, x2, y2), crowd in zip(sample.labels, corners.tolist(), sample.crowd):
                if not crowd:
                    rows.append(f"{label} {(x1 + x2) / 2:.9g} {(y1 + y2) / 2:.9g} {x2 - x1:.9g} {y2 - y1:.9g}\n")
            (folder / f"{picture.stem}.txt").write_text("".join(rows), encoding="utf-8")
        return f"images/{split}"


Yolo.Writer = YoloWriter
