"""Weights follow a graft: which row of a weights file each row of a model continues."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.row_alignment import align
from graftdet.models.spec.model_spec import ModelSpec

COUNTER = "num_batches_tracked"  # in every batch norm alike: does not help to tell rows apart; old files lack it

_WITHOUT_WEIGHTS = ("Concat", "ADD", "Index", "nn.Upsample", "nn.MaxPool2d")

RowSignature = frozenset[tuple[str, tuple[int, ...]]]
"""Tensor names, without the row's number, and shapes of one row."""


def match_rows(
    model: DetectionModel, state: Mapping[str, torch.Tensor], old: ModelSpec | None = None
) -> dict[int, int]:
    """Match the rows of `model` with those of the model that `state` comes from.

    Rows are aligned in order, by module name and by the names and shapes of their tensors, so that as many tensors as
    possible are transferred; another module matches where it has all tensors of the old one (C3CBAM for C3), or the
    reverse. An inserted row shifts those behind it, and a row of equal number at another position is not mistaken for
    the same row. Remaining rows are matched by their own name, or where module and tensors leave only one choice.

    Args:
        model: the model to load into.
        state: tensor names `model.<row>.<...>` -> tensors.
        old: the spec that `state` belongs to, where it is known; without it rows are matched by tensors alone.

    Returns:
        Row of `model` -> row of the file.
    """
    ours = _signatures(model.state_dict(), len(model.model))
    count = len(old.rows) if old else 1 + max((_row_of(name) for name in state), default=-1)
    theirs = _signatures(state, count)
    new_rows = model.spec.rows
    modules = [row.module for row in new_rows]
    old_modules = [row.module for row in old.rows] if old else [None] * count

    def score(i: int, j: int) -> float:
        value = _similarity(ours[i], theirs[j], modules[i], old_modules[j])
        if value and old and new_rows[i].name and new_rows[i].name == old.rows[j].name:
            value += 0.25
        return value + 0.01 * (value > 0 and i == j)

    matched = align(len(ours), count, score)
    used = set(matched.values())
    unmatched = [i for i in range(len(ours)) if i not in matched and ours[i]]
    for i in unmatched:
        free = [j for j in range(count) if j not in used]
        same_name = [j for j in free if old and new_rows[i].name and old.rows[j].name == new_rows[i].name]
        same = [j for j in free if theirs[j] == ours[i] and old_modules[j] in (None, modules[i])]
        unique = len(same) == 1 and sum(ours[k] == ours[i] and modules[k] == modules[i] for k in unmatched) == 1
        choice = next((j for j in same_name if score(i, j) > 0), same[0] if unique else None)
        if choice is not None:
            matched[i] = choice
            used.add(choice)
    return dict(sorted(matched.items()))


def match_weights(model: DetectionModel, state: Mapping[str, torch.Tensor], rows: dict[int, int]) -> dict[str, str]:
    """Tensor name in `model` -> name in `state`, for the matched `rows` and the names that the file has."""
    names = {}
    for name in model.state_dict():
        row = _row_of(name)
        if row in rows:
            source = f"model.{rows[row]}.{name.split('.', 2)[2]}"
            if source in state:
                names[name] = source
    return names


def find_inserted_rows(model: DetectionModel, state: Mapping[str, torch.Tensor], rows: dict[int, int]) -> list[int]:
    """The new rows of `model` that have parameters, where every row of the file that has tensors is matched.

    Otherwise [], because a new row then replaces another one rather than standing between old ones.
    """
    with_weights = {_row_of(name) for name in state} - {-1}
    if not with_weights <= set(rows.values()):
        return []
    return [
        index for index, layer in enumerate(model.model) if index not in rows and any(True for _ in layer.parameters())
    ]


def find_replaced_rows(model: DetectionModel, original: DetectionModel, rows: dict[int, int]) -> dict[int, int]:
    """Pair the new rows of `model` that have parameters with the rows of `original` that they stand in for.

    Both stand between the same matched rows and have outputs of the same shape; or they are matched, and the new one
    has more tensors than the old one, as C3CBAM has more than C3. Where several do, the last ones are
    paired: their output is what the rows behind them read.

    Args:
        model: the model.
        original: the model that its weights come from.
        rows: row of `model` -> row of `original`, from `match_rows`.

    Returns:
        Row of `model` -> row of `original`; heads are not included.
    """
    new, old = (
        [
            index
            for index, layer in enumerate(one.model)
            if index not in known and layer is not one.head and any(True for _ in layer.parameters())
        ]
        for one, known in ((model, set(rows)), (original, set(rows.values())))
    )

    def score(a: int, b: int) -> float:
        i, j = new[a], old[b]
        shape = model.shapes[i]
        if not isinstance(shape, tuple) or shape != original.shapes[j]:
            return 0.0
        return (1 + 1e-3 * (a + b)) * all((i > k) == (j > m) for k, m in rows.items())

    pairs = {new[a]: old[b] for a, b in align(len(new), len(old), score).items()}
    return dict(sorted({**pairs, **_extended_rows(model, original, rows)}.items()))


