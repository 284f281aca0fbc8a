"""Weights into a model: all of them into the model they belong to, or what fits into another graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from graftdet.models.graph.detection_model import DetectionModel, build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.backbones.statistics_check import MAX_DEVIATION
from graftdet.models.weights.class_outputs import copy_class_layer, match_classes
from graftdet.models.weights.row_matching import (
    COUNTER,
    describe_architectures,
    describe_moves,
    describe_scales,
    find_inserted_rows,
    match_rows,
    match_weights,
    row_spans,
)
from graftdet.models.weights.unusable_files import describe_mismatch
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

MIN_FRACTION = 1e-3  # of the parameters: fewer are batch norms and biases of equal length by chance
WITHOUT_YAML = "give the model YAML that they belong to with --cfg, or with --into the row that a backbone's are for"
MIN_FRACTION_OF_GRAFT = 0.5  # of the parameters: with fewer the model is another one, not a graft with inserted rows


@dataclass
class TransferReport:
    """What was copied from a weights file into a model.

    Attributes:
        loaded: names of tensors that were copied whole.
        partial: names of tensors of the head of which a part of the outputs was copied: those that do not depend on the
            classes, and those of classes that the file has, too.
        missing: names of tensors that keep the model's own values.
        skipped: tensor name -> why it was not copied.
        fraction: part of the model's (or row's) parameters that came from the file, 0..1.
        row_matches: row of the model -> row of the file it continues.
        new_rows: rows with parameters of which nothing was copied.
        inserted_rows: those of them that stand between rows of the file
            (see `graftdet.models.weights.new_row_init`).
        class_matches: class of the model -> class of the file whose outputs it continues.
        new_classes: names of classes whose outputs keep their random values.
        scales: in which scales the two YAMLs differ, as text; '' where they agree.
        weights: name or path of the file, as given by the user.
        recipe: the recipe that the file names for training from its weights; "": none.
        merged_batch_norms: whether the file had them merged: training has to find their statistics first.
        by_structure: whether the layers of a row were matched by structure because names did not agree.
        deviation: of the batch norms of such a row, see `graftdet.models.weights.backbones.statistics_check`.
        left_over: modules of the file that hold the tensors that a row does not have.
    """

    loaded: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    fraction: float = 0.0
    row_matches: dict[int, int] = field(default_factory=dict)
    new_rows: list[int] = field(default_factory=list)
    inserted_rows: list[int] = field(default_factory=list)
    class_matches: dict[int, int] = field(default_factory=dict)
    new_classes: list[str] = field(default_factory=list)
    scales: str = ""
    weights: str = ""
    recipe: str = ""
    merged_batch_norms: bool = False
    by_structure: bool = False
    deviation: float = 0.0
    left_over: list[str] = field(default_factory=list)

    def loaded_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of `model` that were copied whole."""
        loaded = set(self.loaded)
        return [parameter for name, parameter in model.named_parameters() if name in loaded]

    def __str__(self):
        copied = len(self.loaded) + len(self.partial)
        tensors = counted(copied + len(self.missing), "tensor")
        text = f"{copied} of {tensors}, {self.fraction:.1%} of the parameters transferred"
        is_reordered = any(index != old for index, old in self.class_matches.items())
        if self.new_classes or is_reordered or (self.new_rows and self.class_matches):
            text += f"; {self._describe_classes()}"
        if self.by_structure:
            text += f"; {self._describe_structure()}"
        if self.left_over:
            names = ", ".join(self.left_over[:5]) + (", ..." if len(self.left_over) > 5 else "")
            text += f"; left over in the file: {counted(len(self.skipped), 'tensor')} ({names})"
        moves = describe_moves(self.row_matches)
        return (
            text
            + self.scales
            + (f"; {moves}" if moves else "")
            + self._describe_partial_rows()
            + self.describe_new_rows()
        )

    def describe_new_rows(self) -> str:
        """Which rows are newly initialized, to be appended to a message; '' where none is."""
        return f"; newly initialized: {row_spans(self.new_rows)}" if self.new_rows else ""

    def _describe_partial_rows(self) -> str:
        """Which rows have tensors that were copied and others that were not, the latter new or of another shape."""
        copied, missing = ({_row_of(name) for name in names} for names in (self.loaded, self.missing))
        rows = sorted(copied & missing - {-1})
        return f"; transferred in part: {row_spans(rows)}" if rows else ""

    def _describe_structure(self) -> str:
        """How the layers of a row were matched where names differ, and whether their batch norms fit."""
        text = "matched by order and shapes of layers, because names differ; activations are those of the row"
        if self.deviation > MAX_DEVIATION:
            text += (
                f"; what its batch norms read is {self.deviation:.1f} standard deviations from their means (usual: "
                f"below {MAX_DEVIATION:g}), so the publisher's layers may be connected differently: check the first "
                "validation"
            )
        return text

    def _describe_classes(self) -> str:
        """Which class outputs were copied."""
        total = len(self.class_matches) + len(self.new_classes)
        if not self.new_classes:
            is_reordered = any(index != old for index, old in self.class_matches.items())
            return f"class outputs: all {total} matched by name" + ", in another order" * is_reordered
        names = ", ".join(self.new_classes[:5]) + (", ..." if len(self.new_classes) > 5 else "")
        new = f"newly initialized: {names}" if self.class_matches else "all are newly initialized"
        return f"class outputs: {len(self.class_matches)} of {total} matched by name, {new}"


