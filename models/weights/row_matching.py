"""Weights follow a graft: which row of a weights file each row of a model continues."""

import re
from collections import defaultdict

import torch
from graftdet.models.graph.row_alignment import align
from graftdet.models.spec.model_spec import ModelSpec
from torch import nn

_BOOKKEEPING = "num_batches_tracked"  # a number in every batch norm: says nothing about which one it is


def match_rows(model, state: dict, old: ModelSpec | None = None) -> dict[int, int]:
    """Match the rows of `model` (a `DetectionModel`) with those of the model that `state` came from.

    Args:
        state: weight names `model.<row>.<...>` to tensors.
        old: the YAML that they belong to, where it is known; without it rows are known by their weights alone.

    Returns row of `model` -> row of the file. Rows are aligned in order, by word and by the names and shapes of their
    weights, so that as many tensors as possible come over: a row grafted in shifts those behind it, and a row of the
    same number but another place is not mistaken for one of the same name. What is left over is matched by a row's
    own name, or where word and weights leave one choice only.
    """
    ours = _signatures(model.state_dict(), len(model.model))
    count = len(old.rows) if old else 1 + max((_row_of(name) for name in state), default=-1)
    theirs = _signatures(state, count)
    new_rows = model.spec.rows
    words = [row.word for row in new_rows]
    old_words = [row.word for row in old.rows] if old else [None] * count

    def score(i: int, j: int) -> float:
        value = _likeness(ours[i], theirs[j], words[i], old_words[j])
        if value and old and new_rows[i].name and new_rows[i].name == old.rows[j].name:
            value += 0.25
        return value + 0.01 * (value > 0 and i == j)

    matched = align(len(ours), count, score)
    used = set(matched.values())
    left = [i for i in range(len(ours)) if i not in matched and ours[i]]
    for i in left:
        named = [
            j
            for j in range(count)
            if old and j not in used and old.rows[j].name and old.rows[j].name == new_rows[i].name
        ]
        same = [j for j in range(count) if j not in used and theirs[j] == ours[i] and old_words[j] in (None, words[i])]
        alone = len(same) == 1 and sum(ours[k] == ours[i] and words[k] == words[i] for k in left) == 1
        choice = next((j for j in named if score(i, j) > 0), same[0] if alone else None)
        if choice is not None:
            matched[i] = choice
            used.add(choice)
    return dict(sorted(matched.items()))


def match_weights(model, state: dict, rows: dict[int, int]) -> dict[str, str]:
    """Weight name in `model` -> name in `state`, for every name whose row has one in `rows` and which the file has."""
    names = {}
    for name in model.state_dict():
        row = _row_of(name)
        if row in rows:
            source = f"model.{rows[row]}.{name.split('.', 2)[2]}"
            if source in state:
                names[name] = source
    return names


def rows_put_in(model, state: dict, rows: dict[int, int]) -> list[int]:
    """Rows of `model` that are new, where every row of the file that has weights is there still; else none: what is new
    then stands in the place of something else."""
    with_weights = {_row_of(name) for name in state} - {-1}
    if not with_weights <= set(rows.values()):
        return []
    return [
        index for index, layer in enumerate(model.model) if index not in rows and any(True for _ in layer.parameters())
    ]


def describe_moves(rows: dict[int, int]) -> str:
    """`rows 6-25 are rows 5-24 of the file`, for those that have another number there; '' where none has."""
    spans: list[list[int]] = []  # first, last, shift
    for new, old in sorted(rows.items()):
        if spans and spans[-1][2] == old - new:
            spans[-1][1] = new
        else:
            spans.append([new, new, old - new])

    def span(first, last):
        return f"row {first} is row" if first == last else f"rows {first}-{last} are rows"

    told = [
        f"{span(first, last)} {first + shift}{'' if first == last else f'-{last + shift}'}"
        for first, last, shift in spans
        if shift
    ]
    return ", ".join(told) + " of the file" if told else ""


def describe_scales(new: ModelSpec, old: ModelSpec | None) -> str:
    """`; width_multiple is 0.25, in the file 0.5`: why rows of one text have other shapes; '' where they scale alike."""
    told = ""
    for key in ("width_multiple", "depth_multiple", "max_channels"):
        if old and getattr(new, key) != getattr(old, key):
            told += f"; {key} is {getattr(new, key):g}, in the file {getattr(old, key):g}"
    return told


def _row_of(name: str) -> int:
    found = re.match(r"model\.(\d+)\.", name)
    return int(found[1]) if found else -1


def _signatures(state: dict, count: int) -> list[frozenset]:
    """Names, behind the row's number, and shapes of each row's tensors."""
    rows = defaultdict(set)
    for name, tensor in state.items():
        if not name.endswith(_BOOKKEEPING):
            rows[_row_of(name)].add((name.split(".", 2)[-1], tuple(tensor.shape)))
    return [frozenset(rows[index]) for index in range(count)]


def _likeness(ours: frozenset, theirs: frozenset, word: str, old_word: str | None) -> float:
    """How many tensors come over; a part of one where none does, for rows that belong together all the same."""
    if not ours and not theirs:
        return 0.5 if word == old_word else 0.0
    common = len(ours & theirs)
    if ours == theirs:
        return common + 0.5 if old_word in (None, word) else 0.9 * common
    if old_word not in (None, word):
        return 0.0
    if any(len(shape) > 1 for _, shape in ours & theirs):
        return common
    same_names = {name for name, _ in ours} == {name for name, _ in theirs}
    return 0.1 if same_names and ours else 0.0  # the same row at another width: told, though nothing fits


@torch.no_grad()
def keep_what_norms_give(layer: nn.Module, loaded: set[str]) -> None:
    """Scale the norms whose weights were `loaded` for the difference between the block's own eps and that of a model."""
    for name, norm in layer.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(norm, nn.BatchNorm2d) and {f"{prefix}weight", f"{prefix}running_var"} <= loaded:
            variance = norm.running_var.clamp(min=0)
            norm.weight.mul_(((variance + norm.eps) / (variance + norm.block_eps)).sqrt())
