"""Weights of a single block or backbone into one row or several rows of a model."""

from collections.abc import Mapping

import torch
from torch import nn

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.spec.row import IMAGE
from graftdet.models.weights.backbones.statistics_check import measure_deviation
from graftdet.models.weights.backbones.structure_matching import AmbiguousStructureError, match_structure
from graftdet.models.weights.transfer import TransferReport
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

ROW_PREFIXES = ("", "backbone.", "model.", "module.backbone.")  # that published files put before a block's own names

DEFAULT_EPS = 1e-5  # of batch norms in torch and PaddlePaddle

_UNKNOWN = "no such weight in the row"

Names = dict[str, str]
"""Name of a tensor of the row -> name in the file."""


@torch.no_grad()
def load_into_row(model: DetectionModel, row: int | str, weights: WeightsFile) -> TransferReport:
    """Copy weights of a single block or backbone, named as its publishers name them, into one row, in place.

    The tensors of several rows are those of one block under their names in the model (`model.3.conv.weight`), as files
    of whole models have them, with the model's eps.

    Names may begin with one of `ROW_PREFIXES`. Where they do not give all parameters of the row, its layers are matched
    by structure, see `graftdet.models.weights.backbones.structure_matching`; what gives more parameters is copied.
    Activations and the connections between layers are not in the file: they are those of the row, and `deviation`
    measures whether the batch norms fit them. Tensors that the row does not have, such as a classifier's, are skipped.

    Batch norms whose eps differs between the model and the block alone are rescaled so that their output in eval mode
    stays the same. Layers matched by structure are of another publisher, and taken to have torch's default.

    Args:
        model: the model to change.
        row: the index of a row, from 0, its name, or the first and the last index of several (`0-9`).
        weights: the file to copy from.

    Returns:
        What was copied; `fraction` refers to the parameters of the row, or of all the rows.

    Raises:
        UserError: the model has no such row, nothing fits, or layers fit in more than one way.
    """
    indices = _find_rows(model, row)
    rows = {f"model.{index}." if len(indices) > 1 else "": model.model[index] for index in indices}
    own = {prefix + name: tensor for prefix, layer in rows.items() for name, tensor in layer.state_dict().items()}
    sizes = {prefix + name: p.numel() for prefix, layer in rows.items() for name, p in layer.named_parameters()}
    published_prefix = getattr(rows.get(""), "published_prefix", "")
    by_name, skipped = _match_names(weights, own, published_prefix)
    by_structure, problem = _match_structure(weights, own) if sizes.keys() - by_name.keys() else ({}, "")
    report = TransferReport(by_structure=_count(by_structure, sizes) > _count(by_name, sizes))
    sources = by_structure if report.by_structure else by_name
    copied = _count(sources, sizes)
    if not copied:
        mismatch = next((f"{name} has {text}" for name, text in skipped.items() if text != _UNKNOWN), "")
        modules = [model.spec.rows[index].module for index in indices]
        raise _nothing_fits(weights, row, modules, problem or mismatch)
    for name, source in sources.items():
        own[name].copy_(weights.state[source])
    report.loaded = [name for name in own if name in sources]
    report.missing = [name for name in own if name not in sources]
    report.skipped = (
        {name: "no such layer in the row" for name in weights.state if name not in set(sources.values())}
        if report.by_structure
        else skipped
    )
    report.left_over = list(dict.fromkeys(_top_module(name) for name in weights.state if name in report.skipped))
    report.fraction = copied / sum(sizes.values())
    for prefix, layer in rows.items() if report.by_structure or len(indices) == 1 else ():
        loaded = {name.removeprefix(prefix) for name in report.loaded if name.startswith(prefix)}
        _adapt_batch_norms(layer, loaded, DEFAULT_EPS if report.by_structure else None)
    if report.by_structure and len(indices) == 1 and list(model.spec.rows[indices[0]].sources) == [IMAGE]:
        report.deviation = measure_deviation(model.model[indices[0]], model.channels)
    return report


