"""YOLO txt: beside `images/` a folder `labels/` with one text file a picture (the layout of Darknet and YOLOv5).

A row is `class cx cy w h` in fractions of the upright picture, or `class x1 y1 x2 y2 x3 y3 ...`, a polygon, of which
the surrounding box is taken. A picture without a file is one without objects.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.image_header import ImageHeader
from utils.images import UnreadableImage, image_header

from .base import FORMATS, Format, Problems, Sample, Writer, select_names
from .pictures import list_pictures, number_pictures, read_list, swap_folder, walk_pictures

BAD_ROW = "rows of label files that cannot be used"
BAD_FILE = "label files that are no text"
NO_CLASS = "rows of a class that names: does not have"
NO_FILE = "pictures without a label file"
NO_PICTURE = "label files without a picture"


@FORMATS.register("yolo")
class Yolo(Format):
    """Folders or list files of pictures, `labels/` beside `images/`. Category ids are the class numbers of the rows."""

    def __init__(self, config, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = Problems()
        known = config.names or [f"class{number}" for number in range(config.nc or 0)]
        if not known:
            raise UserError(f"{config.path}: names: is missing; label files hold numbers only, expected a list of names")
        self.source = list(zip(config.name_ids or range(len(known)), known))
        self.names, self.category_ids = select_names(self.source, names, strict, f"{config.path}: names")
        self.paths = list_pictures(config, split, self.problems)

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                return 0
            places = [root / item] + ([root / item[3:]] if item.startswith("../") else [])
            for place in places:
                if place.is_dir() and _label_folder(place).is_dir():
                    return 2
                if place.is_dir() and any(label_path(path).is_file() for path in walk_pictures(place)[:20]):
                    return 2
                if place.is_file() and place.suffix == ".txt" and next(read_list(place), Path()).suffix:
                    return 2
        return 0

    def __iter__(self) -> Iterator[Sample]:
        labels = {id_: label for label, id_ in enumerate(self.category_ids)}
        known = {id_ for id_, _ in self.source}
        wanted = set()
        last_id = 0
        for path, image_id in zip(self.paths, number_pictures(self.paths)):
            text = label_path(path)
            wanted.add(text)
            rows = [(labels[row[0]], row[1]) for row in self._rows(text, path, known) if row[0] in labels]
            count = len(rows)
            boxes = np.array([box for _, box in rows], np.float64).reshape(-1, 4)
            yield Sample(
                path=path,
                boxes=boxes,  # (n, 4) xyxy in fractions
                labels=np.array([label for label, _ in rows], np.int64),
                crowd=np.zeros(count, bool),
                areas=np.full(count, np.nan),
                annotation_ids=np.arange(last_id + 1, last_id + 1 + count, dtype=np.int64),
                image_id=image_id,
                fractions=True,
            )
            last_id += count
        self._note_orphans(wanted)

    def _rows(self, text: Path, picture: Path, known: set[int]) -> list[tuple[int, tuple]]:
        """(class number, box xyxy in fractions) of each row of a label file that can be used."""
        try:
            lines = text.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            self.problems.note(NO_FILE, picture)
            return []
        except (OSError, ValueError):
            self.problems.note(BAD_FILE, text)
            return []
        rows = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = parse_row(line)
            if row is None:
                self.problems.note(BAD_ROW, f"{text}, line {number}: '{line.strip():.60}'")
            elif row[0] not in known:
                self.problems.note(NO_CLASS, f"{text}, line {number}: class {row[0]}")
            else:
                rows.append(row)
        return rows

    def _note_orphans(self, wanted: set[Path]) -> None:
        """Note the label files beside those of the split that belong to no picture, neither listed nor lying there."""
        for folder in sorted({text.parent for text in wanted}):
            if folder.name != "labels" and "labels" not in folder.parts:
                continue
            stems = {path.stem for path in walk_pictures(swap_folder(folder / "x", ("labels",), "images").parent)}
            for text in sorted(folder.glob("*.txt")):
                if text not in wanted and text.stem not in stems:
                    self.problems.note(NO_PICTURE, text)


def _label_folder(pictures: Path) -> Path:
    """Where the labels of a folder of pictures lie; a place that does not exist when its path has no `images`."""
    swapped = swap_folder(pictures / "x", ("images",), "labels").parent
    return swapped if swapped != pictures else pictures / "labels"


def label_path(picture: Path) -> Path:
    """The label file of a picture: the last folder called `images` is called `labels`, the suffix is .txt."""
    return swap_folder(picture, ("images",), "labels").with_suffix(".txt")


def parse_row(line: str) -> tuple[int, tuple[float, float, float, float]] | None:
    """`class cx cy w h`, or a polygon, as (class, (x1, y1, x2, y2)) in fractions; None when it is neither."""
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return None
    if len(values) < 5 or not math.isfinite(values[0]) or values[0] != int(values[0]) or values[0] < 0:
        return None
    number, rest = int(values[0]), values[1:]
    if len(rest) == 4:
        cx, cy, w, h = rest
        return number, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    if len(rest) % 2 or len(rest) < 6:
        return None
    xs, ys = rest[::2], rest[1::2]
    return number, (min(xs), min(ys), max(xs), max(ys))


class YoloWriter(Writer):
    """`images/SPLIT/` and `labels/SPLIT/`."""

    CANNOT_CARRY = "crowd regions, areas, image ids, annotation ids, category ids with gaps"

    def write_split(self, split: str, samples: list[Sample], pictures: list[Path]) -> object:
        folder = self.out / "labels" / split
        folder.mkdir(parents=True, exist_ok=True)
        for sample, picture in zip(samples, pictures):
            boxes, width, height = upright_boxes(sample)
            lines = []
            for (x, y, w, h), label, crowd in zip(boxes.tolist(), sample.labels.tolist(), sample.crowd.tolist()):
                if crowd:
                    self.problems.note("crowd regions left out", sample.path)
                    continue
                values = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                lines.append(" ".join([str(label), *(f"{value:.10g}" for value in values)]) + "\n")
            (folder / f"{picture.stem}.txt").write_text("".join(lines), encoding="utf-8")
        return f"images/{split}"


Yolo.Writer = YoloWriter


def upright_boxes(sample: Sample) -> tuple[np.ndarray, int, int]:
    """Return (boxes (n, 4) xywh pixels, width, height) in the frame of the upright picture.

    A sample whose boxes are in the frame of the stored pixels has them turned as the picture's EXIF orientation says.
    """
    boxes, width, height = clipped_source(sample), sample.width, sample.height
    if sample.apply_exif:
        return boxes, width, height
    try:
        header = image_header(sample.path)
    except UnreadableImage:
        header = ImageHeader(width, height)
    x1, y1 = boxes[:, 0], boxes[:, 1]
    x2, y2 = x1 + boxes[:, 2], y1 + boxes[:, 3]
    corners = {  # EXIF orientation -> the upright x1, y1, x2, y2 (EXIF 2.32, 4.6.4 A)
        2: (width - x2, y1, width - x1, y2),
        3: (width - x2, height - y2, width - x1, height - y1),
        4: (x1, height - y2, x2, height - y1),
        5: (y1, x1, y2, x2),
        6: (height - y2, x1, height - y1, x2),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (y1, width - x2, y2, width - x1),
    }.get(header.orientation, (x1, y1, x2, y2))
    turned = np.stack(corners, 1)
    turned[:, 2:] -= turned[:, :2]
    return (turned, height, width) if header.orientation >= 5 else (turned, width, height)


def clipped_source(sample: Sample) -> np.ndarray:
    """(n, 4) float64 xywh: the source's digits, except where a box was clipped to the picture."""
    x1, y1, w, h = sample.source_boxes.T
    limits = np.array([sample.width, sample.height], np.float64)
    low = np.clip(np.stack([x1, y1], 1), 0, limits)
    high = np.clip(np.stack([x1 + w, y1 + h], 1), 0, limits)
    within = (sample.source_boxes[:, :2] >= 0).all(1) & (np.stack([x1 + w, y1 + h], 1) <= limits).all(1)
    return np.where(within[:, None], sample.source_boxes, np.concatenate([low, high - low], 1))
