"""What detection leaves in its folder: drawn pictures and videos, labels, crops, one JSON and one CSV. No torch."""

import csv
import json
import re
from pathlib import Path

import numpy as np

from .errors import writing
from .images import write_image

WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
COLUMNS = ("source", "frame", "class", "label", "score", "x1", "y1", "x2", "y2")


class OutputNames:
    """One name for each source in the folder: its stem, with a number when another source has the same."""

    def __init__(self):
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()

    def __call__(self, source: str) -> str:
        """The stem of everything that is written about `source`."""
        if source not in self._names:
            stem = safe_name(Path(source).stem if "://" not in source else source.split("://", 1)[1])
            name, number = stem, 2
            while name.lower() in self._taken:  # files differ by more than case on some systems
                name, number = f"{stem}_{number}", number + 1
            self._names[source] = name
            self._taken.add(name.lower())
        return self._names[source]


def safe_name(text: str) -> str:
    """`text` as a file's name on any system."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", str(text)).strip(" .")[:100] or "_"


def picture_path(folder: Path, name: str, source: str) -> Path:
    """Where the drawn picture of `source` goes: its own format where that can be written, else .jpg."""
    suffix = Path(source).suffix.lower()
    return folder / f"{name}{suffix if suffix in WRITABLE else '.jpg'}"


def write_labels(path: Path, boxes_xyxy, labels, scores, shape: tuple[int, int], with_scores: bool = False) -> None:
    """Write YOLO lines `class cx cy w h [score]`, normalised by the picture's `shape` (h, w); boxes are pixels."""
    height, width = shape
    lines = []
    for (x1, y1, x2, y2), label, score in zip(np.asarray(boxes_xyxy, float), labels, scores, strict=True):
        centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        numbers = [*centre, float(score)] if with_scores else centre
        lines.append(" ".join([str(int(label)), *(f"{number:.6f}" for number in numbers)]) + "\n")
    _write_text(path, "".join(lines))


def write_crops(folder: Path, name: str, image: np.ndarray, boxes_xyxy, class_names: list[str]) -> int:
    """Write each box cut out of `image` (H, W, 3) as folder/CLASS/name[_2].jpg; returns how many. Empty cuts are left out."""
    written: dict[str, int] = {}
    for box, class_name in zip(np.asarray(boxes_xyxy, float), class_names, strict=True):
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int)
        cut = image[y1:y2, x1:x2]
        if cut.size:
            written[class_name] = number = written.get(class_name, 0) + 1
            write_image(folder / safe_name(class_name) / f"{name}{f'_{number}' if number > 1 else ''}.jpg", cut)
    return sum(written.values())


def write_json(path: Path, records: list[dict]) -> None:
    """Write one record a picture or frame: source, frame, width, height, detections (name, label, score, box xyxy)."""
    _write_text(path, json.dumps(records, ensure_ascii=False, indent=1))


def write_csv(path: Path, records: list[dict]) -> None:
    """Write one line a detection with the columns `COLUMNS`, boxes in pixels."""
    with writing(path), open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for record in records:
            for found in record["detections"]:
                box = [f"{value:.2f}" for value in found["box"]]
                frame = "" if record["frame"] is None else record["frame"]
                writer.writerow([record["source"], frame, found["name"], found["label"], f"{found['score']:.4f}", *box])


def _write_text(path: Path, text: str) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
