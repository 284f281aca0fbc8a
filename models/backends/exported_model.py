"""What the exported formats have in common: input, metadata, and the layout of the output. NumPy only, no torch."""

import logging
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends.layouts.output_layout import OutputLayout, stack_rows
from graftdet.models.backends.layouts.own_outputs import OwnOutput
from graftdet.models.backends.layouts.raw_decoding import MalformedRaw
from graftdet.models.backends.layouts.recognition import UnknownLayout, choose_output, recognize
from graftdet.models.backends.limits.size_limits import check_declared_sizes, check_label
from graftdet.models.backends.metadata import is_own, parse_names, parse_size, parse_stride, parse_value
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.errors import UserError
from graftdet.utils.images.letterbox import GRAY
from graftdet.utils.processor import usable_cores

logger = logging.getLogger(__name__)
UNKNOWN_CLASSES = 80
"""Number of placeholder names for end-to-end files without class names; more are added when they are detected."""
_PADDING = np.float32(GRAY / 255)
_SCALE = np.float32(1 / 255)


class ExportedModel(Predictor):
    """A model in an exported file. A subclass opens the file, calls `_describe` and defines `_run`.

    Attributes:
        path: the file.
        channels: channels of the input.
        fixed_batch: the only batch size that the file takes; None: any.
        layout: how the output is read.
        metadata: the file's metadata.
    """

    path: Path
    metadata: dict[str, str]
    channels: int
    fixed_batch: int | None
    layout: OutputLayout
    _output_indices: Sequence[int] = (0,)
    _own: OwnOutput | None = None

    @abstractmethod
    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the file once.

        Args:
            images: (B, C, H, W) in 0..1, of the file's input type and of a batch and size that it takes.

        Returns:
            The outputs `_output_indices`, arrays that no later call changes.
        """

    def _describe(
        self,
        input_shape: Sequence[int | None],
        outputs: Sequence[tuple[str, Sequence[int | None]]],
        metadata: Mapping[str, str],
        dtype: type = np.float32,
    ) -> None:
        """Set the attributes of a `Predictor`.

        Args:
            input_shape: (batch, channels, height, width), None where any is taken.
            outputs: name and shape of each output, None where a side varies.
            metadata: the file's metadata.
            dtype: NumPy type of the input.

        Raises:
            UserError: the input is not an image, or the output has a layout that is not known.
        """
        check_declared_sizes(self.path, input_shape, outputs, metadata)
        self.metadata = dict(metadata)
        self.fixed_batch, channels, height, width = input_shape
        self._dtype, self.channels = dtype, channels or 3
        if not is_own(metadata) and self.channels not in (1, 3):
            raise UserError(f"{self.path}: expected an input (batch, 3, height, width), found {list(input_shape)}")
        self.stride = parse_stride(metadata.get("stride"))
        self.fixed_size = (height, width) if height and width else None
        square = metadata.get("square_letterbox", metadata.get("squares"))  # the older key
        self.square_letterbox = parse_value(square) is True
        size = parse_size(metadata.get("size") or metadata.get("imgsz"))
        self.train_size = max(self.fixed_size or size or (640,))
        names = parse_names(metadata.get("names"))
        try:
            self.layout = self._find_layout(outputs, names, metadata)
        except UnknownLayout as error:
            convert = "weights of NanoDet and YOLOX become a .pt file by 'python -m models import FILE OUT.pt'"
            raise UserError(f"{self.path}: {error}; {convert}") from None
        self.needs_nms = parse_value(metadata.get("needs_nms")) is not False and self.layout.needs_nms
        nc = self.layout.num_classes or len(names or ()) or UNKNOWN_CLASSES
        numbers = [str(index) for index in range(nc)]
        self.names = names if names and len(names) == nc else [f"class{number}" for number in numbers]
        self.names_known = self.names is names and names != numbers
        if not is_own(metadata):
            if "stride" not in metadata and self.layout.stride:
                self.stride = self.layout.stride
            logger.info(f"{self.path}: read as {self.layout}")

    def _find_layout(
        self,
        outputs: Sequence[tuple[str, Sequence[int | None]]],
        names: list[str] | None,
        metadata: Mapping[str, str],
    ) -> OutputLayout:
        """The layout of the output: of own files by their metadata, of others by what they give for noise."""
        nc = parse_value(metadata.get("nc"))
        nc = nc if isinstance(nc, int) and nc > 0 else None
        if is_own(metadata) and nc:
            self._own = OwnOutput(outputs, metadata, nc)
            self._output_indices = self._own.indices
            return self._own.layout
        self._output_indices = [choose_output(outputs)]
        images, output = self._probe(parse_size(metadata.get("size") or metadata.get("imgsz")))
        if output.ndim == 2 and self.fixed_batch is None and output.shape[1] == 6:
            self.fixed_batch = 1  # nothing says which image of a batch a row belongs to
        return recognize(output, images.shape[2:], len(names) if names else nc, metadata)

    def _probe(self, trained: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        """Noise, and the output for it. A size that is not fixed is chosen; a file may not take every size."""
        sizes = [self.fixed_size] if self.fixed_size else [size for size in ((256, 320), trained, (640, 640)) if size]
        for size in sizes:
            images = _noise((self.fixed_batch or 1, self.channels, *size)).astype(self._dtype)
            try:
                return images, self._run(images)[0]
            except UserError:
                if size == sizes[-1]:
                    raise
        raise AssertionError("unreachable: the last size returns or raises")

    def forward(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1 -> arrays of boxes (B, N, 4) xyxy and scores (B, N, nc)."""
        return self._decode(self.predictions(images), images.shape[2:])

    def candidates(self, images: Any, conf: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `Predictor`; boxes are omitted where a column, such as the objectness, limits their scores."""
        size = images.shape[2:]
        return [self._decode(rows[self.layout.upper_bound(rows) > conf], size) for rows in self.predictions(images)]

    def predictions(self, images: Any) -> np.ndarray:
        """The output of the file, as rows.

        With a fixed batch size, incomplete batches are padded with zeros. Images smaller than a fixed size are padded
        at the right and bottom, which moves no box.

        Args:
            images: RGB (B, 3, H, W), uint8 0..255 or float 0..1, array or tensor.

        Returns:
            (B, N, columns) float32, as `layout` states; of an own file with the output "decoded" (B, N, 5 + nc): cx,
            cy, w, h in pixels, objectness, class probabilities.
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
            results.append(self._rows(self._run(batch), batch)[: len(chunk)])
        return stack_rows(results)

    def _rows(self, outputs: list[np.ndarray], images: np.ndarray) -> np.ndarray:
        """The outputs for images (B, C, H, W) as rows (B, N, columns)."""
        if self._own is None:
            return self.layout.to_rows(outputs[0], len(images))
        try:
            return self._own.to_rows(outputs, images.shape[2:])
        except MalformedRaw as error:
            raise UserError(f"{self.path}: {error}") from None

    def _decode(self, rows: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows (..., columns), which are overwritten, -> boxes (..., 4) xyxy in pixels, scores (..., nc)."""
        if self.layout.end_to_end and not self.names_known:
            highest = int(self.layout.labels(rows).max(initial=0))
            check_label(self.path, highest)
            self.names += [f"class{number}" for number in range(self.nc, highest + 1)]
        return self.layout.decode(rows, self.fixed_size or size, self.nc)

    def _pad_to_fixed_size(self, images: np.ndarray) -> np.ndarray:
        sides = images.shape[2:]
        missing = [full - side for full, side in zip(self.fixed_size or sides, sides, strict=True)]
        if max(missing) <= 0 or min(missing) < 0:
            return images
        return np.pad(images, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), constant_values=_PADDING)


def thread_limit() -> int:
    """Number of threads for a runtime; 0 leaves it to the runtime.

    OMP_NUM_THREADS where it is set, as in torch; else the cores of this process where the machine has more, which not
    all runtimes respect.
    """
    text = os.environ.get("OMP_NUM_THREADS", "")
    if text.isdecimal() and int(text):
        return int(text)
    cores = usable_cores()
    return cores if cores != os.cpu_count() else 0


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    """Images (B, C, H, W) in 0..1 of noise in squares of 16 pixels, and of finer noise."""
    random, (*_, height, width) = np.random.default_rng(0), shape
    coarse = random.random((*shape[:2], -(-height // 16), -(-width // 16)), np.float32)
    coarse = coarse.repeat(16, axis=2).repeat(16, axis=3)[..., :height, :width]
    return 0.7 * coarse + 0.3 * random.random(shape, np.float32)
