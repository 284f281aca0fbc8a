"""Validate trained weights: `python val.py --weights runs/train/exp/weights/best.pt --data bccd.yaml --split test`.

PROJECT/NAME receives predictions.json (COCO results with the image and category ids of the dataset), metrics.json,
charts, and evaluation.npz for `graftdet report`.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftdet.utils import cli, startup
from graftdet.utils.cli.console import RESULT
from graftdet.utils.cli.options import (
    OneSize,
    add_model_flags,
    add_plots_flag,
    add_run_flags,
    add_selection_flags,
    image_size,
)

IMAGES_PER_WORKER = 500  # fewer images are loaded by a thread before a process has started


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ArgumentParser(description=__doc__, script="val")
    flag = parser.add_argument
    add_model_flags(parser, backend="torch")
    flag("--data", default="shapes.yaml", help="data YAML: a path or a name in configs/data")
    flag("--split", "--task", default="val", choices=("train", "val", "test"), help="split to validate on")
    flag(
        "--img",
        "--imgsz",
        "--img-size",
        type=cli.at_least(1),
        nargs="+",
        action=OneSize,
        help="longer side of the images [pixels] (default: as in training)",
    )
    flag("--save-txt", action="store_true", help="write the predictions as labels/*.txt: class cx cy w h, normalized")
    flag("--save-conf", action="store_true", help="as --save-txt, with scores")
    flag("--batch-size", "--batch", type=cli.at_least(1), default=16, help="images per batch")
    flag(
        "--square",
        action="store_true",
        help="square letterboxing instead of batches of the images' own aspect ratio (always for models trained "
        "without geometric augmentation)",
    )
    flag("--branch", help="branch of a OneToOneDetect model to validate: one_to_many (with NMS) or one_to_one")
    flag("--single-cls", action="store_true", help="treat all classes of the dataset as one, for models of one class")
    flag(
        "--workers",
        type=cli.at_least(0),
        help=f"processes that load images (default: one per CPU core and {IMAGES_PER_WORKER} images)",
    )
    add_selection_flags(parser, conf=0.001, iou=0.6)
    add_run_flags(parser, "runs/val")
    add_plots_flag(parser)
    return parser


if startup.is_script(__name__):  # --help and wrong flags end here, before torch is imported
    startup.parse_and_prepare(make_parser, follows_load=True)

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.dataset_split import Split
from graftdet.data.loader import val_loader
from graftdet.data.original_images import OriginalImages
from graftdet.data.synthetic_dataset import open_dataset
from graftdet.models import load_plugins
from graftdet.models.backends.loading import load_models, model_request, newest_weights
from graftdet.models.backends.selection.ways import SAMPLED_IMAGES, Workload
from graftdet.models.inference.output_files import OutputNames, write_labels
from graftdet.models.inference.predict_settings import PredictSettings
from graftdet.models.inference.predictor import Predictor
from graftdet.models.inference.slicing import SlicedSteps
from graftdet.models.inference.tta import AugmentedModel
from graftdet.utils.cli.keyword_flags import arguments_from_keywords
from graftdet.utils.device import default_workers
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_results import CocoResults, plain
from graftdet.utils.evaluation.evaluator import Evaluation, evaluate
from graftdet.utils.evaluation.json_file import write_json
from graftdet.utils.evaluation.report import format_evaluation
from graftdet.utils.evaluation.saved_evaluation import FILE, save_evaluation
from graftdet.utils.files import new_run_folder, spread_sample
from graftdet.utils.text import counted
from graftdet.utils.threads import sharing_cores
from graftdet.utils.visualization import evaluation_plots
from graftdet.utils.visualization.batch_images import ValidationImages

logger = logging.getLogger("graftdet.val")


@dataclass(frozen=True)
class ValidationResult:
    """Result of a validation.

    Attributes:
        folder: Folder with predictions.json, metrics.json and charts.
        metrics: "AP50-95", "AP50", "precision", "recall" ... over all classes (see `Evaluation.metrics`).
        per_class: Metrics of each class (see `Evaluation.per_class`).
        speed: Milliseconds per image of "preprocess", "inference" and "nms".
        images: Number of images.
        instances: Number of ground-truth boxes.
        results: All detections.
    """

    folder: Path
    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    speed: dict[str, float]
    images: int
    instances: int
    results: CocoResults = field(repr=False)

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """All detections as COCO results."""
        return self.results.to_dicts()


def main(argv: Sequence[str] | None = None) -> ValidationResult:
    """Parse the command line and validate."""
    cli.configure_logging()
    return validate(make_parser().parse_args(argv))


def validate_model(**flags: Any) -> ValidationResult:
    """Validate trained weights on a dataset, as `val.py` does.

    Args:
        **flags: Flags of val.py with underscores instead of hyphens, such as `weights`, `data`, `split` or `img`; see
            `python val.py --help`. All have the defaults of the script.

    Returns:
        Folder of the results, metrics over all classes and per class, speed, detections.

    Raises:
        UserError: For unknown arguments and invalid values, where the script would end with exit status 2.

    Example:
        >>> from graftdet import validate_model
        >>> result = validate_model(weights="runs/train/exp/weights/best.pt", data="shapes.yaml", split="val")
        >>> result.metrics["AP50-95"], [entry["AP50"] for entry in result.per_class]
    """
    parser = make_parser()
    return validate(parser.parse_args(arguments_from_keywords(parser, flags, "validate_model")))


def validate(options: Namespace) -> ValidationResult:
    """Load model and data, evaluate, write the results."""
    load_plugins(options.plugins)
    weights = options.weights or [newest_weights()]
    data = load_data_config(options.data)
    split = open_split(data, options.split, single_class=options.single_cls)
    model = load_models(weights, model_request(options), workload(options, split))
    if options.single_cls and model.nc != 1:
        raise UserError(
            f"--single-cls: is for models trained with it, of one class; {weights[0]} has {counted(model.nc, 'class')}"
        )
    if not options.single_cls:  # a model of one class detects all classes as one, whatever its name
        split = match_classes(model, split, weights[0], options.data)
    size = square_size(model, options.img)
    logger.info(
        f"{', '.join(map(str, weights))} on {data.path}, {options.split}: "
        f"{counted(len(split.samples), 'image')} at {size}"
    )

    # Files exported for one size need squares; models trained with square letterboxing and no geometric augmentation
    # are validated with it. All others take batches of the images' own aspect ratio.
    rect = model.fixed_size is None and not (options.square or model.square_letterbox)
    dataset = open_dataset(split, size, rect=rect, stride=model.stride, label=options.split)
    workers = min(default_workers(), len(dataset) // IMAGES_PER_WORKER) if options.workers is None else options.workers
    images = ValidationImages()
    steps = sliced_steps(options, model, size) if options.slice else None
    with sharing_cores(str(model.device).partition(":")[0], constant=True):  # the same results on a busy machine
        evaluation = evaluate(
            AugmentedModel(model) if options.augment else model,
            OriginalImages(dataset) if steps else val_loader(dataset, options.batch_size, workers),
            ground_truth=split.ground_truth(),
            category_ids=split.category_ids,
            conf=options.conf,
            iou=options.iou,
            max_det=options.max_det,
            method=options.nms,
            device=model.device,
            on_batch=None if steps else images,
            detect=steps.detect_batch if steps else None,
        )
    logger.log(RESULT, format_evaluation(evaluation))
    folder = new_run_folder(options.project, options.name, options.exist_ok)
    if "none" not in options.plots:
        images.write(folder, split.names)
    if options.save_txt or options.save_conf:
        write_label_files(evaluation.results, split, folder / "labels", options.save_conf)
    return save_results(evaluation, split.names, folder, options.plots)


def sliced_steps(options: Namespace, model: Predictor, size: int) -> SlicedSteps:
    """What --slice does with each image."""
    same = {
        name: getattr(options, name) for name in "conf iou max_det nms augment batch_size slice slice_overlap".split()
    }
    return SlicedSteps(model, PredictSettings(size=size, multi_label=model.nc > 1, **same))


def workload(options: Namespace, split: Split) -> Workload:
    """What the model will be used for: the choice of the fastest backend depends on it."""
    paths = [sample.path for sample in split.samples]
    sampled = spread_sample(paths, SAMPLED_IMAGES)
    size = image_size(options.img, stride=1) if options.img else None
    return Workload(size, options.batch_size, len(paths), sampled, "the dataset")


def save_results(evaluation: Evaluation, names: Sequence[str], folder: Path, plots: Sequence[str]) -> ValidationResult:
    """Write predictions.json, metrics.json and charts in the formats `plots` into `folder`."""
    evaluation.results.write(folder / "predictions.json")
    save_evaluation(evaluation, folder / FILE)
    metrics = {**evaluation.metrics, "per_class": evaluation.per_class, "speed": evaluation.speed}
    write_json(folder / "metrics.json", metrics)
    evaluation_plots.plot_evaluation(evaluation.curves, evaluation.confusion, names, folder, plots)
    logger.log(RESULT, f"{counted(len(evaluation.results), 'prediction')}; saved to {folder}")
    return ValidationResult(
        folder=folder,
        metrics=evaluation.metrics,
        per_class=evaluation.per_class,
        speed=evaluation.speed,
        images=evaluation.images,
        instances=evaluation.instances,
        results=evaluation.results,
    )


def write_label_files(results: CocoResults, split: Split, folder: Path, with_scores: bool) -> None:
    """Write the detections of each image as FOLDER/IMAGE.txt in YOLO format, with the class indices of the model."""
    names, samples = OutputNames(), {plain(sample.image_id): sample for sample in split.samples}
    for image_id, rows in results.by_image():
        sample = samples[image_id]
        shape = (sample.height, sample.width)
        path = folder / f"{names(str(sample.path))}.txt"
        write_labels(path, rows[:, :4], rows[:, 5], rows[:, 4], shape, with_scores)
    logger.info(f"labels of {counted(len(samples), 'image')} in {folder}")


def match_classes(model: Predictor, split: Split, weights: str | Path, data: str) -> Split:
    """Return `split` with its classes in the order of `model`.

    Weights without class names are assumed to have those of the dataset, in the same order.

    Args:
        model: The loaded model.
        split: The split to validate on.
        weights: Path of the weights, for messages.
        data: Name of the data YAML, for messages.

    Raises:
        UserError: If the classes differ; names the first difference.
    """
    if model.nc != len(split.names):
        hint = "; validate a model of one class with --single-cls" if model.nc == 1 else ""
        raise UserError(f"{weights} has {counted(model.nc, 'class')}, {data} has {len(split.names)}{hint}")
    if not model.names_known or model.names == split.names:
        return split
    for index, (known, expected) in enumerate(zip(model.names, split.names, strict=True)):
        if expected not in model.names or known not in split.names:
            raise UserError(
                f"{weights} and {data} have different classes: class {index} is '{known}' in the weights and "
                f"'{expected}' in the dataset"
            )
    order = ", ".join(model.names[:3])
    logger.info(f"the classes of the dataset are in another order than in the weights ({order} ...): matched by name")
    return split.reorder_classes(model.names)


def square_size(model: Predictor, img: int | None) -> int:
    """Return the side of the squares that images are letterboxed to.

    Raises:
        UserError: If the file was exported for another size, or not for a square.
    """
    height, width = model.input_size(image_size(img, model.stride) if img else None)
    if height != width:
        raise UserError(
            f"--img {height} {width}: validation needs one size, and files exported for a square or with --dynamic"
        )
    return height


if __name__ == "__main__":
    cli.run(main)
