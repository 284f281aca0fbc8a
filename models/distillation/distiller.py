"""Learning from a teacher: a trained model that sees the same pictures (`train.py --teacher big.pt`)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from graftdet.models.distillation.losses import box_loss, map_loss, score_loss, side_loss
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.losses.anchor_free import flatten_levels
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.device import fastest_layout
from graftdet.utils.errors import UserError
from torch import nn

# What classes and distributions weigh beside boxes, as they do in the losses of heads without anchors.
SCORES, SIDES = 0.5 / 7.5, 1.5 / 7.5


def load_teacher(path: str | Path, student: DetectionModel) -> DetectionModel:
    """The frozen model of a `.pt` file, fused, in eval mode on the CPU, for `student` to learn from.

    Raises `UserError` when the file has no model, other classes, or other levels than the student.
    """
    try:
        weights = load_weights(path)
        teacher = build_from_weights(weights)
    except UserError as error:
        raise UserError(f"--teacher {error}") from None
    _same_classes(path, teacher.names if weights.names else None, teacher.nc, student.names)
    theirs, own = teacher.head.strides, student.head.strides
    if theirs != own:
        told = [" ".join(f"{stride:g}" for stride in strides) for strides in (theirs, own)]
        raise UserError(
            f"--teacher {path}: its head reads levels of strides {told[0]}, the model's {told[1]}; they must be the same"
        )
    if teacher.channels != student.channels:
        raise UserError(
            f"--teacher {path}: takes pictures of {teacher.channels} channels, the model {student.channels}"
        )
    if hasattr(teacher.head, "one_to_many"):  # that of one point an object tells nothing of all others
        teacher.head.branch = "one_to_many"
    print(f"teacher: {path}, {type(teacher.head).__name__} teaches {type(student.head).__name__}")
    return teacher.fuse().requires_grad_(False)


def _same_classes(path, theirs: list[str] | None, count: int, own: list[str]) -> None:
    """Raise `UserError` naming the first class that differs; files that name none must have as many."""
    if count != len(own):
        raise UserError(f"--teacher {path}: knows {count} classes, the data has {len(own)}; they must be the same")
    for index, (name, wanted) in enumerate(zip(theirs or own, own, strict=True)):
        if name != wanted:
            raise UserError(
                f"--teacher {path}: its class {index} is '{name}', the data's '{wanted}'; they must be the same, in one order"
            )


@dataclass
class Lesson:
    """What both models make of the same pictures: raw outputs of the heads and the maps that they read, the student's
    in the teacher's width; empty lists where maps are not compared."""

    raw: object
    maps: list[torch.Tensor]
    taught_raw: object
    taught_maps: list[torch.Tensor]


class Student(nn.Module):
    """The model that learns, with what it needs to compare itself with its teacher: 1x1 convolutions that bring its maps
    to the teacher's width, where they differ. They learn too, and belong to the training alone.

    Its parameters are those of the model under the model's names, and "adapters.<level>.weight". `forward(images)` gives
    a `Lesson`.
    """

    def __init__(self, model: DetectionModel, teacher: DetectionModel, maps: bool = True):
        super().__init__()
        self.model = model.model
        self._pair = (model, teacher)  # out of the modules' sight: the teacher neither learns nor is saved
        self._compares_maps = maps
        device = next(model.parameters()).device
        self._layout = fastest_layout(teacher.to(device), device, (teacher.channels, *[teacher.size_multiple] * 2))
        widths = [[shape[0] for shape in one.shapes[-1]] for one in (model, teacher)]
        self.adapters = nn.ModuleList(
            nn.Identity() if own == theirs else nn.Conv2d(own, theirs, 1, bias=False, device=device)
            for own, theirs in zip(*widths, strict=True)
            if maps
        )

    def forward(self, images):
        model, teacher = self._pair
        maps = model.head_inputs(images)
        raw = model.head(maps)
        with torch.no_grad():
            taught_maps = teacher.head_inputs(images.contiguous(memory_format=self._layout))
            taught_raw = teacher.head(taught_maps)
        if not self._compares_maps:
            return Lesson(raw, [], taught_raw, [])
        return Lesson(
            raw, [adapter(x) for adapter, x in zip(self.adapters, maps, strict=True)], taught_raw, taught_maps
        )


