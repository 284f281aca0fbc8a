"""Detections of many pictures, kept as arrays: as COCO results they would take twenty times the memory."""

import json
from pathlib import Path

import numpy as np
from graftdet.utils.files import write_atomically
from graftdet.utils.text import valid_utf8


class Results:
    """What was found in the pictures of a data set.

    `category_ids`: class index -> category id of the source. `add` a picture at a time, ids as the source has them. Boxes
    are kept to a thousandth of a pixel and scores to a millionth, which is what is written and what is measured.
    """

    def __init__(self, category_ids):
        self.category_ids = [plain(given) for given in category_ids]
        self.image_ids: list = []  # of each picture that was added
        self._rows: list[np.ndarray] = []

    def add(self, image_id, rows: np.ndarray) -> None:
        """One picture's detections: `rows` (n, 6) x1, y1, x2, y2, score, class in pixels of the source picture."""
        self.image_ids.append(plain(image_id))
        self._rows.append(np.asarray(rows, np.float32))

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    @property
    def counts(self) -> np.ndarray:
        """Detections (pictures,) of each picture."""
        return np.array([len(rows) for rows in self._rows], np.int64)

    def rows(self) -> np.ndarray:
        """All detections (n, 6) float32 as they were added, in turn."""
        return np.concatenate([np.zeros((0, 6), np.float32), *self._rows])

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (n, 4) xywh pixels, scores (n,), both float64, and class indices (n,), of all pictures in turn."""
        return _columns(self.rows())

    def to_dicts(self) -> list[dict]:
        """COCO results: a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}."""
        found = []
        for image_id, rows in zip(self.image_ids, self._rows, strict=True):
            boxes, scores, labels = (column.tolist() for column in _columns(rows))
            found += [
                {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
                for box, score, label in zip(boxes, scores, labels, strict=True)
            ]
        return found

    def write(self, path: str | Path) -> None:
        """Write `to_dicts` as JSON."""
        categories = [valid_utf8(json.dumps(given, ensure_ascii=False)) for given in self.category_ids]
        text = bytearray(b"[")
        for image_id, rows in zip(self.image_ids, self._rows, strict=True):
            image = valid_utf8(json.dumps(image_id, ensure_ascii=False))
            boxes, scores, labels = (column.tolist() for column in _columns(rows))
            entries = [
                f'{{"image_id": {image}, "category_id": {categories[label]}, "bbox": {box}, "score": {score}}}'
                for box, score, label in zip(boxes, scores, labels, strict=True)
            ]
            text += ", ".join(["", *entries] if len(text) > 1 else entries).encode()
        write_atomically(Path(path), text + b"]")


def plain(identity):
    """An id as JSON knows it: numpy's integers become Python's."""
    return identity.item() if isinstance(identity, np.generic) else identity


def _columns(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = np.concatenate((rows[:, :2], rows[:, 2:4] - rows[:, :2]), 1).astype(np.float64).round(3)
    return boxes, rows[:, 4].astype(np.float64).round(6), rows[:, 5].astype(np.int64)
