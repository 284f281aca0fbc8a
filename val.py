"""Measure a trained model: `python val.py --weights runs/train/exp/weights/best.pt --data bccd.yaml --split test`.

PROJECT/NAME receives predictions.json (COCO results with the source's own ids), metrics.json and the charts.
"""

import json
import math

from graftdet.utils.startup import import_before_torch

if __name__ == "__main__":
    import_before_torch("graftdet.data.dataset_config")

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.dataset import DetectionDataset
from graftdet.data.loader import val_loader
from graftdet.models import load_plugins
from graftdet.models.backends.loading import load_models, newest_weights
from graftdet.models.inference.tta import AugmentedModel
from graftdet.utils import cli
from graftdet.utils.cli_options import add_model_flags, add_run_flags, add_selection_flags, image_size
from graftdet.utils.device import default_workers
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import evaluate
from graftdet.utils.evaluation.report import print_table
from graftdet.utils.files import new_run_folder, write_atomically
from graftdet.utils.text import valid_utf8
from graftdet.utils.visualization import plots

PICTURES_A_WORKER = 500  # a thread reads fewer than that as fast as a process starts


def main(argv=None):
    options = make_parser().parse_args(argv)
    load_plugins(options.plugins)
    weights = options.weights or [newest_weights()]
    model = load_models(weights, options.device, options.half, options.branch, options.backend, options.plugins)
    data = load_data_config(options.data)
    split = open_split(data, options.split, single_class=options.single_cls)
    if options.single_cls and model.nc != 1:
        raise UserError(f"--single-cls: is for models that were trained with it; {weights[0]} knows {model.nc} classes")
    if not options.single_cls or model.nc != 1:  # one class is all classes, whatever it is called
        split = in_order_of(model, split, f"{weights[0]} and {options.data} do not belong together")
    side = square_side(model, options.img)
    print(f"{', '.join(map(str, weights))} on {data.path}, {options.split}: {len(split.samples)} pictures at {side}")

    # A file exported for one size takes squares, and so does what was trained on them alone; anything else takes batches
    # of the pictures' own aspect.
    rectangular = model.fixed_size is None and not (options.square or model.square_letterbox)
    dataset = DetectionDataset(split, side, rect=rectangular, stride=model.stride, label=options.split)
    workers = min(default_workers(), len(dataset) // PICTURES_A_WORKER) if options.workers is None else options.workers
    loader = val_loader(dataset, options.batch_size, workers)
    result = evaluate(
        AugmentedModel(model) if options.augment else model, loader, ground_truth=split.ground_truth(), category_ids=split.category_ids,
        conf=options.conf, iou=options.iou, max_det=options.max_det, method=options.nms,
        device=model.device,  # an exported file takes pictures from there
    )  # fmt: skip

    print_table(result)
    folder = new_run_folder(options.project, options.name, options.exist_ok)
    result.results.write(folder / "predictions.json")
    write_json(folder / "metrics.json", {**result.metrics, "per_class": result.per_class, "speed": result.speed})
    plots.plot_curves(result.curves, split.names, folder)
    plots.plot_confusion(result.confusion, split.names, folder / "confusion_matrix.png")
    print(f"{len(result.results)} predictions; saved to {folder}")
    return result


def in_order_of(model, split, about):
    """`split` with its classes in the order in which `model` knows them.

    Raises `UserError` when they are not the same classes, naming the first that the weights lack. Weights that name no
    classes are taken to know them in the order of the data.
    """
    if model.nc != len(split.names):
        hint = "; a model of one class is measured with --single-cls" if model.nc == 1 else ""
        raise UserError(f"{about}: the weights know {model.nc} classes, the data set has {len(split.names)}{hint}")
    if not model.names_known or model.names == split.names:
        return split
    for index, (known, wanted) in enumerate(zip(model.names, split.names, strict=True)):
        if wanted not in model.names or known not in split.names:
            raise UserError(f"{about}: class {index} is '{known}' in the weights and '{wanted}' in the data set")
    print(
        f"classes are in another order in the data set than in the weights ({', '.join(model.names[:3])} ...): matched by name"
    )
    return split.reorder_classes(model.names)


def square_side(model, img):
    """The side that pictures are fitted into. Raises `UserError` when the file was exported for another."""
    height, width = model.input_size(image_size(img, model.stride) if img else None)
    if height != width:
        raise UserError(
            f"--img {height} {width}: measuring takes one side, and files exported for a square or --dynamic"
        )
    return height


def write_json(path, content):
    """Plain data; a number that is not defined becomes null."""
    text = json.dumps(defined(content), ensure_ascii=False)
    write_atomically(path, valid_utf8(text).encode())


def defined(value):
    """`value` with None in the place of every NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: defined(item) for key, item in value.items()}
    if isinstance(value, list):
        return [defined(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_parser():
    parser = cli.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_model_flags(parser, backend="torch")
    add("--data", default="shapes.yaml", help="data YAML, a path or a name in configs/data")
    add("--split", "--task", default="val", choices=("train", "val", "test"), help="what to measure on")
    add(
        "--img",
        "--imgsz",
        "--img-size",
        type=cli.at_least(1),
        help="longest side of the pictures (default: as trained)",
    )
    add("--batch-size", type=cli.at_least(1), default=16, help="pictures at once")
    told = "squares instead of batches of the pictures' own aspect (always where nothing moved pictures in training)"
    add("--square", action="store_true", help=told)
    add("--branch", help="one_to_many: measure that branch of a OneToOneDetect model, by NMS")
    add("--single-cls", action="store_true", help="take all classes of the data as one, for models of one class")
    told = f"processes that load pictures (default: one a core, for {PICTURES_A_WORKER} pictures each)"
    add("--workers", type=cli.at_least(0), help=told)
    add_selection_flags(parser, conf=0.001, iou=0.6)
    add_run_flags(parser, "runs/val")
    return parser


if __name__ == "__main__":
    cli.run(main)
