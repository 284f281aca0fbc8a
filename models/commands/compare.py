"""`python -m models compare A.yaml B.yaml ...`: cost, latency and, with --train, AP of several models side by side."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from graftdet.utils.cli import at_least
from graftdet.utils.cli.options import add_model_yaml_flags, image_size
from graftdet.utils.tables import wrapped_table

if TYPE_CHECKING:
    from graftdet.models.analysis.compare import ModelCost

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add_model_yaml_flags(parser, several=True)
    add("--repeats", type=at_least(1), default=20, help="runs that latencies are medians of")
    add("--device", default="cpu", help="device that torch is timed on: cpu, 0, mps")
    add("--no-onnx", action="store_true", help="do not time onnxruntime")
    add("--no-rows", action="store_true", help="do not print the table of rows")
    add("--train", metavar="DATA.yaml", help="train each model on this dataset, add its AP, write tables and curves")
    add("--epochs", type=at_least(1), default=50, help="epochs of each training")
    add("--seeds", type=at_least(1), default=3, help="number of trainings per model, with seeds from 0")
    add(
        "--train-args",
        default="",
        metavar="'--FLAG ...'",
        help="further flags for train.py, as one string, such as '--weights auto' (default: from scratch)",
    )
    add("--project", default="runs/compare", help="folder of the trainings, tables and curves")


def run(args: argparse.Namespace) -> None:
    """Print the tables, and write the files of the comparison with --train."""
    from graftdet.models.analysis.compare import cost_rows, measure_costs, row_table
    from graftdet.models.graph.detection_model import build_model
    from graftdet.utils.device import select_device

    models = [build_model(cfg, args.nc) for cfg in args.cfg]
    size = image_size(args.img, max(model.size_multiple for model in models))
    if len({model.nc for model in models}) > 1:
        logger.warning("the models have different numbers of classes; --nc sets the same number for all")
    device = str(select_device(args.device))
    costs = measure_costs(models, size, args.repeats, not args.no_onnx, device)
    rows = cost_rows(costs, size, device)
    folder = None
    if args.train:
        folder, scores = _train(args, costs, size, device)
        rows += scores
    header = ["", *(cost.label for cost in costs)]
    print(wrapped_table(header, rows, right=range(1, len(header))))
    if not args.no_rows:
        print("\nrows (* differs): index, module, output, parameters")
        print(row_table(models, size))
    if folder:
        print(f"\ncompare.csv, compare.md, compare.tex, curves.png and curves.pdf written to {folder}")


def _train(
    args: argparse.Namespace, costs: "list[ModelCost]", size: tuple[int, int], device: str
) -> tuple[Path, list[list[str]]]:
    """Train all models and write the files; the folder, and the rows of the table with AP."""
    from graftdet.models.analysis.comparison_files import ComparisonFiles
    from graftdet.models.analysis.trainings import TrainingPlan, score_rows, train_all
    from graftdet.utils.files import new_run_folder

    plan = TrainingPlan(args.train, args.epochs, args.seeds, args.img[0], args.plugins, args.train_args)
    splits = plan.splits  # a data YAML that cannot be read is reported before the folder is made
    folder = new_run_folder(args.project, "exp")
    logger.info(f"AP on {' and '.join(splits)}; runs and tables in {folder}")
    files = ComparisonFiles(folder, costs, size, device, plan)
    trained = train_all(args.cfg, plan, folder, on_seed=files.write)
    return folder, score_rows(trained, plan)