def _row_of(name: str) -> int:
    """The row of a tensor `model.<row>.<...>`; -1 for the counter of a batch norm, which old files lack."""
    return -1 if name.endswith(COUNTER) or not name.startswith("model.") else int(name.split(".")[1])


@torch.no_grad()
def load_into(
    model: DetectionModel, weights: WeightsFile, min_transfer: float = 0.0, names: Sequence[str] | None = None
) -> TransferReport:
    """Copy what fits from `weights` into `model`, in place: by name and shape, in rows that correspond.

    Where the rows of the two models differ, `graftdet.models.weights.row_matching` decides which correspond. Where the
    classes differ, each class takes the outputs of the class of its name
    (`graftdet.models.weights.class_outputs`); those of all other classes stay as they are. Inserted rows stay as they
    are; `graftdet.models.weights.new_row_init` initializes them.

    Args:
        model: the model to change.
        weights: the file to copy from.
        min_transfer: smallest acceptable fraction of the parameters, 0..1.
        names: class names of the model; None: it has the same classes as the file if it has as many.

    Returns:
        What was copied and what was not.

    Raises:
        UserError: almost nothing fits, or less than `min_transfer`.
    """
    old = _spec_if_readable(weights)
    report = TransferReport(
        row_matches=match_rows(model, weights.state, old),
        scales=describe_scales(model.spec, old),
        merged_batch_norms=weights.merged_batch_norms,
    )
    sources = match_weights(model, weights.state, report.row_matches)
    head = f"model.{len(model.model) - 1}."
    layers = {head + name: others for name, others in model.head.class_layers().items()}
    state = model.state_dict()
    outputs = [name for name in sources if name.rpartition(".")[0] in layers]
    if outputs:
        same_shapes = all(state[name].shape == weights.state[sources[name]].shape for name in outputs)
        report.class_matches = _match_classes(model, weights, names, same_shapes)
    _copy_tensors(model, weights.state, sources, layers, report)
    if any(name.rpartition(".")[0] in layers for name in (*report.partial, *report.skipped)):
        names = names or model.names
        report.new_classes = [name for index, name in enumerate(names) if index not in report.class_matches]
    used = set(sources.values())
    report.skipped.update({name: "no such weight in the model" for name in weights.state if name not in used})
    report.new_rows = _rows_without_weights(model, report)
    _check_fraction(model, weights, report, min_transfer)
    if f"{head}anchors" in report.loaded:
        model.head.placeholder_anchors = False  # the anchors of the file belong to its weights
    if report.fraction >= MIN_FRACTION_OF_GRAFT:
        report.inserted_rows = find_inserted_rows(model, weights.state, report.row_matches)
    return report


