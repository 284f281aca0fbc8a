"""Weights of a single block or backbone into one row of a model."""

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

ROW_PREFIXES = ("", "backbone.", "model.", "module.backbone.")  # that published files put before a block's own names

DEFAULT_EPS = 1e-5  # of batch norms in torch and PaddlePaddle

_UNKNOWN = "no such weight in the row"

Names = dict[str, str]
"""Name of a tensor of the row -> name in the file."""


@torch.no_grad()
def load_into_row(model: DetectionModel, row: int | str, weights: WeightsFile) -> TransferReport:
    """Copy weights of a single block or backbone, named as its publishers name them, into one row, in place.

    Names may begin with one of `ROW_PREFIXES`. Where they do not give all parameters of the row, its layers are matched
    by structure, see `graftdet.models.weights.backbones.structure_matching`; what gives more parameters is copied.
    Activations and the connections between layers are not in the file: they are those of the row, and `deviation`
    measures whether the batch norms fit them. Tensors that the row does not have, such as a classifier's, are skipped.

    Batch norms whose eps differs between the model and the block alone are rescaled so that their output in eval mode
    stays the same. Layers matched by structure are of another publisher, and taken to have torch's default.

    Args:
        model: the model to change.
        row: the index of a row, from 0, or its name.
        weights: the file to copy from.

    Returns:
        What was copied; `fraction` refers to the row's parameters.

    Raises:
        UserError: the model has no such row, nothing fits, or layers fit in more than one way.
    """
    index = _find_row(model, row)
    layer, module = model.model[index], model.spec.rows[index].module
    own = layer.state_dict()
    sizes = {name: parameter.numel() for name, parameter in layer.named_parameters()}
    by_name, skipped = _match_names(weights, own, getattr(layer, "published_prefix", ""))
    by_structure, problem = _match_structure(weights, own) if sizes.keys() - by_name.keys() else ({}, "")
    report = TransferReport(by_structure=_count(by_structure, sizes) > _count(by_name, sizes))
    sources = by_structure if report.by_structure else by_name
    copied = _count(sources, sizes)
    if not copied:
        mismatch = next((f"{name} has {text}" for name, text in skipped.items() if text != _UNKNOWN), None)
        reason = problem or mismatch or f"expected weights of a {module}"
        raise UserError(
            f"{weights.path}: none of its {len(weights.state)} tensors fits row {index} ({module}); {reason}"
        )
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
    _adapt_batch_norms(layer, set(report.loaded), DEFAULT_EPS if report.by_structure else None)
    if report.by_structure and list(model.spec.rows[index].sources) == [IMAGE]:
        report.deviation = measure_deviation(layer, model.channels)
    return report


def _find_row(model: DetectionModel, row: int | str) -> int:
    indices = model.spec.row_names
    index = int(row) if str(row).isdigit() else indices.get(str(row))
    if index is None or index >= len(model.model):
        names = f" or a name ({', '.join(indices)})" if indices else ""
        raise UserError(f"row {row}: the model has no such row, expected 0 to {len(model.model) - 1}{names}")
    return index


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
