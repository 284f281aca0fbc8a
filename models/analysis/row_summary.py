"""Structure and cost of one row of a model, and their sums. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RowSummary:
    """Structure and cost of one row of a model.

    Attributes:
        index: Of the row, over backbone and head.
        name: The row's own name, or "".
        sources: Rows that it reads, -1 for the image.
        number: Repeats.
        module: Name of the block or head.
        args: Constructor arguments as text.
        shapes: (c, h, w) of each output; empty for a row that cannot be built.
        params: Number of parameters.
        unused: Number of parameters that are frozen because no output depends on them.
        macs: Multiply-adds of convolutions, matrix products and normalization layers, for one image.
    """

    index: int
    name: str
    sources: tuple[int, ...]
    number: int
    module: str
    args: str
    shapes: tuple[tuple[int, ...], ...]
    params: int
    unused: int
    macs: int


def totals(rows: Sequence[RowSummary]) -> dict[str, int]:
    """Return the sums over all rows: params, unused, macs, flops (2 x multiply-adds)."""
    sums = {key: sum(getattr(row, key) for row in rows) for key in ("params", "unused", "macs")}
    return {**sums, "flops": 2 * sums["macs"]}
