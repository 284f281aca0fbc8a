"""`python -m models compare A.yaml B.yaml ...`: cost, latency and, with --train, AP of several models side by side."""

import argparse
import logging

from graftdet.utils.cli import at_least
from graftdet.utils.cli.options import add_model_yaml_flags, image_size
from graftdet.utils.tables import wrapped_table

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add_model_yaml_flags(parser, several=True)
    add("--repeats", type=at_least(1), default=20, help="runs that latencies are medians of")
    add("--device", default="cpu", help="device that torch is timed on: cpu, 0, mps")
    add("--no-onnx", action="store_true", help="do not time onnxruntime")
    add("--no-rows", action="store_true", help="do not print the table of rows")
    add("--train", metavar="DATA.yaml", help="train each model on this dataset and add its AP")
    add("--epochs", type=at_least(1), default=50, help="epochs of each training")
    add("--seeds", type=at_least(1), default=3, help="number of trainings per model, with seeds from 0")
    add(
        "--train-args",
        default="",
        metavar="'--FLAG ...'",
        help="further flags for train.py, as one string, such as '--weights auto' (default: from scratch)",
    )
    add("--project", default="runs/compare", help="folder of the training runs")


def run(args: argparse.Namespace) -> None:
    """Print the tables."""
    from graftdet.models.analysis.compare import cost_rows, labels_of, row_table
    from graftdet.models.analysis.trainings import train_all
    from graftdet.models.graph.detection_model import build_model
    from graftdet.utils.device import select_device

    models = [build_model(cfg, args.nc) for cfg in args.cfg]
    size = image_size(args.img, max(model.size_multiple for model in models))
    if len({model.nc for model in models}) > 1:
        logger.warning("the models have different numbers of classes; --nc sets the same number for all")
    rows = cost_rows(models, size, args.repeats, not args.no_onnx, str(select_device(args.device)))
    if args.train:
        rows += train_all(args.cfg, args)
    header = ["", *labels_of(models)]
    print(wrapped_table(header, rows, right=range(1, len(header))))
    if not args.no_rows:
        print("\nrows (* differs): index, module, output, parameters")
        print(row_table(models, size))
