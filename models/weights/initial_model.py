"""The model that a training run starts with: built from a YAML, with weights of a file, or from a checkpoint."""

import logging
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from graftdet.models.graph.detection_model import DetectionModel, build_model
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.backbones.row_transfer import load_into_row
from graftdet.models.weights.families.batch_norms import restore_batch_norms
from graftdet.models.weights.new_row_init import NewRowInit, initialize_new_rows
from graftdet.models.weights.pretrained.choice import choose_pretrained, describe_scratch, describe_start
from graftdet.models.weights.transfer import TransferReport, load_into
from graftdet.models.weights.weights_file import WeightsFile, load_weights
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted
from graftdet.utils.training.flags import AUTO_WEIGHTS, NO_WEIGHTS, rows_and_files

logger = logging.getLogger(__name__)


def make_model(
    cfg: str,
    weights: str,
    names: list[str],
    *,
    anchors: int = 0,
    into: str = "",
    min_transfer: float = 0.0,
    identity_init: bool = True,
) -> tuple[DetectionModel, TransferReport]:
    """Build the model and transfer weights into it.

    Args:
        cfg: Model YAML; "": that of `weights`, else yolov5n.yaml.
        weights: Weights file to start from; "none": train from scratch; "auto": the pretrained weights that fit.
        names: Class names.
        anchors: Anchors per level, to be computed from the dataset; 0: those of the YAML.
        into: Rows that the weights are for (the weights of a backbone), and further rows with their files, see
            `graftdet.utils.training.flags.rows_and_files`; "": the whole model.
        min_transfer: Minimum fraction of the parameters that `weights` must provide, 0..1.
        identity_init: Initialize rows inserted into the model of `weights` to pass their input through.

    Returns:
        The model, and what was copied into it: nothing without weights, and nothing of those of a backbone.

    Raises:
        UserError: If the YAML or the weights are invalid or do not fit.
    """
    file = load_weights(weights) if weights not in (AUTO_WEIGHTS, NO_WEIGHTS) else None
    spec = file.read_spec(f"{file.path} (its YAML)") if file and not cfg else None
    spec = spec or ModelSpec.read(cfg or "yolov5n.yaml")
    model = _build(spec.with_anchors(anchors) if anchors else spec, names)
    report = TransferReport()
    pretrained = choose_pretrained(model) if weights == AUTO_WEIGHTS else None
    file = load_weights(pretrained.path) if pretrained else file
    if file and into:  # of a backbone, with the names of its publisher
        for rows, path in rows_and_files(into, weights):
            part = file if path == weights else load_weights(path)
            where = f"rows {rows}" if "-" in rows else f"row {rows}"
            logger.info(f"weights: {path} into {where}, {load_into_row(model, rows, part)}")
    elif file:
        report = load_into(model, file, min_transfer, names)
        logger.info(describe_start(pretrained, report) if pretrained else f"weights: {weights}, {report}")
        report.recipe = file.card.recipe if file.card else ""
    elif weights == AUTO_WEIGHTS and (message := describe_scratch(model)):
        logger.info(message)
    report.weights = pretrained.name if pretrained else weights if file else NO_WEIGHTS
    if rows := report.inserted_rows:
        logger.info(initialize_new_rows(model, rows) if identity_init else NewRowInit(rows))
    return model, report


def open_initial_weights(model: DetectionModel, weights: str) -> WeightsFile | None:
    """Read the file that `make_model` starts `model` from, for the same value of `weights`; None where it has none."""
    if weights == AUTO_WEIGHTS:
        pretrained = choose_pretrained(model)
        return load_weights(pretrained.path) if pretrained else None
    return None if weights == NO_WEIGHTS else load_weights(weights)


def restore_model(checkpoint: dict[str, Any], path: str, data: str, names: list[str]) -> DetectionModel:
    """Build the model of a `checkpoint`, read from `path`, for the class `names` of the dataset `data`."""
    if names != checkpoint["names"]:
        raise UserError(f"--resume: the classes of {data} are not those that the run was started with")
    return _build(ModelSpec.from_text(checkpoint["yaml"], path), names)


def restore_statistics(model: DetectionModel, report: TransferReport, images: Iterable[Tensor]) -> None:
    """Find the statistics of batch norms that the initial weights had merged into the convolutions, if they had.

    Args:
        model: The model with its initial weights; changed in place.
        report: What was copied into it.
        images: Batches (B, 3, H, W) in 0..1 as in training; read only where they are needed.
    """
    if report.merged_batch_norms:
        count = restore_batch_norms(model, report.loaded, images)
        logger.info(f"batch norms: statistics of {count} found from training images, as the weights had them merged")


def _build(spec: ModelSpec, names: list[str]) -> DetectionModel:
    """Build a model for images with 3 channels and the classes `names`."""
    model = build_model(spec, nc=len(names))
    if model.channels != 3:
        raise UserError(
            f"{model.spec.label}: ch is {model.channels}, but images are read with 3 channels; remove ch from the YAML"
        )
    model.names = names
    parameters = sum(parameter.numel() for parameter in model.parameters())
    logger.info(
        f"model: {model.spec.label}, {len(model.model)} rows, {parameters:,} parameters, {counted(model.nc, 'class')}"
    )
    return model
