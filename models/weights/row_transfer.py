"""Weights of a single block or backbone into one row of a model."""

import torch
from torch import nn

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.weights.transfer import TransferReport
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError

ROW_PREFIXES = ("", "backbone.", "model.", "module.backbone.")  # that published files put before a block's own names


@torch.no_grad()
def load_into_row(model: DetectionModel, row: int | str, weights: WeightsFile) -> TransferReport:
    """Copy weights of a single block or backbone, named as its publishers name them, into one row, in place.

    Names may begin with one of `ROW_PREFIXES`. Tensors that the row does not have, such as a classifier's, are skipped.
    Batch norms whose eps differs between the model and the block alone are rescaled so that their output in eval mode
    stays the same.

    Args:
        model: the model to change.
        row: the index of a row, from 0, or its name.
        weights: the file to copy from.

    Returns:
        What was copied; `fraction` refers to the row's parameters.

    Raises:
        UserError: the model has no such row, or nothing fits.
    """
    index = _find_row(model, row)
    layer = model.model[index]
    own, parameters = layer.state_dict(), dict(layer.named_parameters())
    state = _without_prefix(weights, own)
    report = TransferReport()
    for name, target in own.items():
        if name in state and state[name].shape == target.shape:
            target.copy_(state[name])
            report.loaded.append(name)
        else:
            report.missing.append(name)
            if name in state:
                report.skipped[name] = f"shape {tuple(state[name].shape)}, the row has {tuple(target.shape)}"
    report.skipped.update({name: "no such weight in the row" for name in state if name not in own})
    _adapt_batch_norms(layer, set(report.loaded))
    copied = sum(parameters[name].numel() for name in report.loaded if name in parameters)
    if not copied:
        module = model.spec.rows[index].module
        mismatch = next((f"{name} has {text}" for name, text in report.skipped.items() if name in own), None)
        reason = mismatch or f"expected weights of a {module}"
        raise UserError(
            f"{weights.path}: none of its {len(weights.state)} tensors fits row {index} ({module}); {reason}"
        )
    report.fraction = copied / sum(p.numel() for p in parameters.values())
    return report


def _find_row(model: DetectionModel, row: int | str) -> int:
    indices = model.spec.row_names
    index = int(row) if str(row).isdigit() else indices.get(str(row))
    if index is None or index >= len(model.model):
        names = f" or a name ({', '.join(indices)})" if indices else ""
        raise UserError(f"row {row}: the model has no such row, expected 0 to {len(model.model) - 1}{names}")
    return index


def _without_prefix(weights: WeightsFile, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of the file without the prefix that makes most of their names agree with the row's `own`."""
    states = [
        {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
        for prefix in ROW_PREFIXES
    ]
    return max(states, key=lambda state: len(own.keys() & state.keys()))


def _adapt_batch_norms(layer: nn.Module, loaded: set[str]) -> None:
    """Rescale the `loaded` batch norms for the difference between the block's own eps and the model's."""
    for name, batch_norm in layer.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(batch_norm, nn.BatchNorm2d) and {f"{prefix}weight", f"{prefix}running_var"} <= loaded:
            variance = batch_norm.running_var.clamp(min=0)
            ratio = (variance + batch_norm.eps) / (variance + batch_norm.block_eps)  # type: ignore[operator]
            batch_norm.weight.mul_(ratio.sqrt())
