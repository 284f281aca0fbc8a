"""New rows of a trained model start by passing their input through, so that the model detects before it is trained."""

import copy
from dataclasses import dataclass, field

import torch
from torch import nn

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.spec.row import IMAGE

SIDE, NUM_IMAGES = 128, 12  # of the noise images that the input maps are computed from
MAX_CELLS = 24  # per side of those maps
NUM_STEPS, LEARNING_RATE = 150, 0.02
GOOD_ERROR = 0.5  # below this relative error a row counts as passing its input through


@dataclass
class NewRowInit:
    """How new rows were initialized.

    Attributes:
        rows: the new rows.
        errors: row -> mean squared difference of output and input, divided by the variance of the input, for the rows
            that were initialized; the others keep their random weights.
    """

    rows: list[int]
    errors: dict[int, float] = field(default_factory=dict)

    def __str__(self):
        passing = {row: error for row, error in self.errors.items() if error < GOOD_ERROR}
        poor = {row: min(error, 1) for row, error in self.errors.items() if row not in passing}
        parts = []
        if passing:
            errors = ", ".join(f"{error:.0%}" for error in passing.values())
            parts.append(
                f"{_numbers(passing)} initialized to pass their input through (least squares; relative error {errors})"
            )
        if poor:
            errors = ", ".join(f"{error:.0%}" for error in poor.values())
            parts.append(f"{_numbers(poor)} do not pass their input through yet, train them (relative error {errors})")
        untouched = [row for row in self.rows if row not in self.errors]
        if untouched:
            parts.append(f"{_numbers(untouched)} start from random weights")
        return f"new rows: {'; '.join(parts)}"


def _numbers(rows) -> str:
    return ", ".join(map(str, rows))


def initialize_new_rows(model: DetectionModel, rows: list[int]) -> NewRowInit:
    """Fit each of the new `rows` of `model`, alone and in place, to output its input (least squares by Adam).

    Rows that read several maps, have no weights, or change the shape of their input keep their weights, and so do rows
    that the fit does not bring nearer to the identity. The input maps are those that the rows before compute from noise
    images. The global random state is restored.

    Args:
        model: a model whose other rows hold trained weights.
        rows: indices of the rows to initialize, usually `TransferReport.inserted_rows`.

    Returns:
        The error of each row that was initialized.
    """
    result = NewRowInit(list(rows))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        for index in rows:
            if not _can_pass_through(model, index):
                continue
            layer = model.model[index]
            state, training = copy.deepcopy(layer.state_dict()), layer.training
            try:
                error = _fit_identity(layer, _input_map(model, index))
            except Exception:  # a plugin's block need not train on maps this small
                error = None
            layer.train(training)
            if error is None:
                layer.load_state_dict(state)
            else:
                result.errors[index] = error
    return result


def _can_pass_through(model: DetectionModel, index: int) -> bool:
    row, layer = model.spec.rows[index], model.model[index]
    if row.joined or layer is model.head or not any(p.requires_grad for p in layer.parameters()):
        return False
    source = row.sources[0]
    return source != IMAGE and model.shapes[source] is not None and model.shapes[index] == model.shapes[source]


def _input_map(model: DetectionModel, index: int) -> torch.Tensor:
    """The input of row `index` for images of coarse and fine noise, (NUM_IMAGES, c, h, w)."""
    step = max(model.size_multiple, 1)
    side = -(-SIDE // step) * step
    coarse = nn.functional.interpolate(torch.rand(NUM_IMAGES, model.channels, 6, 6), (side, side), mode="bilinear")
    images = (0.8 * coarse + 0.2 * torch.rand(NUM_IMAGES, model.channels, side, side)).to(next(model.parameters()))
    outputs: list = []
    with torch.no_grad(), evaluating(model):
        for row, layer in zip(model.spec.rows[:index], model.model, strict=False):
            maps = [images if s == IMAGE else outputs[s] for s in row.sources]
            outputs.append(layer(maps if row.joined else maps[0]))
    return outputs[model.spec.rows[index].sources[0]][..., :MAX_CELLS, :MAX_CELLS].contiguous()


def _fit_identity(layer: nn.Module, x: torch.Tensor) -> float | None:
    """Train `layer` to output its input `x`; the relative error, None where it is no smaller than before."""
    variance = x.var().clamp(min=1e-12)

    def relative_error() -> float:
        with torch.no_grad(), evaluating(layer):
            return float((layer(x.clone()) - x).square().mean() / variance)

    first = relative_error()
    optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_STEPS)
    layer.train()
    for _ in range(NUM_STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss = (layer(x.clone()) - x).square().mean() / variance
        loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad(set_to_none=True)
    recompute_batch_norms(layer, x)
    last = relative_error()
    return last if last < first else None


def recompute_batch_norms(layer: nn.Module, x: torch.Tensor | list[torch.Tensor]) -> None:
    """Set the running statistics of all batch norms in `layer` to those of its input `x`.

    Args:
        layer: the module, in train mode.
        x: what it reads: a map (B, c, H, W) or a list of maps.
    """
    batch_norms = [m for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in batch_norms]
    for batch_norm in batch_norms:
        batch_norm.momentum = None
        batch_norm.reset_running_stats()
    with torch.no_grad():
        layer([one.clone() for one in x] if isinstance(x, list) else x.clone())
    for batch_norm, momentum in zip(batch_norms, momenta, strict=True):
        batch_norm.momentum = momentum
