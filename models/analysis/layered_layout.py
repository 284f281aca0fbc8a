"""Layout of a small directed graph in layers, from the top down (Sugiyama et al., 1981). No torch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

SWEEPS = 8


@dataclass(frozen=True)
class LayeredLayout:
    """Positions of nodes, in units of cells.

    Attributes:
        layers: Layer of each node, from 0.
        columns: Column of each node.
        routes: Per edge, the (column, layer) that it passes, source and target included.
    """

    layers: list[int]
    columns: list[float]
    routes: list[list[tuple[float, int]]]


def arrange_layers(sources: Sequence[Sequence[int]]) -> LayeredLayout:
    """Return positions of nodes such that edges lead down, long edges pass beside nodes, and few edges cross.

    Args:
        sources: Of each node, the indices of the nodes before it that it reads.
    """
    layers: list[int] = []
    for own in sources:
        layers.append(max((layers[source] + 1 for source in own), default=0))
    chains = []  # per edge, the cells that it passes; cells beyond the nodes are places that are left free
    cell_layers = list(layers)
    for node, own in enumerate(sources):
        for source in own:
            chain = [source]
            for layer in range(layers[source] + 1, layers[node]):
                chain.append(len(cell_layers))
                cell_layers.append(layer)
            chains.append([*chain, node])
    above: list[list[int]] = [[] for _ in cell_layers]
    below: list[list[int]] = [[] for _ in cell_layers]
    for chain in chains:
        for upper, lower in itertools.pairwise(chain):
            below[upper].append(lower)
            above[lower].append(upper)
    columns = _place(cell_layers, above, below)
    routes = [[(columns[cell], cell_layers[cell]) for cell in chain] for chain in chains]
    return LayeredLayout(layers, columns[: len(layers)], routes)


def _place(layers: list[int], above: list[list[int]], below: list[list[int]]) -> list[float]:
    """The column of each cell: order by the mean of the neighbors, then move towards it as far as there is space."""
    rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
    for cell, layer in enumerate(layers):
        rows[layer].append(cell)
    columns = [0.0] * len(layers)
    for row in rows:
        for position, cell in enumerate(row):
            columns[cell] = position - (len(row) - 1) / 2
    for sweep in range(SWEEPS):
        neighbors, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in order:
            wanted = {cell: _mean([columns[one] for one in neighbors[cell]], columns[cell]) for cell in row}
            row.sort(key=lambda cell: wanted[cell])
            _spread(row, wanted, columns)
    left = min(columns)
    return [round(column - left, 3) for column in columns]


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _spread(row: list[int], wanted: dict[int, float], columns: list[float]) -> None:
    """Set the columns of a row in its order, a cell apart at least, as near to the wanted ones as groups allow."""
    groups: list[tuple[list[int], float]] = []  # cells, and the column of the first
    for cell in row:
        group, start = [cell], wanted[cell]
        while groups and groups[-1][1] + len(groups[-1][0]) > start:
            before, first = groups.pop()
            total = first * len(before) + (start - len(before)) * len(group)
            group, start = before + group, total / (len(before) + len(group))
        groups.append((group, start))
    for group, start in groups:
        for position, cell in enumerate(group):
            columns[cell] = start + position
