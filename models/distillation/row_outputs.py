"""What single rows of a model read and compute, without a forward pass through the rows behind them."""

from collections.abc import Collection
from typing import Any

import torch

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.spec.row import IMAGE


def row_inputs(model: DetectionModel, images: torch.Tensor, rows: Collection[int]) -> dict[int, Any]:
    """Run `model` in its present mode up to the last of `rows`.

    Args:
        model: the model.
        images: (B, C, H, W) in 0..1.
        rows: indices of rows.

    Returns:
        Row -> what it reads: one map (B, c, H, W), or a list of maps.
    """
    return {row: read for row, (read, _) in _run(model, images, rows, max(rows, default=-1)).items()}


def row_outputs(model: DetectionModel, images: torch.Tensor, rows: Collection[int]) -> dict[int, Any]:
    """Run `model` as `row_inputs` does; row -> its output."""
    return {row: output for row, (_, output) in _run(model, images, rows, max(rows, default=-1) + 1).items()}


def _run(model: DetectionModel, images: torch.Tensor, rows: Collection[int], count: int) -> dict[int, tuple[Any, Any]]:
    """Row -> input and output, from the first `count` rows; the output of the next one is None."""
    outputs: list[Any] = []
    found = {}
    for row, layer in zip(model.spec.rows[: max(rows, default=-1) + 1], model.model, strict=False):
        maps = [images if source == IMAGE else outputs[source] for source in row.sources]
        read = maps if row.joined else maps[0]
        outputs.append(layer(read) if row.index < count else None)
        if row.index in rows:
            found[row.index] = read, outputs[-1]
    return found
