"""What the exported formats have in common: predictions (B, N, 5 + nc) in YOLOv5's layout. NumPy only, no torch."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends.metadata import parse_names, parse_size, parse_stride, parse_value
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError
from graftdet.utils.images.letterbox import GRAY

_PADDING = np.float32(GRAY / 255)
_SCALE = np.float32(1 / 255)


class ExportedModel(Predictor):
    """A model in an exported file. A subclass opens the file, calls `_describe` and defines `_run`.

    Attributes:
        path: the file.
        channels: channels of the input.
        fixed_batch: the only batch size that the file takes; None: any.
    """

    path: Path
    channels: int
    fixed_batch: int | None

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """Run the file once.

        Args:
            images: (B, C, H, W) in 0..1, of the file's input type and of a batch and size that it takes.

        Returns:
            Predictions (B, N, 5 + nc), an array that no later call changes.
        """

    def _describe(
        self,
        input_shape: Sequence[int | None],
        output_shape: Sequence[int | None],
        metadata: Mapping[str, str],
        dtype: type = np.float32,
    ) -> None:
        """Set the attributes of a `Predictor`.

        Args:
            input_shape: (batch, channels, height, width), None where any is taken.
            output_shape: shape of the output, None where it varies.
            metadata: the file's metadata.
            dtype: NumPy type of the input.

        Raises:
            UserError: the output has another layout.
        """
        self.fixed_batch, channels, height, width = input_shape
        self._dtype, self.channels = dtype, channels or 3
        self.stride = parse_stride(metadata.get("stride"))
        self.fixed_size = (height, width) if height and width else None
        self.needs_nms = parse_value(metadata.get("needs_nms")) is not False
        square = metadata.get("square_letterbox", metadata.get("squares"))  # the older key
        self.square_letterbox = parse_value(square) is True
        size = parse_size(metadata.get("size") or metadata.get("imgsz"))
        self.train_size = max(self.fixed_size or size or (640,))
        nc = parse_value(metadata.get("nc"))
        if len(output_shape) == 3 and output_shape[2] is None and isinstance(nc, int) and nc > 0:
            output_shape = (*output_shape[:2], 5 + nc)
        num_classes = self._num_columns(output_shape, parse_value(metadata.get("names"))) - 5
        names, numbers = parse_names(metadata.get("names"), num_classes), [str(index) for index in range(num_classes)]
        self.names = names or [f"class{number}" for number in numbers]
        self.names_known = names is not None and names != numbers

    def __call__(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1 -> arrays of boxes (B, N, 4) xyxy and scores (B, N, nc)."""
        return _decode(self.predictions(images))

    def candidates(self, images: Any, conf: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Predictor`; no score exceeds the objectness, so boxes of lower objectness are omitted."""
        return [_decode(rows[rows[:, 4] > conf]) for rows in self.predictions(images)]

    def predictions(self, images: Any) -> np.ndarray:
        """The output of the file.

        With a fixed batch size, incomplete batches are padded with zeros. Images smaller than a fixed size are padded
        at the right and bottom, which moves no box.

        Args:
            images: RGB (B, 3, H, W), uint8 0..255 or float 0..1, array or tensor.

        Returns:
            (B, N, 5 + nc) float32: cx, cy, w, h in pixels, objectness, class probabilities.
        """
        images = images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()
        if images.dtype == np.uint8:
            images = np.multiply(images, _SCALE, dtype=np.float32)
        images = self._pad_to_fixed_size(np.ascontiguousarray(images, dtype=self._dtype))
        if not len(images):
            return self.predictions(np.zeros((1, *images.shape[1:]), self._dtype))[:0]
        step = self.fixed_batch or len(images)
        results = []
        for start in range(0, len(images), step):
            chunk = images[start : start + step]
            batch = chunk
            if len(chunk) < step:
                batch = np.concatenate((chunk, np.zeros((step - len(chunk), *chunk.shape[1:]), self._dtype)))
            results.append(self._run(batch)[: len(chunk)])
        predictions = results[0] if len(results) == 1 else np.concatenate(results)
        return predictions.astype(np.float32, copy=False)

    def _pad_to_fixed_size(self, images: np.ndarray) -> np.ndarray:
        sides = images.shape[2:]
        missing = [full - side for full, side in zip(self.fixed_size or sides, sides, strict=True)]
        if max(missing) <= 0 or min(missing) < 0:
            return images
        return np.pad(images, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), constant_values=_PADDING)

    def _num_columns(self, output_shape: Sequence[int | None], names: Any) -> int:
        """5 + nc, from the declared output, else from a trial run.

        A layout (batch, 5 + nc, N) is refused. A small image may have fewer predictions than columns: `names` of the
        metadata then confirm the layout.
        """
        shape = list(output_shape)
        if len(shape) != 3 or shape[2] is None:
            height, width = self.fixed_size or (2 * self.stride, 2 * self.stride)
            trial = np.zeros((self.fixed_batch or 1, self.channels, height, width), self._dtype)
            shape = list(self._run(trial).shape)
        confirmed = len(shape) == 3 and isinstance(names, (list, dict)) and shape[-1] == 5 + len(names)
        transposed = len(shape) != 3 or (shape[1] is not None and shape[1] < min(shape[2], 300))
        if (transposed and not confirmed) or shape[2] < 6:
            raise UserError(
                f"{self.path}: expected an output (batch, predictions, 5 + classes) in YOLOv5's layout, found {shape}"
            )
        return shape[2]


def thread_limit() -> int:
    """Number of threads for a runtime; 0 leaves it to the runtime.

    OMP_NUM_THREADS where it is set, as in torch; else the cores of this process where the machine has more, which not
    all runtimes respect.
    """
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isdecimal() and int(text):
        return int(text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores if cores != os.cpu_count() else 0


def _decode(predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (..., 5 + nc), which are overwritten, -> boxes (..., 4) xyxy, scores (..., nc)."""
    center, half = predictions[..., :2], predictions[..., 2:4] / 2
    scores = predictions[..., 5:]
    scores *= predictions[..., 4:5]  # in place: with many classes this is most of the memory
    return np.concatenate((center - half, center + half), axis=-1), scores
