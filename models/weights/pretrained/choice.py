"""The pretrained weights that a training starts from by default: those that know most of the model."""

import functools
import math
from operator import itemgetter
from pathlib import Path

import torch

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.pretrained.files import PretrainedFile, list_pretrained, weights_files
from graftdet.models.weights.row_matching import describe_moves, match_rows, match_weights
from graftdet.models.weights.safetensors_file import SafetensorsHeader
from graftdet.models.weights.transfer import TransferReport
from graftdet.utils.training.flags import NO_WEIGHTS

MIN_PRETRAINED_FRACTION = 0.7  # of the parameters: yolov5n.yaml, which can take 0.72, gains by it


def nearest_pretrained(model: DetectionModel) -> tuple[PretrainedFile, float] | None:
    """The file in `configs/weights` that the largest fraction of the parameters of `model` can be taken from.

    Only names and shapes are compared; nothing is copied and no tensor is read.

    Returns:
        The file and the fraction, 0..1; None without files.
    """
    files = _read_headers(tuple((path, path.stat().st_mtime_ns) for path in weights_files()))
    return max(((file, transferable_fraction(model, file.header)) for file in files), key=itemgetter(1), default=None)


def choose_pretrained(model: DetectionModel) -> PretrainedFile | None:
    """The file of `nearest_pretrained`, if it has at least `MIN_PRETRAINED_FRACTION` of the parameters of `model`."""
    nearest = nearest_pretrained(model)
    return nearest[0] if nearest and nearest[1] >= MIN_PRETRAINED_FRACTION else None


def describe_scratch(model: DetectionModel) -> str | None:
    """The message about a model that no pretrained weights fit; None where there are no such weights at all."""
    nearest = nearest_pretrained(model)
    if nearest is None:
        return None
    file, fraction = nearest
    needed = f"{math.floor(100 * fraction)}% of the parameters, {MIN_PRETRAINED_FRACTION:.0%} are needed"
    return f"pretrained weights: none fit (the nearest, {file.name}, has {needed}); training starts from scratch"


def transferable_fraction(model: DetectionModel, header: SafetensorsHeader) -> float:
    """The fraction of the parameters of `model`, 0..1, that have a counterpart of the same shape in a weights file."""
    shapes = {name: torch.empty(shape, device="meta") for name, shape in header.shapes.items()}
    old = ModelSpec.from_text(header.metadata["yaml"], str(header.path)) if "yaml" in header.metadata else None
    sources = match_weights(model, shapes, match_rows(model, shapes, old))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    own = {name: parameter.shape for name, parameter in model.named_parameters()}
    fitting = sum(sizes[name] for name in sources.keys() & own if own[name] == shapes[sources[name]].shape)
    return fitting / sum(sizes.values())


def describe_start(file: PretrainedFile, report: TransferReport) -> str:
    """The message about the chosen weights: what they are, what was transferred, how to train without them.

    Args:
        file: the weights.
        report: what was transferred.
    """
    text = f"pretrained weights: {file.name} ({file.card.trained_on}, {file.card.license})"
    moves = describe_moves(report.row_matches)
    if report.new_rows or report.scales or moves:
        text += f", {report.fraction:.1%} of the parameters transferred{report.scales}" + f"; {moves}" * bool(moves)
    return f"{text}{report.describe_new_rows()}; --weights {NO_WEIGHTS} trains from scratch"


@functools.lru_cache(maxsize=1)
def _read_headers(files: tuple[tuple[Path, int], ...]) -> list[PretrainedFile]:
    """The pretrained weights, read again where a file or the time of its last change differs."""
    return list_pretrained()