class DistillationCriterion:
    """The head's own losses, from `criterion`, and those that compare with the teacher, by name: "distill_features",
    "distill_scores" and "distill_sides" or "distill_boxes". Called with a `Lesson` and targets (M, 6).

    Maps are compared by correlation. Scores and boxes are compared cell by cell, decoded, so heads may be of different
    kinds: of several anchors a cell that with the best score speaks, unless both have the same. Where both tell sides by
    as many bins, these distributions are compared instead of the boxes. Cells count by the square of the teacher's
    score, since it learnt nothing about boxes elsewhere. A gain of 1 weighs a loss as the head weighs that of its boxes.
    """

    def __init__(self, criterion, model: DetectionModel, teacher: DetectionModel, maps: float, logits: float):
        self.criterion, self.heads = criterion, (model.head, teacher.head)
        unit = _box_gain(criterion)
        self.maps, self.logits = maps * unit, logits * unit
        bins = [getattr(head, "bins", None) for head in self.heads]
        self.bins = bins[0] if bins[0] == bins[1] else None
        self.same_anchors: bool | None = (
            None  # not known before the first batch: a run that is resumed gets its anchors late
        )

    def __call__(self, lesson: Lesson, targets):
        losses = dict(self.criterion(lesson.raw, targets))
        with torch.autocast(targets.device.type, enabled=False):
            if lesson.maps:
                losses["distill_features"] = map_loss(lesson.maps, lesson.taught_maps) * self.maps
            if self.logits:
                losses |= {name: loss * self.logits for name, loss in self._compare(lesson).items()}
        return losses

    def _compare(self, lesson: Lesson) -> dict[str, torch.Tensor]:
        if self.same_anchors is None:
            self.same_anchors = _alike(*(getattr(head, "anchors", None) for head in self.heads))
        raws = [_many(raw) for raw in (lesson.raw, lesson.taught_raw)]
        (boxes, scores), (taught_boxes, taught_scores) = (
            _decode(head, raw, a_cell=not self.same_anchors) for head, raw in zip(self.heads, raws, strict=True)
        )
        weights = taught_scores.amax(-1).square()  # (B, N)
        found = {"distill_scores": score_loss(scores, taught_scores) * SCORES}
        if self.bins:
            sides, taught_sides = (flatten_levels([y.float() for y in raw], 4 * self.bins)[0] for raw in raws)
            return found | {"distill_sides": side_loss(sides, taught_sides, weights, self.bins) * SIDES}
        return found | {"distill_boxes": box_loss(boxes, taught_boxes, weights)}


def taught(model: DetectionModel, criterion, teacher: DetectionModel | None, hyperparameters):
    """What is trained, and its criterion: both as given without a teacher, else as its student.

    Raises `UserError` where the recipe asks the teacher for nothing.
    """
    h = hyperparameters
    if teacher is None:
        return model, criterion
    if not (h.distill_features or h.distill_logits):
        raise UserError("--teacher: distill_features and distill_logits are both 0, so it would teach nothing")
    student = Student(model, teacher, h.distill_features > 0)
    return student, DistillationCriterion(criterion, model, teacher, h.distill_features, h.distill_logits)


def _box_gain(criterion) -> float:
    """What the head's loss multiplies its box loss by: heads differ by two orders of magnitude."""
    return getattr(criterion, "one_to_many", criterion).gains["box"]


def _many(raw):
    """The raw maps of the branch that many points of an object train, of heads that have several branches."""
    return raw["one_to_many"] if isinstance(raw, dict) else raw


def _alike(own, theirs) -> bool:
    """Whether anchors (levels, A, 2) in units of the stride, None for heads without, stand for the same boxes."""
    if own is None or theirs is None:
        return own is theirs
    return own.shape == theirs.shape and torch.allclose(own, theirs, rtol=0.25)


def _decode(head, raw, a_cell: bool):
    """Raw maps to boxes (B, N, 4) xyxy pixels and scores (B, N, nc). With `a_cell` of several anchors there is left of
    each cell the box of that with the best score, and the best score of each class."""
    boxes, scores = head.decode({"one_to_many": raw} if hasattr(head, "branch") else raw)
    if not a_cell or raw[0].ndim == 4:
        return boxes, scores
    told = []
    for y, box, score in zip(
        raw, *(x.split([y[0, ..., 0].numel() for y in raw], 1) for x in (boxes, scores)), strict=True
    ):
        box, score = box.unflatten(1, (y.shape[1], -1)), score.unflatten(1, (y.shape[1], -1))  # (B, A, H * W, ...)
        best = score.amax(-1).argmax(1)[:, None, :, None].expand(-1, 1, -1, 4)  # (B, 1, H * W, 4)
        told.append((box.gather(1, best)[:, 0], score.amax(1)))
    return torch.cat([box for box, _ in told], 1), torch.cat([score for _, score in told], 1)
