"""Distillation: a student learns from a trained model with the same input (`train.py --teacher big.pt`)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graftdet.models.distillation.grafts import Original, set_up_graft_distillation
from graftdet.models.distillation.losses import box_loss, distribution_loss, map_loss, score_loss
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.heads.base import Head
from graftdet.models.losses.criterion import Criterion
from graftdet.models.losses.points import flatten_levels
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.memory_format import prefer_channels_last
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)

# Weights of the scores and distributions relative to the boxes, as in the losses of anchor-free heads.
SCORE_WEIGHT, DISTRIBUTION_WEIGHT = 0.5 / 7.5, 1.5 / 7.5


def load_teacher(path: str | Path, student: DetectionModel) -> DetectionModel:
    """Load the teacher of `student` from a weights file.

    Returns:
        The model: frozen, fused, in eval mode on the CPU.

    Raises:
        UserError: the file has no model, or one with other classes, levels or input channels than the student.
    """
    try:
        weights = load_weights(path)
        teacher = build_from_weights(weights)
    except UserError as error:
        raise UserError(f"--teacher {error}") from None
    _check_classes(path, teacher.names if weights.names else None, teacher.nc, student.names)
    if teacher.head.strides != student.head.strides:
        theirs, own = (" ".join(f"{stride:g}" for stride in one.head.strides) for one in (teacher, student))
        raise UserError(
            f"--teacher {path}: its head has levels of strides {theirs}, the model's {own}; they must be the same"
        )
    if teacher.channels != student.channels:
        raise UserError(
            f"--teacher {path}: expects images of {counted(teacher.channels, 'channel')}, the model {student.channels}"
        )
    if teacher.head.distillation_branch:
        teacher.use_branch(teacher.head.distillation_branch)
    logger.info("teacher: %s (%s), student: %s", path, type(teacher.head).__name__, type(student.head).__name__)
    return teacher.fuse().requires_grad_(False)


def _check_classes(path, theirs: list[str] | None, count: int, own: list[str]) -> None:
    """Raise `UserError` for the first class that differs; of files without names only the number is compared."""
    if count != len(own):
        raise UserError(
            f"--teacher {path}: has {counted(count, 'class')}, the data has {len(own)}; they must be the same"
        )
    for index, (name, expected) in enumerate(zip(theirs or own, own, strict=True)):
        if name != expected:
            raise UserError(
                f"--teacher {path}: its class {index} is '{name}', the data's '{expected}'; "
                "they must be the same, in the same order"
            )


@dataclass
class DistillationOutputs:
    """What student and teacher compute from the same images.

    Attributes:
        student_raw: raw outputs of the student's head.
        student_maps: (B, c, H, W) tensors, the inputs of its head in the teacher's width; empty where not compared.
        teacher_raw: raw outputs of the teacher's head.
        teacher_maps: (B, c, H, W) tensors, the inputs of the teacher's head; empty where not compared.
    """

    student_raw: Any
    student_maps: list[torch.Tensor]
    teacher_raw: Any
    teacher_maps: list[torch.Tensor]


class Student(nn.Module):
    """A model in training, with what is needed to compare it with its teacher.

    Where the inputs of the heads differ in width, 1x1 convolutions (adapters) map the student's to the teacher's. They
    are trained as well, but belong to the training only. The parameters are those of the model under the model's names,
    and "adapters.<level>.weight".

    Args:
        model: the student.
        teacher: a frozen model.
        compare_maps: whether the inputs of the heads are compared.
    """

    def __init__(self, model: DetectionModel, teacher: DetectionModel, compare_maps: bool = True):
        super().__init__()
        self.model = model.model
        self._pair = (model, teacher)  # in a tuple, so that the teacher is no submodule: neither trained nor saved
        self._compare_maps = compare_maps
        device = next(model.parameters()).device
        self._layout = prefer_channels_last(teacher.to(device), device, teacher.trial_shape, teacher.model)
        levels = len(model.head.strides)  # without auxiliary levels, which are inputs of a head as well
        widths = [[shape[0] for shape in one.shapes[-1][:levels]] for one in (model, teacher)]
        self.adapters = nn.ModuleList(
            nn.Identity() if own == theirs else nn.Conv2d(own, theirs, 1, bias=False, device=device)
            for own, theirs in zip(*widths, strict=True)
            if compare_maps
        )

    def forward(self, images: torch.Tensor) -> DistillationOutputs:
        """Run both models on images (B, C, H, W) in 0..1."""
        model, teacher = self._pair
        maps = model.head_inputs(images)
        raw = model.head(maps)
        with torch.no_grad():
            teacher_maps = teacher.head_inputs(images.contiguous(memory_format=self._layout))
            teacher_raw = teacher.head(teacher_maps)
        if not self._compare_maps:
            return DistillationOutputs(raw, [], teacher_raw, [])
        levels = len(self.adapters)
        adapted = [adapter(x) for adapter, x in zip(self.adapters, maps[:levels], strict=True)]
        return DistillationOutputs(raw, adapted, teacher_raw, teacher_maps[:levels])


class DistillationLoss(Criterion):
    """The losses of the head, and those of the comparison with the teacher.

    Called with `DistillationOutputs` and targets (M, 6); returns the losses of `criterion` by name, "distill_features",
    "distill_scores" and "distill_dfl" or "distill_boxes".

    Maps are compared by correlation. Scores and boxes are compared per cell, decoded, so the heads may be of different
    kinds; of several anchors per cell that with the best score counts, unless both heads have the same anchors. Where
    both predict distances by the same number of bins, these distributions are compared instead of the boxes. Cells are
    weighted by the square of the teacher's score, since it was not trained on boxes elsewhere. With a gain of 1 a loss
    has the weight of the head's box loss.

    Args:
        criterion: the loss of the student's head.
        model: the student.
        teacher: its teacher.
        maps_gain: gain of the loss of the heads' inputs; 0: not compared.
        outputs_gain: gain of the losses of scores and boxes; 0: not compared.
    """

    def __init__(
        self,
        criterion: Criterion,
        model: DetectionModel,
        teacher: DetectionModel,
        maps_gain: float,
        outputs_gain: float,
    ):
        self.criterion, self.heads = criterion, (model.head, teacher.head)
        self.maps_gain, self.outputs_gain = maps_gain * self.box_gain, outputs_gain * self.box_gain
        student, teacher = self.heads
        self.reg_max = student.reg_max if student.reg_max == teacher.reg_max else None
        self.same_anchors: bool | None = None  # unknown before the first batch: a resumed run sets its anchors late

    @property
    def box_gain(self) -> float:
        """The gain of the head's box loss: heads differ by two orders of magnitude."""
        return self.criterion.box_gain

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Prepare the head's criterion for an epoch; see `Criterion`."""
        self.criterion.begin_epoch(epoch, epochs)

    def __call__(self, outputs: DistillationOutputs, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the losses of a batch; see `Criterion`."""
        losses = dict(self.criterion(outputs.student_raw, targets))
        with torch.autocast(targets.device.type, enabled=False):
            if outputs.student_maps:
                losses["distill_features"] = map_loss(outputs.student_maps, outputs.teacher_maps) * self.maps_gain
            if self.outputs_gain:
                losses |= {name: loss * self.outputs_gain for name, loss in self._output_losses(outputs).items()}
        return losses

    def _output_losses(self, outputs: DistillationOutputs) -> dict[str, torch.Tensor]:
        if self.same_anchors is None:
            self.same_anchors = _same_anchors(*(head.anchors for head in self.heads))
        raw_maps = [
            head.distillation_maps(raw)
            for head, raw in zip(self.heads, (outputs.student_raw, outputs.teacher_raw), strict=True)
        ]
        (boxes, scores), (teacher_boxes, teacher_scores) = (
            head.decode(maps) if self.same_anchors else decode_per_cell(head, maps)
            for head, maps in zip(self.heads, raw_maps, strict=True)
        )
        weights = teacher_scores.amax(-1).square()  # (B, N)
        losses = {"distill_scores": score_loss(scores, teacher_scores) * SCORE_WEIGHT}
        if self.reg_max is None:
            return losses | {"distill_boxes": box_loss(boxes, teacher_boxes, weights)}
        student, teacher = (flatten_levels([y.float() for y in maps], 4 * self.reg_max)[0] for maps in raw_maps)
        divergence = distribution_loss(student, teacher, weights, self.reg_max)
        return losses | {"distill_dfl": divergence * DISTRIBUTION_WEIGHT}


def set_up_distillation(
    model: DetectionModel,
    criterion: Criterion,
    teacher: DetectionModel | Original | None,
    hyperparameters: Hyperparameters,
) -> tuple[nn.Module, Criterion]:
    """Return the module to train and its criterion: both as given without a teacher, else those of distillation.

    Args:
        model: the model.
        criterion: the loss of its head.
        teacher: a model to learn from; or the original, whose rows are the teachers of grafted rows alone.
        hyperparameters: gains of the distillation losses.

    Raises:
        UserError: the gains of all distillation losses are 0.
    """
    h = hyperparameters
    if isinstance(teacher, Original):
        return set_up_graft_distillation(model, criterion, teacher, h.distill_grafts)
    if teacher is None:
        return model, criterion
    if not (h.distill_features or h.distill_logits):
        raise UserError("--teacher: distill_features and distill_logits are both 0, so the teacher has no effect")
    student = Student(model, teacher, compare_maps=h.distill_features > 0)
    return student, DistillationLoss(criterion, model, teacher, h.distill_features, h.distill_logits)


def _same_anchors(own, theirs) -> bool:
    """Whether anchors (levels, A, 2) in units of the stride, None for heads without, are nearly equal."""
    if own is None or theirs is None:
        return own is theirs
    return own.shape == theirs.shape and torch.allclose(own, theirs, rtol=0.25)


def decode_per_cell(head: Head, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw maps to one box per cell, (B, N, 4) xyxy pixels, and scores (B, N, nc).

    Of several anchors per cell these are the box of that with the best score, and the best score of each class.
    """
    boxes, scores = head.decode(maps)
    if head.num_anchors == 1:
        return boxes, scores
    best_boxes, best_scores = [], []
    counts = [y[0, ..., 0].numel() for y in maps]  # maps (B, A, H, W, 5 + nc)
    for y, box, score in zip(maps, boxes.split(counts, 1), scores.split(counts, 1), strict=True):
        box, score = box.unflatten(1, (y.shape[1], -1)), score.unflatten(1, (y.shape[1], -1))  # (B, A, H * W, ...)
        best = score.amax(-1).argmax(1)[:, None, :, None].expand(-1, 1, -1, 4)  # (B, 1, H * W, 4)
        best_boxes.append(box.gather(1, best)[:, 0])
        best_scores.append(score.amax(1))
    return torch.cat(best_boxes, 1), torch.cat(best_scores, 1)
