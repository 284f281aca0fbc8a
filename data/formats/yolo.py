"""YOLO text labels: one `.txt` per image, one row per box (`class cx cy w h`, relative to the image size).

The published layout: images below a folder `images`, labels at the same path below `labels`, or beside the images.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.data.formats.files.image_lists import (
    images_of_labels,
    list_images,
    make_image_ids,
    read_lines,
    walk_images,
)
from graftdet.data.formats.files.yolo_classes import describe_numbers, read_classes
from graftdet.data.formats.files.yolo_paths import CLASS_FILES, LabelPaths
from graftdet.data.formats.format import FORMATS, DataConfig, Format, Writer, select_names
from graftdet.data.formats.parsing.malformed_rows import explain_row
from graftdet.data.formats.parsing.sixth_column import AngleUnit, Undecided, angle_unit
from graftdet.data.formats.parsing.yolo_rows import (
    LabelFile,
    LongRow,
    box_of,
    count_corners,
    decide_reading,
    parse_labels,
    sixth_values,
)
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.reading_options import LABEL_READINGS
from graftdet.data.formats.sample import Sample
from graftdet.data.parallel_io import map_threads
from graftdet.data.paths import find_first
from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.files import is_litter, read_regular_file, refuse_lfs_pointer, spread_sample
from graftdet.utils.images.io import IMAGE_SUFFIXES, UnreadableImage, image_header
from graftdet.utils.text import counted, decode_unicode
from graftdet.utils.untrusted.limits import MAX_LABELS

BAD_ROW = "malformed rows in label files"
BAD_LABEL_FILE = "label files that cannot be read"
NO_IMAGE_FILE = "label files without an image"
BAD_CLASS = "rows with a class number that the dataset does not have"
IN_PIXELS = "rows in pixels, expected fractions of the width and height of the image"
CORNERS = "boxes that look like x1 y1 x2 y2; rows of label files have cx cy w h"
NO_LABELS = "images, none of which has a label file"
SAMPLED_FILES = 500
READING_NAMES = {
    "box": "boxes; further columns, such as a confidence, are ignored",
    "polygon": "polygons; their bounding boxes are used",
    "box+keypoints": "boxes with keypoints; the keypoints are ignored",
    "obb": "oriented boxes; their bounding boxes are used",
}


@FORMATS.register("yolo")
class Yolo(Format):
    """Images and text labels; published YOLOv5 datasets work unchanged.

    A split is a folder (searched recursively), a `.txt` list of images (relative to the list or to the dataset folder),
    or a list of these. What rows of more than five numbers are (polygons, boxes with keypoints, ...) is decided for
    the whole dataset (`yolo_rows.decide_reading`) or stated by `labels:` in the YAML. An image with an empty label
    file, or without one, has no objects. Coordinates are relative to the image as rotated by EXIF. Image ids are made
    from file names (`image_lists.make_image_ids`).
    """

    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = ProblemCounts()
        self.notes: list[str] = []
        self.root, self._config, self._split = config.root, config, split
        where = f"{config.path}: {split}"
        self._labels = LabelPaths()
        self.paths = list_images(config, split, self.problems, self._labels.has_label)
        classes = read_classes(config, where, self.paths, self._labels)
        self.names, self.category_ids = select_names(classes, names, strict, where)
        self._class_numbers = {number for number, _ in classes}

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate a list of images, or a folder with label files."""
        path = find_first(root, value)
        if path is None or path.suffix == ".json":
            return 0
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
            return 1 + os.path.isfile(LabelPaths().find(str(path)))
        if path.is_file():
            is_image = Path(_first_line(path).strip("\"'")).suffix.lower() in IMAGE_SUFFIXES
            return 2 if is_image else int(path.suffix.lower() == ".txt")
        labels = LabelPaths()
        images = [str(image) for image in islice(walk_images(path), SAMPLED_FILES)]
        images = images or list(map(str, images_of_labels(path)[:1]))
        images = images or [str(file) for file in islice(walk_images(path, labels.has_label), 1)]
        if any(os.path.isfile(labels.find(image)) for image in images):
            return 2
        return int(
            bool(images)
            and "images" in Path(images[0]).parts
            and os.path.isdir(labels.folder(os.path.dirname(images[0])))
        )

    def __iter__(self) -> Iterator[Sample]:
        labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        files = [file for _, file in map_threads(self._read_labels, self.paths)]
        reading, unit = self._decide_reading(files)
        if count := count_corners(file for file in files if isinstance(file, LabelFile)):
            self.problems.add(CORNERS, self._labels.find(str(self.paths[0])), count)
        self._expected_classes = describe_numbers(self._class_numbers, _used_classes(files))
        for path, file, image_id in zip(self.paths, files, make_image_ids(self.paths, self.root), strict=True):
            if isinstance(file, str):
                self.problems.add(BAD_LABEL_FILE, file)
                continue
            yield self._make_sample(path, image_id, self._select_rows(path, file, reading, unit), labels)
        label_files = [self._labels.find(str(path)) for path in self.paths] if not _used_classes(files) else []
        if label_files and not any(map(os.path.lexists, label_files)):
            self.problems.add(NO_LABELS, f"expected {label_files[0]}", len(label_files))
        self._count_labels_without_image()

    def _read_labels(self, image_path: Path) -> LabelFile | str:
        """The rows of the label file of an image, or why it cannot be read."""
        path = self._labels.find(str(image_path))
        try:
            data = read_regular_file(path, MAX_LABELS)
            refuse_lfs_pointer(path, data[:64])
            return parse_labels(decode_unicode(data, path, comments=False))
        except FileNotFoundError:
            return LabelFile.empty()
        except OSError as error:
            return f"{path}: {error.strerror}"
        except UserError as error:  # which names the file
            return str(error)

    def _decide_reading(self, files: list[LabelFile | str]) -> tuple[str | None, AngleUnit | None]:
        """What rows of more than five columns are, and the unit of angles in them; from the rows of all splits."""
        options = self._config.reading
        own = [file for file in files if isinstance(file, LabelFile)]
        rows = [row for file in own for row in file.long_rows]
        if not rows:
            return options.labels, None
        reading, judged = options.labels, own
        if reading in (None, "obb"):
            judged = own + self._sample_other_splits()
        judged_rows = [row for file in judged for row in file.long_rows]
        if reading is None:
            try:
                reading = decide_reading(judged_rows, sum(len(file.boxes) for file in judged), options.keypoint_columns)
            except Undecided as error:
                path, line = next(
                    (path, file.long_rows[0].line)
                    for path, file in zip(self.paths, files, strict=True)
                    if isinstance(file, LabelFile) and file.long_rows
                )
                first = f"{self._labels.find(str(path))}, row {line}"
                hint = f"add labels: {', '.join(LABEL_READINGS[:-1])} or {LABEL_READINGS[-1]} to the data YAML"
                raise UserError(f"{self._config.path}: {self._split}: {error} (first: {first}); {hint}") from None
        unit = self._angle_unit(judged_rows) if reading == "obb" else None
        if reading is not None:
            columns = ", ".join(str(number) for number in sorted({row.columns for row in rows})[:5])
            self.notes.append(
                f"{counted(len(rows), 'label row')} of {columns} columns: read as {READING_NAMES[reading]}"
            )
        if unit is not None:
            low, high = min(angles := sixth_values(judged_rows)), max(angles)
            self.notes.append(f"the sixth column, {low:g} to {high:g}, is read as angles in {unit} (key angles)")
        return reading, unit

    def _angle_unit(self, rows: list[LongRow]) -> AngleUnit | None:
        """The unit of the angles in oriented boxes, where these have six columns."""
        angles = sixth_values(rows)
        if not angles or len(angles) < len(rows):
            return None
        return self._config.reading.angles or angle_unit(angles)

    def _sample_other_splits(self) -> list[LabelFile]:
        """Label files of the other splits, at most `SAMPLED_FILES` of each, so that all splits are read alike."""
        paths: list[Path] = []
        for split in self._config.splits:
            if split != self._split:
                with suppress(UserError):  # a split that does not exist is reported when it is opened
                    found = list_images(self._config, split, ProblemCounts(), self._labels.has_label)
                    paths += spread_sample(found, SAMPLED_FILES)
        results = map_threads(self._read_labels, paths)
        return [file for _, file in results if isinstance(file, LabelFile)]

    def _select_rows(self, path: Path, file: LabelFile, reading: str | None, unit: AngleUnit | None) -> np.ndarray:
        """The boxes of a file in a reading, (n, 6) as `LabelFile.boxes`; counts malformed rows."""
        found = []
        malformed = {line: explain_row(content) for line, content in file.malformed}
        aspect = _aspect_of(path) if unit and file.long_rows else 1.0
        for row in file.long_rows:
            box = box_of(row, reading, unit, aspect)
            if box is None:
                malformed[row.line] = counted(row.columns, "column")
            else:
                found.append((row.line, row.number, *box))
        for line, content in sorted(malformed.items()):
            self.problems.add(BAD_ROW, f"{self._labels.find(str(path))}, row {line}: {content}")
        if not found:
            return file.boxes
        rows = np.concatenate([file.boxes, np.array(found, np.float64).reshape(-1, 6)])
        return rows[np.argsort(rows[:, 0], kind="stable")]

    def _count_labels_without_image(self) -> None:
        """Count label files in the label folders of this split that belong to no image."""
        stems_by_folder: dict[Path, set[str]] = {}
        for path in self.paths:
            stems_by_folder.setdefault(path.parent, set()).add(path.stem)
        for image_folder, stems in stems_by_folder.items():
            folder = Path(self._labels.folder(str(image_folder)))
            if folder == image_folder or not folder.is_dir() or not image_folder.is_dir():
                continue
            # listed images that are missing are counted as such
            stems = stems | {os.path.splitext(name)[0] for name in os.listdir(image_folder)}
            stems = {unicodedata.normalize("NFC", stem) for stem in stems}
            for name in sorted(os.listdir(folder)):
                if (
                    name.lower().endswith(".txt")
                    and unicodedata.normalize("NFC", name[:-4]) not in stems
                    and name not in CLASS_FILES
                    and not is_litter(name)
                ):
                    self.problems.add(NO_IMAGE_FILE, folder / name)

    def _make_sample(self, path: Path, image_id: int | str, rows: np.ndarray, labels: dict[int, int]) -> Sample:
        """The sample of an image from its label rows (n, 6)."""
        selected = np.array([number in labels for number in rows[:, 1].tolist()], bool)
        for line, number in rows[~selected, :2].astype(np.int64).tolist():
            if number not in self._class_numbers:
                where = f"{self._labels.find(str(path))}, row {line}"
                self.problems.add(BAD_CLASS, f"{where}: class {number}, {self._expected_classes}")
        rows = rows[selected]
        in_pixels = (rows[:, 2:] > 1).all(1)
        for line in rows[in_pixels, 0].astype(np.int64).tolist():
            self.problems.add(IN_PIXELS, f"{self._labels.find(str(path))}, row {line}")
        rows = rows[~in_pixels]
        count = len(rows)
        return Sample(
            path=path,
            boxes=rows[:, 2:],
            labels=np.array([labels[number] for number in rows[:, 1].tolist()], np.int64),
            crowd=np.zeros(count, bool),
            areas=np.full(count, np.nan),
            annotation_ids=np.zeros(count, np.int64),
            image_id=image_id,
            normalized=True,
        )


