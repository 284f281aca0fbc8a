"""What the exported formats share: rows (B, N, 5 + nc) in YOLOv5's layout become boxes and scores. NumPy only."""

import ast
import json
import os
from abc import abstractmethod
from pathlib import Path

import numpy as np
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError

GREY = np.float32(114 / 255)  # of the borders of letterboxed pictures
_SCALE = np.float32(1 / 255)


class RowsModel(Predictor):
    """An exported file that detects. `fixed_size` and `fixed_batch` are None where the file takes any.

    A subclass opens the file, defines `_run` and calls `_describe`.
    """

    path: Path
    fixed_batch: int | None

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """Pictures (B, 3, H, W) of the file's type in 0..1, of a batch and size that it takes -> rows (B, N, 5 + nc), an
        array that no later call changes. Raises `UserError`."""

    def _describe(self, shape, output_shape, metadata: dict[str, str], kind=np.float32) -> None:
        """Set what a `Predictor` has from the shapes of the file's input and output (None where they are open), its
        metadata and the NumPy type of its input. Raises `UserError` for another layout."""
        self.fixed_batch, channels, height, width = shape
        self._kind, self.channels = kind, channels or 3
        self.stride = _stride(metadata.get("stride"))
        self.fixed_size = (height, width) if height and width else None
        size = _literal(metadata.get("size") or metadata.get("imgsz"))
        self.needs_nms = _literal(metadata.get("needs_nms")) is not False
        self.square_letterbox = _literal(metadata.get("square_letterbox") or metadata.get("squares")) is True
        self.train_size = max(self.fixed_size or _pair(size) or (640,))
        nc = _literal(metadata.get("nc"))
        if len(output_shape) == 3 and output_shape[2] is None and isinstance(nc, int) and nc > 0:
            output_shape = (*output_shape[:2], 5 + nc)
        columns = self._columns(output_shape, _literal(metadata.get("names")))
        numbers = [str(index) for index in range(columns - 5)]
        names = _names(metadata.get("names"), columns - 5)
        self.names = names or [f"class{number}" for number in numbers]
        self.names_known = names is not None and names != numbers

    def __call__(self, images):
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1, numpy or torch -> boxes (B, N, 4), scores (B, N, nc), numpy."""
        return _decode(self.rows(images))

    def likely(self, images, conf: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Predictor`: no score of a box is above its objectness."""
        return [_decode(rows[rows[:, 4] > conf]) for rows in self.rows(images)]

    def rows(self, images) -> np.ndarray:
        """What the file gives for `images`: (B, N, 5 + nc) float32.

        A fixed batch is filled up and its surplus cut off; pictures smaller than a fixed size are filled right and
        below, which moves no box.
        """
        images = images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()
        if images.dtype == np.uint8:
            images = np.multiply(images, _SCALE, dtype=np.float32)
        images = self._to_fixed_size(np.ascontiguousarray(images, dtype=self._kind))
        if not len(images):
            return self.rows(np.zeros((1, *images.shape[1:]), self._kind))[:0]
        step = self.fixed_batch or len(images)
        results = []
        for start in range(0, len(images), step):
            chunk = images[start : start + step]
            full = chunk
            if len(chunk) < step:
                full = np.concatenate((chunk, np.zeros((step - len(chunk), *chunk.shape[1:]), self._kind)))
            results.append(self._run(full)[: len(chunk)])
        rows = results[0] if len(results) == 1 else np.concatenate(results)
        return rows.astype(np.float32, copy=False)

    def _to_fixed_size(self, images: np.ndarray) -> np.ndarray:
        missing = [full - side for full, side in zip(self.fixed_size or images.shape[2:], images.shape[2:])]
        if max(missing) <= 0 or min(missing) < 0:
            return images
        return np.pad(images, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), constant_values=GREY)

    def _columns(self, output_shape, names) -> int:
        """5 + nc, from the declared output, else from one trial run. `names`, from the metadata, tells rows from columns
        where a small picture has fewer rows than that."""
        shape = list(output_shape)
        if len(shape) != 3 or shape[2] is None:
            sides = self.fixed_size or (2 * self.stride, 2 * self.stride)
            shape = list(self._run(np.zeros((self.fixed_batch or 1, self.channels, *sides), self._kind)).shape)
        as_named = len(shape) == 3 and isinstance(names, (list, dict)) and shape[-1] == 5 + len(names)
        turned = len(shape) != 3 or (shape[1] is not None and shape[1] < min(shape[2], 300))
        if (turned and not as_named) or shape[2] < 6:
            raise UserError(
                f"{self.path}: expected an output (batch, rows, 5 + classes) in YOLOv5's layout, found {shape}"
            )
        return shape[2]


def thread_limit() -> int:
    """How many threads a runtime may take: OMP_NUM_THREADS where it is set, as torch has it; else the cores of this process
    where the machine has more, which runtimes do not all look at; else 0, which leaves it to the runtime."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isdecimal() and int(text):
        return int(text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores if cores != os.cpu_count() else 0


def _decode(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (..., 5 + nc), which are written over, -> boxes (..., 4) xyxy, scores (..., nc)."""
    centre, half = rows[..., :2], rows[..., 2:4] / 2
    scores = rows[..., 5:]
    scores *= rows[..., 4:5]  # in place: with many classes this is most of the memory
    return np.concatenate((centre - half, centre + half), axis=-1), scores


def _literal(text: str | None):
    """A value written as JSON or as a Python literal (as other exporters do); None for anything else."""
    if not text:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _names(text: str | None, count: int) -> list[str] | None:
    """Class names from metadata, a list or a dict by index; None when they are not there or do not fit."""
    value = _literal(text)
    if isinstance(value, dict):
        value = [value.get(index, value.get(str(index))) for index in range(len(value))]
    return [str(name) for name in value] if isinstance(value, list) and len(value) == count else None


def _stride(text: str | None) -> int:
    value = _literal(text)
    return int(value) if isinstance(value, (int, float)) and 1 <= value <= 1024 else 32


def _pair(value) -> tuple[int, int] | None:
    fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    return tuple(value) if fits else None
