"""TODO"""

from dataclasses import dataclass, field

import torch
from graftdet.models.graph.detection_model import DetectionModel, build_model
from graftdet.models.weights.new_row_init import fit_new_rows
from graftdet.models.weights.row_matching import (
    describe_moves,
    describe_scales,
    keep_what_norms_give,
    match_rows,
    match_weights,
    rows_put_in,
)
from graftdet.models.weights.weights_file import WeightsFile, _read_spec, _spec_of
from graftdet.utils.errors import UserError

ROW_PREFIXES = ("", "backbone.", "model.", "module.backbone.")  # that published files put before a block's own names


LEAST_SHARE = 1e-3  # of the parameters: less are norms and biases whose widths agree by chance


@dataclass
class TransferReport:
    """What `load_into` did: tensor names `loaded`, `partly` (box outputs only), `skipped` (name -> why), `missing`.

    `share` is the part of the model's parameters, 0..1, that came from the file; `rows` says which of its rows each
    row of the model continues.
    """

    loaded: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    share: float = 0.0
    rows: dict[int, int] = field(default_factory=dict)
    classes_anew: bool = False  # the file has another number of classes
    fitted: dict[int, float] = field(
        default_factory=dict
    )  # new row -> share of its map that is lost (`graftdet.models.weights.new_row_init`)
    scales: str = ""  # how the two YAMLs scale their rows, where they do so differently

    def __str__(self):
        total = len(self.loaded) + len(self.partly) + len(self.missing)
        text = (
            f"{len(self.loaded) + len(self.partly)} of {total} tensors, {self.share:.1%} of the parameters, came over"
        )
        if self.classes_anew:
            text += "; the class outputs of the head begin anew, because the file has another number of classes"
        text += self.scales
        moves = describe_moves(self.rows)
        if moves:
            text += f"; {moves}"
        for row, lost in self.fitted.items():
            how = "begins by handing its map on" if lost < 0.5 else "does not hand its map on yet, train it"
            text += f"; row {row} is new and {how} ({min(lost, 1):.0%} lost)"
        return text


def load_into(model: DetectionModel, weights: WeightsFile, min_transfer: float = 0.0) -> TransferReport:
    """Copy what fits from `weights` into `model`, in place: by name and shape, in rows that belong together.

    Where the rows of the two models differ, `graftdet.models.weights.row_matching` says which rows belong together. Where only the number
    of classes differs, the head's box and objectness outputs are kept and its class outputs stay as the model has
    them. Rows put in between those of the file begin by handing their maps on (`graftdet.models.weights.new_row_init`). Raises `UserError` when
    next to nothing fits, or less than the share `min_transfer` of the parameters.
    """
    old = _spec_of(weights)
    report = TransferReport(rows=match_rows(model, weights.state, old), scales=describe_scales(model.spec, old))
    names = match_weights(model, weights.state, report.rows)
    state = model.state_dict()
    parameters = dict(model.named_parameters())
    came = 0.0
    for name, target in state.items():
        source = weights.state.get(names.get(name))
        if source is None:
            report.missing.append(name)
        elif source.shape == target.shape:
            target.copy_(source)
            report.loaded.append(name)
            came += target.numel() if name in parameters else 0
        elif kept := _copy_box_outputs(model, name, source, target):
            report.partly.append(name)
            came += kept * target.numel()
        else:
            report.missing.append(name)
            report.skipped[name] = f"shape {tuple(source.shape)}, the model has {tuple(target.shape)}"
    head = f"model.{len(model.model) - 1}."
    report.classes_anew = bool(report.partly) or (
        weights.nc not in (None, model.nc) and any(name.startswith(head) for name in report.skipped)
    )
    taken = set(names.values())
    report.skipped.update({name: "no such weight in the model" for name in weights.state if name not in taken})
    report.share = came / sum(p.numel() for p in parameters.values())
    if report.share < LEAST_SHARE:
        count = sum(name in parameters for name in report.loaded)
        few = (
            f"none of its {len(weights.state)} tensors fits"
            if not count
            else f"next to nothing of it fits ({report.share:.2%} of the parameters)"
        )
        raise UserError(f"{weights.path}: {few} the model, expected weights of a like model{report.scales}")
    if report.share < min_transfer:
        raise UserError(
            f"{weights.path}: {report}; expected at least {min_transfer:.1%} of the parameters (--min-transfer)"
        )
    if f"model.{len(model.model) - 1}.anchors" in report.loaded:
        model.head.placeholder_anchors = False  # those of the file were found for its weights
    if report.share >= 0.5:
        report.fitted = fit_new_rows(model, rows_put_in(model, weights.state, report.rows))
    return report


