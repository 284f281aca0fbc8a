"""`python -m models import IN OUT`: published weights as a file of this project."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graftdet.utils.errors import UserError

if TYPE_CHECKING:
    from graftdet.models.graph.detection_model import DetectionModel
    from graftdet.models.weights.weights_file import WeightsFile

OUTPUTS = (".pt", ".safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("source", metavar="IN", help="published weights: .pt, .pth, .pdparams, .safetensors, .onnx")
    parser.add_argument("out", metavar="OUT", type=Path, help="file to write: .pt, .safetensors")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the classes, where the file has none")


def run(args: argparse.Namespace) -> None:
    """Convert the weights, check that all of them fit, write them and report what was found."""
    from graftdet.models.weights.transfer import build_from_weights
    from graftdet.models.weights.weights_file import load_weights, save_weights

    if args.out.suffix.lower() not in OUTPUTS:
        raise UserError(f"{args.out}: expected a file name that ends in {' or '.join(OUTPUTS)}")
    weights = load_weights(args.source)
    if args.names:
        weights.names = list(args.names)
    model = build_from_weights(weights)
    weights.names, weights.nc = list(model.names), model.nc
    weights.state = {name: tensor for name, tensor in weights.state.items() if name in model.state_dict()}
    save_weights(args.out, weights, half=False)
    print(describe(weights, model))
    print(f"written: {args.out}")


def describe(weights: "WeightsFile", model: "DetectionModel") -> str:
    """What was found in a weights file.

    Args:
        weights: the content of the file.
        model: what was built from it.
    """
    from graftdet.models.weights.pretrained.families import family_of

    own = "runs of GraftDet" if weights.source == "checkpoint" else _family_of_rows(model)
    family = family_of(weights.family or own)
    name = " ".join(filter(None, (family.name if family else "unknown", weights.model)))
    size = f", trained at {weights.size} pixels" if weights.size else ""
    names = ", ".join(model.names[:3]) + (", ..." if model.nc > 3 else "")
    lines = [
        f"{weights.path}: {name}, {sum(p.numel() for p in model.parameters()):,} parameters, strides "
        f"{', '.join(f'{stride:g}' for stride in model.head.strides)}{size}",
        f"classes: {model.nc} ({names})",
        f"license: {family.license} (check it: {family.published_by})" if family else "license: unknown, check it",
        f"tensors: {len(weights.state)} of {len(model.state_dict())} of the model found; "
        f"{len(weights.unused)} of the file not needed{_listed(weights.unused)}",
    ]
    if weights.merged_batch_norms:
        lines.append("batch norms: merged into the convolutions; training first finds their statistics")
    return "\n".join(lines)


def _family_of_rows(model: "DetectionModel") -> str:
    """The family of a published file that has its YAML and an anchor-based head."""
    modules = {row.module for row in model.spec.rows}
    return "YOLOv5-Lite" if modules & {"Shuffle_Block", "conv_bn_relu_maxpool", "DWConvblock"} else "YOLOv5"


def _listed(names: Sequence[str]) -> str:
    return f": {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else ""
