"""Detections of many images as arrays, which need 5 % of the memory of COCO results as dicts."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.files import write_atomically
from graftdet.utils.text import valid_utf8


class CocoResults:
    """Detections in the images of a dataset.

    Boxes are rounded to 0.001 pixels and scores to 0.000001, both for evaluation and in files.

    Args:
        category_ids: Category id of the dataset for each class index.
    """

    def __init__(self, category_ids: Iterable[Any]):
        self.category_ids = [plain(given) for given in category_ids]
        self.image_ids: list = []  # of all images added
        self._rows: list[np.ndarray] = []

    def add(self, image_id: Any, rows: np.ndarray) -> None:
        """Add the detections of an image, with its id in the dataset.

        Args:
            image_id: Integer or string.
            rows: (n, 6) x1, y1, x2, y2 in pixels of the original image, score, class index.
        """
        self.image_ids.append(plain(image_id))
        self._rows.append(np.asarray(rows, np.float32))

    def __len__(self) -> int:
        return sum(map(len, self._rows))

    @property
    def counts(self) -> np.ndarray:
        """Number of detections (images,) in each image."""
        return np.array([len(rows) for rows in self._rows], np.int64)

    def by_image(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Yield the id and the detections (n, 6) of each image, in the order added."""
        yield from zip(self.image_ids, self._rows, strict=True)

    def rows(self) -> np.ndarray:
        """Return all detections (n, 6) float32, in the order added."""
        return np.concatenate([np.zeros((0, 6), np.float32), *self._rows])

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes (n, 4) xywh in pixels, scores (n,), both float64, and class indices (n,), in the order added."""
        return _columns(self.rows())

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return COCO results: a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}."""
        results = []
        for image_id, rows in zip(self.image_ids, self._rows, strict=True):
            boxes, scores, labels = (column.tolist() for column in _columns(rows))
            results += [
                {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
                for box, score, label in zip(boxes, scores, labels, strict=True)
            ]
        return results

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
        write_atomically(Path(path), bytes(text + b"]"))


def plain(identity: Any) -> Any:
    """Return an id as a type of JSON: NumPy integers become Python integers."""
    return identity.item() if isinstance(identity, np.generic) else identity


def _columns(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    boxes = np.concatenate((rows[:, :2], rows[:, 2:4] - rows[:, :2]), 1).astype(np.float64).round(3)
    return boxes, rows[:, 4].astype(np.float64).round(6), rows[:, 5].astype(np.int64)