def _aspect_of(path: Path) -> float:
    """Height / width of an image; 1 if it cannot be read, which is reported when it is validated."""
    try:
        width, height = image_header(path).upright_size
    except UnreadableImage:
        return 1.0
    return height / width if width and height else 1.0


def _first_line(path: Path) -> str:
    try:
        return next(iter(read_lines(path)), "")
    except UserError:
        return ""


def _used_classes(files: list[LabelFile | str]) -> set[int]:
    used: set[int] = set()
    for file in files:
        if isinstance(file, LabelFile):
            used.update(map(int, np.unique(file.boxes[:, 1])), (row.number for row in file.long_rows))
    return used


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
            corners = xywh_to_xyxy(np.asarray(sample.source_boxes, np.float64))
            corners = np.clip(corners / np.tile(size, 2), 0, 1)
            rows = []
            for label, (x1, y1, x2, y2), crowd in zip(sample.labels, corners.tolist(), sample.crowd, strict=True):
                if not crowd:
                    rows.append(f"{label} {(x1 + x2) / 2:.9g} {(y1 + y2) / 2:.9g} {x2 - x1:.9g} {y2 - y1:.9g}\n")
            (folder / f"{path.stem}.txt").write_text("".join(rows), encoding="utf-8")
        return f"images/{split}"


Yolo.Writer = YoloWriter
