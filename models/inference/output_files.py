"""Files that detection writes: names, labels, crops, JSON and CSV. No torch."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from graftdet.utils.files import write_errors
from graftdet.utils.images.io import write_image
from graftdet.utils.text import valid_utf8

WRITABLE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
CSV_COLUMNS = ("source", "frame", "class", "label", "score", "x1", "y1", "x2", "y2")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|$)", re.IGNORECASE)  # device names on Windows


class OutputNames:
    """File names in the folder of a run, unique on every system: a name in use gets a number."""

    def __init__(self):
        self._names: dict[tuple[str, str], str] = {}
        self._used: set[str] = set()

    def __call__(self, source: str) -> str:
        """The stem of all files about `source` (a path or an address), the same at each call."""
        text = source.split("://", 1)[1] if "://" in source else Path(source).stem
        return self._name_of("source", source, safe_name(text))

    def frame(self, source: str, number: int) -> str:
        """A stem for the files about frame `number` of `source`, a new one at each call."""
        return self.unused(f"{self(source)}_{number}")

    def crop(self, class_name: str, stem: str) -> str:
        """The path, below the folder of crops, of one more crop of a class from the image or frame `stem`."""
        folder = self._name_of("class", class_name, safe_name(class_name), "crops/")
        return f"{folder}/{self.unused(stem, f'crops/{folder}/')}.jpg"

    def _name_of(self, kind: str, key: str, name: str, folder: str = "") -> str:
        if (kind, key) not in self._names:
            self._names[kind, key] = self.unused(name, folder)
        return self._names[kind, key]

    def unused(self, name: str, folder: str = "") -> str:
        """Return `name`, with a number if it is in use in that folder of the run, and remember it as used."""
        unused, number = name, 2
        while f"{folder}{unused}".lower() in self._used:  # some systems ignore case
            unused, number = f"{name}_{number}", number + 1
        self._used.add(f"{folder}{unused}".lower())
        return unused


def safe_name(text: str) -> str:
    """`text` as a file name that is valid on every system, at most 200 bytes long."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", valid_utf8(str(text))).encode()[:200]
    name = name.decode("utf-8", "ignore").strip(" .") or "_"
    return f"_{name}" if _RESERVED.match(name) else name


def image_path(folder: Path, name: str, source: str) -> Path:
    """The path of the annotated image of `source`: in the format of the source where it can be written, else .jpg."""
    suffix = Path(source).suffix.lower()
    return folder / f"{name}{suffix if suffix in WRITABLE_SUFFIXES else '.jpg'}"


def write_labels(
    path: Path,
    boxes_xyxy: np.ndarray | Sequence,
    labels: np.ndarray | Sequence,
    scores: np.ndarray | Sequence,
    shape: tuple[int, int],
    with_scores: bool = False,
) -> None:
    """Write a YOLO label file, one line `class cx cy w h [score]` per box; without boxes, remove the file.

    Args:
        path: file to write.
        boxes_xyxy: (n, 4) in pixels.
        labels: (n,) class indices.
        scores: (n,).
        shape: (height, width) of the image, by which the boxes are normalized.
        with_scores: append the score to each line.
    """
    if not len(boxes_xyxy):
        with write_errors(path):
            path.unlink(missing_ok=True)
        return
    height, width = shape
    lines = []
    for (x1, y1, x2, y2), label, score in zip(np.asarray(boxes_xyxy, float), labels, scores, strict=True):
        box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        numbers = [*box, float(score)] if with_scores else box
        lines.append(" ".join([str(int(label)), *(f"{number:.6f}" for number in numbers)]) + "\n")
    _write_text(path, "".join(lines))


def write_crops(
    folder: Path,
    stem: str,
    image: np.ndarray,
    boxes_xyxy: np.ndarray | Sequence,
    class_names: Sequence[str],
    names: OutputNames,
) -> int:
    """Write the content of each box as folder/CLASS/stem.jpg, stem_2.jpg, ...; boxes without area are skipped.

    Args:
        folder: folder of crops.
        stem: stem of the file names.
        image: (H, W, 3) uint8 BGR.
        boxes_xyxy: (n, 4) in pixels.
        class_names: the class of each box.
        names: the names used in this run, so that no crop overwrites another.

    Returns:
        How many crops were written.
    """
    written = 0
    for box, class_name in zip(np.asarray(boxes_xyxy, float), class_names, strict=True):
        x1, y1 = np.floor(box[:2]).astype(int).clip(0)
        x2, y2 = np.ceil(box[2:]).astype(int)
        crop = image[y1:y2, x1:x2]
        if crop.size:
            write_image(folder / names.crop(class_name, stem), crop)
            written += 1
    return written


def write_detections_json(path: Path, records: list[dict]) -> None:
    """Write one record per image or frame: source, frame, width, height, detections (name, label, score, box xyxy)."""
    _write_text(path, valid_utf8(json.dumps(records, ensure_ascii=False, indent=1)))


class DetectionsCsv:
    """A file with one line per detection: `CSV_COLUMNS`, pixels. The lines of a frame are written when it is added.

    Args:
        path: the file.
        tracked: add the column `track`.
    """

    def __init__(self, path: Path, tracked: bool):
        self.path, self.tracked = path, tracked
        with write_errors(path):
            self._file = open(path, "w", newline="", encoding="utf-8")
        self._write([[*CSV_COLUMNS, "track"] if tracked else CSV_COLUMNS])

    def add(self, record: dict) -> None:
        """Write the detections of a record (see `write_detections_json`)."""
        frame, rows = "" if record["frame"] is None else record["frame"], []
        for detection in record["detections"]:
            box = [f"{value:.2f}" for value in detection["box"]]
            name, score = valid_utf8(detection["name"]), f"{detection['score']:.4f}"
            track = [detection.get("track")] if self.tracked else []
            rows.append([valid_utf8(record["source"]), frame, name, detection["label"], score, *box, *track])
        self._write(rows)

    def _write(self, rows: Sequence[Sequence]) -> None:
        with write_errors(self.path):
            csv.writer(self._file).writerows(rows)
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with write_errors(self.path):
            self._file.close()


def mot_lines(number: int, boxes_xyxy: np.ndarray, scores: np.ndarray, track_ids: np.ndarray) -> list[str]:
    """The lines of a MOT Challenge file for one frame: `frame,id,x,y,w,h,score,-1,-1,-1`, boxes of tracks only.

    Args:
        number: of the frame within its sequence, from 1.
        boxes_xyxy: (n, 4) in pixels.
        scores: (n,).
        track_ids: (n,), positive for boxes of a track.
    """
    lines = []
    for (x1, y1, x2, y2), score, track in zip(np.asarray(boxes_xyxy, float), scores, track_ids, strict=True):
        if track > 0:
            lines.append(f"{number},{track},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},-1,-1,-1\n")
    return lines


def write_mot(path: Path, lines: list[str]) -> None:
    """Write the lines of one sequence."""
    _write_text(path, "".join(lines))


def _write_text(path: Path, text: str) -> None:
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