def load_into_row(model: DetectionModel, row: int | str, weights: WeightsFile) -> TransferReport:
    """Copy weights of a single block or backbone, named as its publishers name them, into one row, in place.

    `row` is an index, from 0, or a row's name. Names may begin with one of `ROW_PREFIXES`. What the row has no place
    for, such as a classifier, is skipped. Norms whose eps is another one here than in the block alone are scaled so that
    in eval mode they give the same. `share` of the report is the part of the row's parameters. Raises `UserError` when
    there is no such row or nothing fits.
    """
    indices = model.spec.row_names
    index = int(row) if str(row).isdigit() else indices.get(row)
    if index is None or index >= len(model.model):
        named = f" or a name ({', '.join(indices)})" if indices else ""
        raise UserError(f"row {row}: the model has no such row, expected 0 to {len(model.model) - 1}{named}")
    layer = model.model[index]
    own, parameters = layer.state_dict(), dict(layer.named_parameters())
    states = [
        {name.removeprefix(prefix): tensor for name, tensor in weights.state.items() if name.startswith(prefix)}
        for prefix in ROW_PREFIXES
    ]
    found = max(states, key=lambda state: len(own.keys() & state.keys()))
    report = TransferReport()
    for name, target in own.items():
        if name in found and found[name].shape == target.shape:
            target.copy_(found[name])
            report.loaded.append(name)
        else:
            report.missing.append(name)
            if name in found:
                report.skipped[name] = f"shape {tuple(found[name].shape)}, the row has {tuple(target.shape)}"
    report.skipped.update({name: "no such weight in the row" for name in found if name not in own})
    keep_what_norms_give(layer, {*report.loaded})
    came = sum(parameters[name].numel() for name in report.loaded if name in parameters)
    if not came:
        word = model.spec.rows[index].word
        why = next(
            (f"{name} has {text}" for name, text in report.skipped.items() if name in own),
            f"expected weights of a {word}",
        )
        raise UserError(f"{weights.path}: none of its {len(weights.state)} tensors fits row {index} ({word}); {why}")
    report.share = came / sum(p.numel() for p in parameters.values())
    return report


def _copy_box_outputs(model: DetectionModel, name: str, source: torch.Tensor, target: torch.Tensor) -> float:
    """Copy the rows of a head's convolution that do not depend on nc; returns their share (0: nothing fits).

    A head whose convolutions give boxes and classes together says so in `box_outputs`: what their names begin with, and
    how many outputs of each anchor come before its classes.
    """
    prefix, kept = getattr(model.head, "box_outputs", (None, 0))
    anchors = getattr(model.head, "num_anchors", 1)
    if prefix is None or not name.startswith(f"model.{len(model.model) - 1}.{prefix}"):
        return 0.0
    if source.shape[1:] != target.shape[1:] or source.shape[0] % anchors or source.shape[0] // anchors <= kept:
        return 0.0
    old = source.reshape(anchors, -1, *source.shape[1:])
    new = target.view(anchors, -1, *target.shape[1:])
    new[:, :kept] = old[:, :kept]
    return kept / new.shape[1]


def build_from(weights: WeightsFile) -> DetectionModel:
    """The model that `weights` belongs to, with all of them in it, in eval mode on the CPU.

    Raises `UserError` when the file has no YAML, its YAML has a word that is not known here, or tensors do not fit.
    """
    if weights.yaml is None:
        raise UserError(
            f"{weights.path}: holds weights without their YAML; build the model with --cfg and start it with --weights"
        )
    where = f"{weights.path} (its YAML)"
    try:
        spec = _read_spec(weights, where)
        model = build_model(spec, nc=weights.nc)
    except UserError as error:
        text = str(error)
        hint = (
            ""
            if "--plugins" in text or "unknown block" not in text
            else "; if it is a block of yours, bring it with --plugins FILE.py"
        )
        raise UserError(text + hint) from None
    report = load_into(model, weights)
    if report.missing or report.partly:
        name = (report.missing + report.partly)[0]
        why = report.skipped.get(name, "is not in the file")
        raise UserError(
            f"{weights.path}: its weights do not fit its YAML, {len(report.missing + report.partly)} do not match; {name}: {why}"
        )
    if weights.names:
        if len(weights.names) != model.nc:
            raise UserError(f"{weights.path}: has {len(weights.names)} names for {model.nc} classes")
        model.names = list(weights.names)
    return model.eval()