def _nothing_fits(weights: WeightsFile, row: int | str, modules: list[str], problem: str) -> UserError:
    """The error where no tensor of the file fits rows of these modules."""
    if len(modules) == 1:
        rows, expected = f"row {row} ({modules[0]})", f"expected weights of a {modules[0]}"
    else:
        rows, expected = f"rows {row}", f"expected weights of {', '.join(modules)}"
    return UserError(
        f"{weights.path}: none of its {counted(len(weights.state), 'tensor')} fits {rows}; {problem or expected}"
    )


def _find_rows(model: DetectionModel, row: int | str) -> list[int]:
    """The indices of a row, or of a range of rows that have tensors."""
    names, last = model.spec.row_names, len(model.model) - 1
    first, dash, end = str(row).partition("-")
    if dash and first.isdigit() and end.isdigit() and str(row) not in names:
        if not int(first) <= int(end) <= last:
            raise UserError(f"rows {row}: the model has rows 0 to {last}; expected a range such as 0-9")
        return [index for index in range(int(first), int(end) + 1) if model.model[index].state_dict()] or [int(first)]
    index = int(row) if str(row).isdigit() else names.get(str(row))
    if index is None or index > last:
        listed = f" or a name ({', '.join(names)})" if names else ""
        raise UserError(f"row {row}: the model has no such row, expected 0 to {last}{listed}")
    return [index]


def _match_names(
    weights: WeightsFile, own: Mapping[str, torch.Tensor], own_prefix: str
) -> tuple[Names, dict[str, str]]:
    """What agrees in name and shape behind the prefix that makes most names agree, and why the rest does not.

    Names of the row may begin with `own_prefix`, which those in the publisher's files do not have, and then have `_`
    for `.`, see `graftdet.models.graph.plugins.timm_models`.
    """

    def plain(name: str) -> str:
        return name.replace(".", "_") if own_prefix else name

    states = [
        {plain(own_prefix + name.removeprefix(prefix)): name for name in weights.state if name.startswith(prefix)}
        for prefix in ROW_PREFIXES
    ]
    keys = {plain(name): name for name in own}
    names = max(states, key=lambda state: len(keys.keys() & state.keys()))
    matched: Names = {}
    skipped = {name: _UNKNOWN for key, name in names.items() if key not in keys}
    for key, name in keys.items():
        if key not in names:
            continue
        theirs, ours = (tuple(tensor.shape) for tensor in (weights.state[names[key]], own[name]))
        if theirs == ours:
            matched[name] = names[key]
        else:
            skipped[names[key]] = f"shape {theirs}, the row has {ours}"
    return matched, skipped


def _match_structure(weights: WeightsFile, own: Mapping[str, torch.Tensor]) -> tuple[Names, str]:
    """What agrees in structure, and why nothing does where the structure is ambiguous."""
    try:
        return match_structure(own, weights.state), ""
    except AmbiguousStructureError as error:
        return {}, f"its layers cannot be matched by structure: {error}"


def _count(names: Names, sizes: Mapping[str, int]) -> int:
    """Number of parameters among `names`."""
    return sum(sizes.get(name, 0) for name in names)


def _top_module(name: str) -> str:
    """`fpn` of fpn.output1.0.weight: the first part of a name that is not a prefix."""
    for prefix in sorted(ROW_PREFIXES, key=len, reverse=True):
        if name.startswith(prefix):
            return name.removeprefix(prefix).split(".")[0]
    return name


def _adapt_batch_norms(layer: nn.Module, loaded: set[str], eps: float | None) -> None:
    """Rescale the `loaded` batch norms, trained with `eps` (None: that of the block alone), for the model's eps."""
    for name, batch_norm in layer.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(batch_norm, nn.BatchNorm2d) and {f"{prefix}weight", f"{prefix}running_var"} <= loaded:
            variance = batch_norm.running_var.clamp(min=0)
            ratio = (variance + batch_norm.eps) / (variance + (eps or batch_norm.block_eps))  # type: ignore[operator]
            batch_norm.weight.mul_(ratio.sqrt())
