"""Structure and cost of one row of a model, and their sums. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from graftdet.models.spec.row import scale_depth


@dataclass(frozen=True)
class RowSummary:
    """Structure and cost of one row of a model.

    Attributes:
        index: Of the row, over backbone and head.
        name: The row's own name, or "".
        sources: Rows that it reads, -1 for the image.
        number: Repeats as written, before the depth multiple.
        module: Name of the block or head.
        args: Constructor arguments as text.
        shapes: (c, h, w) of each output; empty for a row that cannot be built.
        params: Number of parameters.
        unused: Number of parameters that are frozen because no output depends on them.
        macs: Multiply-adds of convolutions, matrix products and normalization layers, for one image.
        depth_multiple: Depth multiple of the model.
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
    depth_multiple: float = 1.0

    @property
    def repeats(self) -> str:
        """The number of blocks that are built, after the module's name: ` x3 (9 x 0.33)`, ` x3`; empty for one."""
        built = scale_depth(self.number, self.depth_multiple)
        if built != self.number:
            return f" x{built} ({self.number} x {self.depth_multiple:g})"
        return f" x{built}" if built > 1 else ""


def totals(rows: Sequence[RowSummary]) -> dict[str, int]:
    """Return the sums over all rows: params, unused, macs, flops (2 x multiply-adds)."""
    sums = {key: sum(getattr(row, key) for row in rows) for key in ("params", "unused", "macs")}
    return {**sums, "flops": 2 * sums["macs"]}
