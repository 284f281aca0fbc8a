"""`python -m models summary FILE.yaml`: print one row per layer (shape, parameters, MACs) and totals."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from graftdet.utils.cli import at_least
from graftdet.utils.cli.options import add_model_yaml_flags, image_size
from graftdet.utils.errors import UserError

if TYPE_CHECKING:
    from graftdet.models.graph.detection_model import DetectionModel

WEIGHTS_SUFFIXES = (".pt", ".pth", ".pdparams", ".safetensors", ".onnx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model_yaml_flags(parser, about="model YAML or weights file: a path, or a name in configs/models")
    parser.add_argument("--profile", action="store_true", help="also run the model and add the time per row")
    parser.add_argument("--repeats", type=at_least(1), default=10, help="runs of --profile; times are medians")
    parser.add_argument("--device", default="cpu", help="device of --profile: cpu, 0, mps")


def run(args: argparse.Namespace) -> None:
    """Print the table."""
    from graftdet.models.analysis.summary import summarize, summary_text

    model = _build(args.cfg, args.nc)
    size = image_size(args.img, model.size_multiple)
    times = None
    if args.profile:
        from graftdet.models.analysis.profiling import time_rows
        from graftdet.utils.device import select_device

        summarize(model, size)  # reports a size that does not fit before anything runs
        times = time_rows(model, size, args.repeats, select_device(args.device))
    print(summary_text(model, size, times))


def _build(cfg: str, nc: int | None) -> "DetectionModel":
    """The model of a YAML or of a weights file."""
    from graftdet.models.graph.detection_model import build_model
    from graftdet.models.weights.transfer import build_from_weights
    from graftdet.models.weights.unusable_files import describe_file
    from graftdet.models.weights.weights_file import load_weights

    if Path(cfg).suffix.lower() not in WEIGHTS_SUFFIXES and not (Path(cfg).exists() and describe_file(Path(cfg))):
        return build_model(cfg, nc)
    if nc is not None:
        raise UserError(f"--nc: applies to a model YAML, {cfg} has its own classes")
    return build_from_weights(load_weights(cfg))