def _extended_rows(model: DetectionModel, original: DetectionModel, rows: dict[int, int]) -> dict[int, int]:
    """Matched rows of another module that has all tensors of the old one and more: they start from them."""
    ours = _signatures(model.state_dict(), len(model.model))
    theirs = _signatures(original.state_dict(), len(original.model))
    return {
        i: j
        for i, j in rows.items()
        if theirs[j] < ours[i]
        and model.spec.rows[i].module != original.spec.rows[j].module
        and model.shapes[i] == original.shapes[j]
        and model.model[i] is not model.head
    }


def describe_moves(rows: dict[int, int]) -> str:
    """`rows 6-25 are rows 5-24 of the file`, for matched rows whose number changes; '' where none does."""
    spans: list[list[int]] = []  # first, last, shift
    for new, old in sorted(rows.items()):
        if spans and spans[-1][2] == old - new:
            spans[-1][1] = new
        else:
            spans.append([new, new, old - new])
    parts = []
    for first, last, shift in spans:
        if shift and first == last:
            parts.append(f"row {first} is row {first + shift}")
        elif shift:
            parts.append(f"rows {first}-{last} are rows {first + shift}-{last + shift}")
    return ", ".join(parts) + " of the file" if parts else ""


def row_spans(rows: Iterable[int]) -> str:
    """`rows 2-4, row 7`, for ascending indices."""
    spans: list[list[int]] = []
    for row in rows:
        if spans and row == spans[-1][1] + 1:
            spans[-1][1] = row
        else:
            spans.append([row, row])
    return ", ".join(f"row {first}" if first == last else f"rows {first}-{last}" for first, last in spans)


def describe_scales(new: ModelSpec, old: ModelSpec | None) -> str:
    """`; width_multiple is 0.25, in the file 0.5`: why equal rows have other shapes; '' where they scale alike."""
    text = ""
    for key in ("width_multiple", "depth_multiple", "max_channels"):
        if old and getattr(new, key) != getattr(old, key):
            text += f"; {key} is {getattr(new, key):g}, in the file {getattr(old, key):g}"
    return text


def describe_architectures(new: ModelSpec, old: ModelSpec | None) -> str:
    """Which modules two models are made of, where they have few in common, and what to do; '' where they have many."""
    if old is None:
        return ""
    ours, theirs = ([row.module for row in spec.rows[:-1]] for spec in (new, old))
    weighted = [module for module in ours if module not in _WITHOUT_WEIGHTS]
    if sum(module in theirs for module in weighted) > len(weighted) / 2:
        return ""
    listed = (
        ", ".join([m for m in dict.fromkeys(modules) if m not in _WITHOUT_WEIGHTS][:4]) for modules in (ours, theirs)
    )
    own, other = listed
    return (
        f"; they are of another architecture: {new.file} consists of {own}, the model of the file of {other}; "
        "omit --cfg to train the model of the file, or --weights to start without it"
    )


def _row_of(name: str) -> int:
    found = re.match(r"model\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _signatures(state: Mapping[str, torch.Tensor], count: int) -> list[RowSignature]:
    rows = defaultdict(set)
    for name, tensor in state.items():
        if not name.endswith(COUNTER):
            rows[_row_of(name)].add((name.split(".", 2)[-1], tuple(tensor.shape)))
    return [frozenset(rows[index]) for index in range(count)]


def _similarity(ours: RowSignature, theirs: RowSignature, module: str, old_module: str | None) -> float:
    """How many tensors would be transferred; a small value where none would but the rows still correspond."""
    if not ours and not theirs:
        return 0.5 if module == old_module else 0.0
    common = len(ours & theirs)
    if ours == theirs:
        return common + 0.5 if old_module in (None, module) else 0.9 * common
    if old_module not in (None, module):
        return 0.8 * common if ours and theirs and (ours < theirs or theirs < ours) else 0.0  # C3CBAM has all of C3
    if any(len(shape) > 1 for _, shape in ours & theirs):
        return common
    same_names = {name for name, _ in ours} == {name for name, _ in theirs}
    return 0.1 if same_names and ours else 0.0  # the same row at another width: reported, though nothing fits
