"""Output shape, parameters and multiply-adds of each row of a model, before any tensor exists."""

import math
import threading
from dataclasses import dataclass

from graftdet.models.arithmetic.loader import loader
from graftdet.models.arithmetic.module import Module
from graftdet.models.arithmetic.substitutes import run
from graftdet.models.arithmetic.tensor import MACS, Unsupported
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import Row
from graftdet.utils.errors import UserError

LOCK = threading.RLock()
"""Held while something is computed: the counters of modules and multiply-adds belong to one model at a time."""
Shape = tuple[int, int, int]
"""Channels, height, width of a map."""


@dataclass(frozen=True)
class RowCost:
    """What one row costs.

    Attributes:
        index: of the row.
        inputs: shape that it reads, or a list of them.
        shape: its output, a list of shapes for a whole backbone; of the head, the shapes that it reads.
        params: number of parameters.
        macs: multiply-adds for one image, as `graftdet summary` counts them.
    """

    index: int
    inputs: Shape | list[Shape]
    shape: Shape | list[Shape]
    params: int
    macs: int


def row_costs(spec: ModelSpec, channels: int | None = None, size: tuple[int, int] = (640, 640)) -> list[RowCost | None]:
    """Compute what each row costs, without torch and without memory for weights.

    Args:
        spec: the model, with its number of classes.
        channels: of the image; None takes the file's.
        size: (height, width) of the image.

    Returns:
        One entry per row. None for rows that cannot be built, whose code uses something of torch that the arithmetic
        does not know, and that read such rows.
    """
    image = (channels or spec.channels, *size)
    costs: list[RowCost | None] = []
    with LOCK:
        Module.restart_count()
        for row in spec.rows:
            try:
                costs.append(_cost_of(spec, row, costs, image))
            except (Unsupported, UserError):
                costs.append(None)
    return costs


def level_strides(spec: ModelSpec, costs: list[RowCost | None], size: int = 640) -> list[float] | None:
    """Pixels per cell of each level of the head, from the costs of all rows at `size`.

    None where a row has no cost, or a stride is no power of two: that at other sizes may differ.
    """
    head = costs[-1] if None not in costs else None
    if head is None or not isinstance(head.shape, list):
        return None
    strides = [size / height for _, height, _ in head.shape]
    if any(not math.log2(stride).is_integer() for stride in strides):
        return None
    has_auxiliary_levels = loader().load("graftdet.models.heads").HEADS[spec.rows[-1].module].has_auxiliary_levels
    return strides[: len(strides) // 2] if has_auxiliary_levels else strides


def _cost_of(spec: ModelSpec, row: Row, costs: list[RowCost | None], image: Shape) -> RowCost | None:
    if any(source >= 0 and costs[source] is None for source in row.sources):
        return None
    shapes = [None if cost is None else cost.shape for cost in costs]
    find_and_build = loader().load("graftdet.models.graph.row_builder").find_and_build
    with loader().load("graftdet.models.blocks.activations").default_activation(spec.activation):
        layer, _, inputs, shape = find_and_build(spec, row, shapes, image)
    MACS.take()
    run(layer, inputs)
    return RowCost(row.index, inputs, shape, sum(parameter.numel() for parameter in layer.parameters()), MACS.take())
