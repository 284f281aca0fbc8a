"""Distillation of grafted rows: they learn from the rows that they replace, those of the initial weights.

`train.py --graft-distill` does so in the first epochs. The rows of the untouched original are the teachers (Romero et
al., FitNets, 2015, section 2.2: hint-based training), and each grafted row is taught alone.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from graftdet.models.distillation.row_outputs import row_outputs
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.losses.criterion import Criterion
from graftdet.models.weights.row_matching import find_replaced_rows, match_rows
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError
from graftdet.utils.memory_format import prefer_channels_last
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)


@dataclass
class Original:
    """The model that initial weights come from, and which of its rows a graft has replaced.

    Attributes:
        model: frozen, in eval mode.
        rows: grafted row of the model in training -> row of the original that it replaces.
        path: the weights file, for messages.
        matched: row of the model in training -> row of the original that it continues.
        epochs: number of first epochs in which the grafted rows learn from it.
    """

    model: DetectionModel
    rows: dict[int, int]
    path: str
    matched: dict[int, int]
    epochs: int = 0


def load_original(weights: WeightsFile, model: DetectionModel) -> Original:
    """Build the model that `weights` come from and find the rows of `model` that replace its rows.

    Raises:
        UserError: its structure is unknown, or its images have other channels.
    """
    spec = weights.read_spec()
    if spec is None:
        raise UserError(
            f"{weights.path}: holds weights without their YAML, so the rows that a graft has replaced are unknown; "
            "train without --graft-distill, or give weights that hold their YAML"
        )
    original = build_from_weights(weights)
    if original.channels != model.channels:
        raise UserError(
            f"{weights.path}: expects images of {counted(original.channels, 'channel')}, the model {model.channels}"
        )
    matched = match_rows(model, weights.state, spec)
    rows = find_replaced_rows(model, original, matched)
    return Original(original.requires_grad_(False), rows, str(weights.path), matched)


def check_grafts(model: DetectionModel, original: Original) -> None:
    """Raise `UserError` if no row of `model` replaces a row of the original with an output of the same shape."""
    if not original.rows:
        raise UserError(f"{original.path}: {_why_none(model, original.model, original.matched)}")


def _why_none(model: DetectionModel, original: DetectionModel, matched: dict[int, int]) -> str:
    """Why no row of `model` replaces a row of `original`."""
    new, old = (
        [
            f"row {row.index} {row.module} {'x'.join(map(str, shape)) if isinstance(shape, tuple) else shape}"
            for row, layer, shape in zip(one.spec.rows, one.model, one.shapes, strict=True)
            if row.index not in known and layer is not one.head and any(True for _ in layer.parameters())
        ]
        for one, known in ((model, set(matched)), (original, set(matched.values())))
    )
    if not new:
        return "all rows of the model continue rows of the file, none was replaced"
    if not old:
        return f"the model has new rows ({', '.join(new[:3])}), but none of them replaces a row of the file"
    return (
        "no new row of the model replaces a row of the file with an output of the same shape: "
        f"new are {', '.join(new[:3])}, replaced were {', '.join(old[:3])}"
    )


@dataclass
class GraftOutputs:
    """What a model in training and its original compute from the same images.

    Attributes:
        raw: raw outputs of the head.
        pairs: output of each grafted row, from inputs without gradient, and that of the row that it replaces; empty
            where grafted rows are not taught.
    """

    raw: Any
    pairs: list[tuple[torch.Tensor, torch.Tensor]]


class GraftStudent(nn.Module):
    """A model in training whose grafted rows are compared with the rows that they replace.

    A grafted row runs a second time on its own input without gradient, so that what is compared trains the row alone.
    The parameters are those of the model under the model's names.

    Args:
        model: the model in training.
        original: its original.
    """

    def __init__(self, model: DetectionModel, original: Original):
        super().__init__()
        self.model = model.model
        self._pair = (model, original.model)  # in a tuple, so that the original is no submodule: not trained, not saved
        self._rows = original.rows
        device = next(model.parameters()).device
        teacher = original.model
        self._layout = prefer_channels_last(teacher.to(device), device, teacher.trial_shape, teacher.model)
        self.comparing = True

    def forward(self, images: torch.Tensor) -> GraftOutputs:
        """Run both models on images (B, C, H, W) in 0..1."""
        model, original = self._pair
        if not self.comparing:
            return GraftOutputs(model.raw_outputs(images), [])
        inputs: dict[int, Any] = dict.fromkeys(self._rows)
        raw = model.head(model.head_inputs(images, inputs))
        with torch.no_grad():
            targets = row_outputs(original, images.contiguous(memory_format=self._layout), self._rows.values())
        pairs = [(self.model[row](_detached(inputs[row])), targets[old]) for row, old in self._rows.items()]
        return GraftOutputs(raw, pairs)


def _detached(maps: Any) -> Any:
    return [level.detach() for level in maps] if isinstance(maps, list) else maps.detach()


class GraftDistillationLoss(Criterion):
    """The losses of the head, and in the first epochs "distill_grafts": the errors of the grafted rows.

    The error of a row is the mean squared difference of its output and the replaced row's, relative to the variance of
    the latter; the loss is the mean over rows. With a gain of 1 it has the weight of the head's box loss.

    Args:
        criterion: the loss of the head.
        student: the model in training.
        gain: gain of the loss.
        epochs: number of first epochs with it.
    """

    def __init__(self, criterion: Criterion, student: GraftStudent, gain: float, epochs: int):
        self.criterion, self.student, self.gain, self.epochs = criterion, student, gain * criterion.box_gain, epochs

    @property
    def box_gain(self) -> float:
        """The gain of the head's box loss."""
        return self.criterion.box_gain

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Compare the rows in the first epochs only; see `Criterion`."""
        self.criterion.begin_epoch(epoch, epochs)
        self.student.comparing = epoch < self.epochs

    def __call__(self, outputs: GraftOutputs, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the losses of a batch; see `Criterion`."""
        losses = dict(self.criterion(outputs.raw, targets))
        if outputs.pairs:
            with torch.autocast(targets.device.type, enabled=False):
                errors = [relative_error(own, wanted) for own, wanted in outputs.pairs]
                losses["distill_grafts"] = torch.stack(errors).mean() * self.gain
        return losses


def relative_error(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of two maps (B, c, H, W), divided by the variance of `target`, in float32."""
    target = target.float()
    return (output.float() - target).square().mean() / target.var().clamp(min=1e-12)


def set_up_graft_distillation(
    model: DetectionModel, criterion: Criterion, original: Original, gain: float
) -> tuple[nn.Module, Criterion]:
    """Return the module to train and its criterion, and report which rows learn from which.

    Raises:
        UserError: the gain is 0.
    """
    if not gain:
        raise UserError("--graft-distill: distill_grafts is 0, so the original has no effect")
    rows, old = (", ".join(map(str, one)) for one in (original.rows, original.rows.values()))
    logger.info(
        f"graft distillation: rows {rows} learn from rows {old} of {original.path} "
        f"for {counted(original.epochs, 'epoch')}"
    )
    student = GraftStudent(model, original)
    return student, GraftDistillationLoss(criterion, student, gain, original.epochs)
