"""Initialization of grafted rows: each is fitted to output what the row that it replaces outputs (least squares)."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from graftdet.models.distillation.grafts import Original, check_grafts, load_original, relative_error
from graftdet.models.distillation.head_imitation import imitate_head
from graftdet.models.distillation.row_outputs import row_inputs, row_outputs
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.weights.initial_model import open_initial_weights
from graftdet.models.weights.new_row_init import recompute_batch_norms
from graftdet.models.weights.transfer import MIN_FRACTION_OF_GRAFT, TransferReport
from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)

NUM_STEPS = 150
LEARNING_RATE = 0.02
BATCH = 4


@dataclass
class Imitation:
    """How grafted rows were initialized.

    Attributes:
        rows: grafted row -> row of the original that it replaces.
        errors: row -> mean squared difference of its output and the replaced row's, relative to the variance of the
            latter, for the rows that were initialized; the others keep their random weights.
    """

    rows: dict[int, int]
    errors: dict[int, float] = field(default_factory=dict)

    def __str__(self):
        text = "grafted rows: "
        if self.errors:
            fitted = ", ".join(
                f"{row} like row {self.rows[row]} of the weights ({error:.0%})" for row, error in self.errors.items()
            )
            text += f"initialized by least squares, with the relative error left: {fitted}"
        random = [str(row) for row in self.rows if row not in self.errors]
        if random:
            text += "; " * bool(self.errors) + f"{', '.join(random)} start from random weights"
        return text


def start_grafts(
    model: DetectionModel,
    weights: str,
    transfer: TransferReport,
    images: Callable[[], Iterable[torch.Tensor]],
    *,
    imitate: bool,
    convert_head: bool,
    epochs: int,
) -> Original | None:
    """Initialize the grafted rows of a model by imitation, and return what they are to learn from.

    Args:
        model: the model with its initial weights; changed in place.
        weights: where these come from, as given to `make_model`.
        transfer: what was copied from them; of a resumed run, nothing is known.
        images: gives batches (B, C, H, W) in 0..1; called only where they are needed.
        imitate: whether grafted rows are initialized.
        convert_head: whether a head of another kind than that of the weights is initialized.
        epochs: number of first epochs in which grafted rows learn from the original.

    Returns:
        The original; None where `epochs` is 0.

    Raises:
        UserError: grafted rows are to learn from an original that is unknown or does not fit.
    """
    is_graft = transfer.fraction >= MIN_FRACTION_OF_GRAFT
    imitate = imitate and is_graft and _has_new_rows(model, transfer)
    convert_head = convert_head and is_graft and len(model.model) - 1 not in transfer.row_matches
    file = open_initial_weights(model, weights) if imitate or convert_head or epochs else None
    try:
        if file is None:
            if epochs:
                raise UserError("no pretrained weights fit the model")
            return None
        original = load_original(file, model)
        if epochs:
            check_grafts(model, original)
    except UserError as error:
        if epochs:
            raise UserError(f"--graft-distill: {error}") from None
        return None  # an unknown structure: there is nothing to imitate
    if imitate and original.rows:
        logger.info(imitate_rows(model, original, images()))
    if convert_head and (converted := imitate_head(model, original.model, images())):
        logger.info(converted)
    original.epochs = epochs
    return original if epochs else None


def _has_new_rows(model: DetectionModel, transfer: TransferReport) -> bool:
    """Whether a row with parameters continues none of the weights' rows, or only in part, and was not inserted."""
    if {name.split(".")[1] for name in transfer.missing} - {str(len(model.model) - 1)}:
        return True
    known = {*transfer.row_matches, *transfer.inserted_rows, len(model.model) - 1}
    return any(index not in known and any(True for _ in row.parameters()) for index, row in enumerate(model.model))


def imitate_rows(model: DetectionModel, original: Original, batches: Iterable[torch.Tensor]) -> Imitation:
    """Fit each grafted row of `model`, in place and in order, to output what the row that it replaces outputs.

    A row reads what the rows before it, which are fitted already, compute from the images. Rows without trainable
    parameters, and rows that the fit does not bring nearer to the replaced one, keep their weights. The global random
    state is restored.

    Args:
        model: a model whose other rows hold the weights of the original.
        original: where these come from.
        batches: images (B, C, H, W) in 0..1.

    Returns:
        The error of each row that was initialized.
    """
    result = Imitation(dict(original.rows))
    device = next(model.parameters()).device
    images = torch.cat(list(batches)).to(device)
    teacher = original.model.to(device)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        for row, old in original.rows.items():
            layer = model.model[row]
            if not any(p.requires_grad for p in layer.parameters()):
                continue
            with torch.no_grad(), evaluating(model):
                inputs, targets = row_inputs(model, images, [row])[row], row_outputs(teacher, images, [old])[old]
            state = {name: value.clone() for name, value in layer.state_dict().items()}
            error = _fit(layer, inputs, targets)
            if error is None:
                layer.load_state_dict(state)
            else:
                result.errors[row] = error
    return result


def _fit(layer: nn.Module, inputs: Any, targets: torch.Tensor) -> float | None:
    """Train `layer` to map `inputs`, a map or a list of maps, to `targets`; the relative error, None where it grew."""

    def read(which: torch.Tensor | slice) -> Any:
        return [one[which].clone() for one in inputs] if isinstance(inputs, list) else inputs[which].clone()

    def error() -> float:
        with torch.no_grad(), evaluating(layer):
            return float(relative_error(layer(read(slice(None))), targets))

    first, training = error(), layer.training
    optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    layer.train()
    variance = targets.var().clamp(min=1e-12)
    for _ in range(NUM_STEPS):
        which = torch.randperm(len(targets))[:BATCH].to(targets.device)
        optimizer.zero_grad(set_to_none=True)
        ((layer(read(which)) - targets[which]).square().mean() / variance).backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad(set_to_none=True)
    recompute_batch_norms(layer, read(slice(None)))
    layer.train(training)
    last = error()
    return last if last < first else None
