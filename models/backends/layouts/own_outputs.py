"""How this project's own files are read, for each `--output`. NumPy only, no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graftdet.models.backends.layouts.output_layout import OutputLayout
from graftdet.models.backends.layouts.raw_decoding import MalformedRaw, check_raw, decode_raw
from graftdet.models.backends.layouts.recognition import UnknownLayout, describe_shape
from graftdet.models.backends.metadata import parse_value

OUTPUTS = ("raw", "split", "decoded", "nms")
"""Where the graph of an exported file ends, see docs/exported-files.md."""
NAMES = {"split": ("boxes", "scores"), "decoded": ("output0",), "nms": ("boxes", "scores", "classes", "count")}
"""Names of the outputs; those of raw maps are output0, output1, ..."""

Shapes = Sequence[tuple[str, Sequence[int | None]]]


class OwnOutput:
    """Turns the outputs of an own file into rows.

    Args:
        outputs: name and shape of each output.
        metadata: the file's metadata.
        nc: number of classes.

    Attributes:
        layout: how the rows are read.
        indices: numbers of the outputs that `to_rows` takes, in its order.

    Raises:
        UnknownLayout: outputs and metadata do not fit together.
    """

    def __init__(self, outputs: Shapes, metadata: Mapping[str, str], nc: int):
        self.kind, self._nc = metadata.get("output", "decoded"), nc
        if self.kind not in OUTPUTS:
            raise UnknownLayout(f"its metadata name the output '{self.kind}'; expected one of {', '.join(OUTPUTS)}")
        self.layout = self._find_layout()
        names = [name for name, _ in outputs]
        if self.kind == "raw":
            self.indices = list(range(len(outputs)))
            self._raw = _raw(metadata, len(outputs))
            return
        if len(outputs) != len(NAMES[self.kind]):
            listed = ", ".join(f"{name} {describe_shape(shape)}" for name, shape in outputs[:6])
            raise UnknownLayout(f"has the outputs {listed}; expected {', '.join(NAMES[self.kind])}")
        by_name = set(names) == set(NAMES[self.kind])
        self.indices = [names.index(name) if by_name else i for i, name in enumerate(NAMES[self.kind])]
        self._check_columns([shape for _, shape in outputs])

    def _find_layout(self) -> OutputLayout:
        if self.kind == "decoded":
            return OutputLayout(5 + self._nc)
        if self.kind == "nms":
            return OutputLayout(6, corners=True, end_to_end=True)
        return OutputLayout(4 + self._nc, objectness=False, corners=True)

    def _check_columns(self, shapes: Sequence[Sequence[int | None]]) -> None:
        expected = {"decoded": [5 + self._nc], "split": [4, self._nc], "nms": [4]}[self.kind]
        for index, columns in zip(self.indices, expected, strict=False):
            shape = shapes[index]
            if len(shape) != 3 or shape[2] not in (columns, None):
                raise UnknownLayout(
                    f"its output {describe_shape(shape)} does not fit {columns} columns in its metadata"
                )

    def to_rows(self, outputs: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
        """The outputs of one call as rows.

        Args:
            outputs: those of `indices`.
            size: (height, width) of the input.

        Returns:
            (B, N, columns) float32, as `layout` states.

        Raises:
            MalformedRaw: raw maps of another shape than the metadata state.
        """
        if self.kind == "raw":
            return decode_raw(self._as_maps(outputs, size), self._raw, self._nc)
        parts = [output.astype(np.float32, copy=False) for output in outputs]
        if self.kind == "split":
            return np.concatenate(parts, -1)
        if self.kind == "nms":
            boxes, scores, classes, count = parts
            used = np.arange(scores.shape[1]) < count.reshape(-1, 1)  # (B, M)
            return np.concatenate((boxes, (scores * used)[..., None], classes[..., None]), -1)
        return parts[0]

    def _as_maps(self, outputs: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
        """Maps (B, channels, H, W), from those or from cells (B, A, H W, channels)."""
        if self._raw.get("layout") != "cells":
            return list(outputs)
        maps = []
        for y, stride in zip(outputs, self._raw["strides"], strict=True):
            if y.ndim != 4:
                raise MalformedRaw(
                    f"its output {describe_shape(y.shape)} has no cells (batch, anchors, cells, columns)"
                )
            height = -(-size[0] // int(stride))
            y = y.transpose(0, 1, 3, 2).reshape(len(y), y.shape[1] * y.shape[3], height, -1)
            maps.append(y)
        return maps


def _raw(metadata: Mapping[str, str], levels: int) -> dict[str, Any]:
    try:
        return check_raw(parse_value(metadata.get("raw")), levels)
    except MalformedRaw as error:
        raise UnknownLayout(str(error)) from None