def _rows_without_weights(model: DetectionModel, report: TransferReport) -> list[int]:
    """Rows with parameters of which nothing was copied."""
    copied = {_row_of(name) for name in (*report.loaded, *report.partial)}
    return [
        index for index, row in enumerate(model.model) if index not in copied and any(True for _ in row.parameters())
    ]


def _match_classes(
    model: DetectionModel, weights: WeightsFile, names: Sequence[str] | None, same_shapes: bool
) -> dict[int, int]:
    """Class of the model -> class of the file: by name, or by number where the names are unknown."""
    if names is not None and weights.names:
        return match_classes(names, weights.names)
    return {index: index for index in range(model.nc)} if same_shapes and weights.nc in (None, model.nc) else {}


def _copy_tensors(
    model: DetectionModel,
    state: Mapping[str, torch.Tensor],
    sources: Mapping[str, str],
    class_layers: Mapping[str, int],
    report: TransferReport,
) -> None:
    """Copy the tensors of `sources` (name in the model -> name in `state`) that fit, and record the result.

    `class_layers` are those of `Head.class_layers`, with their whole names.
    """
    parameters = dict(model.named_parameters())
    copied = 0.0
    for name, target in model.state_dict().items():
        source = state.get(sources.get(name, ""))
        layer = name.rpartition(".")[0]
        if source is None:
            report.missing.append(name)
            continue
        fraction = float(source.shape == target.shape)
        if layer in class_layers:
            others, matches = class_layers[layer], report.class_matches
            anchors = model.head.layer_anchors(layer.split(".", 2)[2])
            fraction = copy_class_layer(source, target, anchors, others, model.nc, matches)
        elif fraction:
            target.copy_(source)
        if fraction == 1:
            report.loaded.append(name)
        elif fraction:
            report.partial.append(name)
        else:
            report.missing.append(name)
            same = source.shape == target.shape
            report.skipped[name] = (
                "of other classes" if same else f"shape {tuple(source.shape)}, the model has {tuple(target.shape)}"
            )
        copied += fraction * target.numel() if name in parameters else 0
    report.fraction = copied / sum(p.numel() for p in parameters.values())


def _check_fraction(model: DetectionModel, weights: WeightsFile, report: TransferReport, min_transfer: float) -> None:
    """Raise `UserError` where too few parameters were transferred."""
    if report.fraction < MIN_FRACTION:
        parameters = dict(model.named_parameters())
        if any(name in parameters for name in report.loaded):
            problem = f"almost none of its tensors fit ({report.fraction:.2%} of the parameters)"
        else:
            problem = f"none of its {counted(len(weights.state), 'tensor')} fits"
        reason = describe_architectures(model.spec, _spec_if_readable(weights)) or report.scales
        if weights.yaml is None:
            reason = f"; {WITHOUT_YAML}"
        raise UserError(f"{weights.path}: {problem} the model, expected weights of a similar model{reason}")
    if report.fraction < min_transfer:
        raise UserError(
            f"{weights.path}: {report}; expected at least {min_transfer:.1%} of the parameters (--min-transfer)"
        )


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
        raise UserError(f"{weights.path}: holds weights without their YAML; train.py starts from them: {WITHOUT_YAML}")
    model = build_model(spec, nc=weights.nc)
    report = load_into(model, weights)
    mismatched = [name for name in report.missing + report.partial if not name.endswith(COUNTER)]
    if mismatched:
        reason = describe_mismatch(model.spec, model.nc, model.state_dict(), weights.state)
        reason = reason or f"{mismatched[0]}: {report.skipped.get(mismatched[0], 'is not in the file')}"
        raise UserError(
            f"{weights.path}: its weights do not fit its YAML, {counted(len(mismatched), 'tensor')} without a match; "
            f"{reason}"
        )
    if weights.names:
        if len(weights.names) != model.nc:
            raise UserError(
                f"{weights.path}: has {counted(len(weights.names), 'name')} for {counted(model.nc, 'class')}"
            )
        model.names = list(weights.names)
    return model.eval()
