"""Weights into a model: all of them into the model they belong to, or what fits into another graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from graftdet.models.blocks import BLOCKS
from graftdet.models.graph.detection_model import DetectionModel, build_model
from graftdet.models.heads import HEADS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.problems import ProblemError
from graftdet.models.weights.row_matching import (
    describe_moves,
    describe_scales,
    find_inserted_rows,
    match_rows,
    match_weights,
)
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError, nearest

MIN_FRACTION = 1e-3  # of the parameters: fewer are batch norms and biases of equal length by chance
MIN_FRACTION_OF_GRAFT = 0.5  # of the parameters: with fewer the model is another one, not a graft with inserted rows


@dataclass
class TransferReport:
    """What was copied from a weights file into a model.

    Attributes:
        loaded: names of tensors that were copied whole.
        partial: names of tensors of which the box outputs alone were copied.
        missing: names of tensors that keep the model's own values.
        skipped: tensor name -> why it was not copied.
        fraction: part of the model's (or row's) parameters that came from the file, 0..1.
        row_matches: row of the model -> row of the file it continues.
        inserted_rows: new rows with parameters that stand between rows of the file
            (see `graftdet.models.weights.new_row_init`).
        new_class_outputs: whether the head's class outputs keep their random values, because the number of classes
            differs.
        scales: in which scales the two YAMLs differ, as text; '' where they agree.
    """

    loaded: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    fraction: float = 0.0
    row_matches: dict[int, int] = field(default_factory=dict)
    inserted_rows: list[int] = field(default_factory=list)
    new_class_outputs: bool = False
    scales: str = ""

    def __str__(self):
        copied = len(self.loaded) + len(self.partial)
        text = f"{copied} of {copied + len(self.missing)} tensors, {self.fraction:.1%} of the parameters transferred"
        if self.new_class_outputs:
            text += "; the head's class outputs are newly initialized, the file has another number of classes"
        moves = describe_moves(self.row_matches)
        return text + self.scales + (f"; {moves}" if moves else "")


@torch.no_grad()
def load_into(model: DetectionModel, weights: WeightsFile, min_transfer: float = 0.0) -> TransferReport:
    """Copy what fits from `weights` into `model`, in place: by name and shape, in rows that correspond.

    Where the rows of the two models differ, `graftdet.models.weights.row_matching` decides which correspond. Where only
    the number of classes differs, the head's box and objectness outputs are copied and its class outputs stay as they
    are. Inserted rows stay as they are; `graftdet.models.weights.new_row_init` initializes them.

    Args:
        model: the model to change.
        weights: the file to copy from.
        min_transfer: smallest acceptable fraction of the parameters, 0..1.

    Returns:
        What was copied and what was not.

    Raises:
        UserError: almost nothing fits, or less than `min_transfer`.
    """
    old = _spec_if_readable(weights)
    report = TransferReport(row_matches=match_rows(model, weights.state, old), scales=describe_scales(model.spec, old))
    names = match_weights(model, weights.state, report.row_matches)
    _copy_tensors(model, weights.state, names, report)
    head = f"model.{len(model.model) - 1}."
    report.new_class_outputs = bool(report.partial) or (
        weights.nc not in (None, model.nc) and any(name.startswith(head) for name in report.skipped)
    )
    used = set(names.values())
    report.skipped.update({name: "no such weight in the model" for name in weights.state if name not in used})
    _check_fraction(model, weights, report, min_transfer)
    if f"{head}anchors" in report.loaded:
        model.head.placeholder_anchors = False  # the anchors of the file belong to its weights
    if report.fraction >= MIN_FRACTION_OF_GRAFT:
        report.inserted_rows = find_inserted_rows(model, weights.state, report.row_matches)
    return report


def _copy_tensors(
    model: DetectionModel, state: Mapping[str, torch.Tensor], names: Mapping[str, str], report: TransferReport
) -> None:
    """Copy the tensors of `names` (name in the model -> name in `state`) that fit, and record the result."""
    parameters = dict(model.named_parameters())
    copied = 0.0
    for name, target in model.state_dict().items():
        source = state.get(names.get(name, ""))
        if source is None:
            report.missing.append(name)
        elif source.shape == target.shape:
            target.copy_(source)
            report.loaded.append(name)
            copied += target.numel() if name in parameters else 0
        elif fraction := _copy_box_outputs(model, name, source, target):
            report.partial.append(name)
            copied += fraction * target.numel()
        else:
            report.missing.append(name)
            report.skipped[name] = f"shape {tuple(source.shape)}, the model has {tuple(target.shape)}"
    report.fraction = copied / sum(p.numel() for p in parameters.values())


def _check_fraction(model: DetectionModel, weights: WeightsFile, report: TransferReport, min_transfer: float) -> None:
    """Raise `UserError` where too few parameters were transferred."""
    if report.fraction < MIN_FRACTION:
        parameters = dict(model.named_parameters())
        if any(name in parameters for name in report.loaded):
            problem = f"almost none of its tensors fit ({report.fraction:.2%} of the parameters)"
        else:
            problem = f"none of its {len(weights.state)} tensors fits"
        raise UserError(f"{weights.path}: {problem} the model, expected weights of a similar model{report.scales}")
    if report.fraction < min_transfer:
        raise UserError(
            f"{weights.path}: {report}; expected at least {min_transfer:.1%} of the parameters (--min-transfer)"
        )


def _copy_box_outputs(model: DetectionModel, name: str, source: torch.Tensor, target: torch.Tensor) -> float:
    """Copy the outputs of a head's convolution that do not depend on nc; their fraction (0: nothing fits).

    A head whose convolutions output boxes and classes together declares so in `box_outputs`: the prefix of their names,
    and how many outputs of each anchor come before its classes.
    """
    if model.head.box_outputs is None:
        return 0.0
    prefix, num_box_outputs = model.head.box_outputs
    anchors = model.head.num_anchors
    if not name.startswith(f"model.{len(model.model) - 1}.{prefix}"):
        return 0.0
    if source.shape[1:] != target.shape[1:] or source.shape[0] % anchors:
        return 0.0
    if source.shape[0] // anchors <= num_box_outputs:
        return 0.0
    old = source.reshape(anchors, -1, *source.shape[1:])
    new = target.view(anchors, -1, *target.shape[1:])
    new[:, :num_box_outputs] = old[:, :num_box_outputs]
    return num_box_outputs / new.shape[1]


def _spec_if_readable(weights: WeightsFile) -> ModelSpec | None:
    try:
        return weights.read_spec()
    except UserError:
        return None


def build_from_weights(weights: WeightsFile) -> DetectionModel:
    """Build the model that `weights` belongs to and load all of them.

    Returns:
        The model in eval mode on the CPU.

    Raises:
        UserError: the file has no YAML, its YAML names an unknown module, or tensors do not fit.
    """
    spec = weights.read_spec(f"{weights.path} (its YAML)")
    if spec is None:
        raise UserError(
            f"{weights.path}: holds weights without their YAML; build the model with --cfg and start it with --weights"
        )
    try:
        model = build_model(spec, nc=weights.nc)
    except ProblemError as error:
        if not _has_misspelled_module(spec):
            raise
        hint = "if a module is your own, give its file with --plugins FILE.py"
        problems = [replace(problem, hint=f"{problem.hint}; {hint}") for problem in error.problems]
        raise ProblemError(*problems) from None
    report = load_into(model, weights)
    if report.missing or report.partial:
        mismatched = report.missing + report.partial
        reason = report.skipped.get(mismatched[0], "is not in the file")
        raise UserError(
            f"{weights.path}: its weights do not fit its YAML, {len(mismatched)} do not match; "
            f"{mismatched[0]}: {reason}"
        )
    if weights.names:
        if len(weights.names) != model.nc:
            raise UserError(f"{weights.path}: has {len(weights.names)} names for {model.nc} classes")
        model.names = list(weights.names)
    return model.eval()


def _has_misspelled_module(spec: ModelSpec) -> bool:
    """Whether a module is unknown but similar to a known one: the builder then suggests that one, and no plugin."""
    known = [*BLOCKS, *HEADS]
    return any(row.module not in known and "." not in row.module and nearest(row.module, known) for row in spec.rows)
