"""Export a trained model for other programs: `python export.py --weights runs/train/exp/weights/best.pt --img 640`.

Each exported file is loaded again and compared with the model. docs/exported-files.md describes how to run it.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from graftdet.models.backends import BACKENDS, ExportOptions, check_output
from graftdet.models.backends.layouts.own_outputs import OUTPUTS
from graftdet.utils import cli, startup
from graftdet.utils.cli.console import RESULT, warnings_only
from graftdet.utils.cli.options import add_trust_flags, image_size


def make_parser() -> cli.ArgumentParser:
    """The flags of export.py, named as the arguments of `export_model`."""
    parser = cli.ArgumentParser(description=__doc__, script="export")
    add = parser.add_argument
    add("--weights", help="a .pt or .safetensors file, own or published (default: best.pt of the newest run)")
    formats = f"formats: {', '.join(BACKENDS)} (default: onnx; with --benchmark all whose packages are installed)"
    add("--include", nargs="+", metavar="FORMAT", help=formats)
    size = "side of the input in pixels, or height and width (default: as trained)"
    add("--img", "--imgsz", "--img-size", type=int, nargs="+", help=size)
    add(
        "--batch-size",
        "--batch",
        type=cli.at_least(1),
        default=1,
        help="images per call, of a file that is not --dynamic",
    )
    add("--dynamic", action="store_true", help="accept any batch size, height and width")
    add("--opset", type=int, default=17, help="ONNX operator set, 11 to 20")
    output = "end of the graph: raw maps of the head; split: boxes and scores; decoded: rows as YOLOv5; nms: detections"
    add("--output", choices=OUTPUTS, default="decoded", help=output)
    layout = "layout of raw outputs with anchors: (B, A (5 + nc), H, W) or (B, A, H W, 5 + nc)"
    add("--raw-layout", choices=("maps", "cells"), default="maps", help=layout)
    add("--conf", type=float, default=0.001, help="lowest score of a detection, with --output nms")
    add(
        "--iou", type=float, default=0.45, help="IoU above which the worse box of a class is dropped, with --output nms"
    )
    add("--max-det", type=cli.at_least(1), default=300, help="maximum number of detections, with --output nms")
    data = "data YAML: compare AP of file and weights, and images of its validation split instead of drawn ones"
    add("--data", help=data)
    add("--int8", action="store_true", help="quantize to int8 with images of the training split of --data")
    drop = "largest loss of AP50-95 by --int8; above it the export fails and lists the layers that cost most"
    add("--int8-drop", type=float, default=0.01, help=drop)
    add("--calibration-images", type=cli.at_least(1), default=64, help="images that --int8 is calibrated on")
    add("--seed", type=int, default=0, help="seed that chooses the calibration images")
    add("--receipt", metavar="FILE", help="compare this exported file again with --weights, instead of an export")
    benchmark = "measure each format instead: size, speed, memory, with --data AP and int8; as JSON, Markdown and chart"
    add("--benchmark", action="store_true", help=benchmark)
    add("--out", help="file or folder to write to, created if missing (default: beside the weights)")
    install = "create the environment that the converter of a format needs (litert: 2 GB), below the cache folder"
    add("--allow-install", action="store_true", help=install)
    add_trust_flags(parser)
    return parser


if startup.is_script(__name__):  # --help and wrong flags end here, before torch is imported
    startup.parse_and_prepare(make_parser)

import numpy as np

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.models import load_plugins
from graftdet.models.analysis.benchmark.report import run_benchmark
from graftdet.models.analysis.benchmark.rows import BenchmarkRow
from graftdet.models.backends.loading import newest_weights
from graftdet.models.backends.metadata import anchors_in_pixels
from graftdet.models.backends.receipt.exported_file import ExportedFile, compare_again, export_file
from graftdet.models.backends.receipt.receipt import Limits, receipt_table
from graftdet.models.backends.receipt.verified_export import Evidence, format_of, options_of
from graftdet.models.backends.target_paths import benchmark_stem, check_formats, installed_formats
from graftdet.models.graph.export_check import check_export_size
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image
from graftdet.utils.text import counted

logger = logging.getLogger("graftdet.export")
COMPARED_IMAGES = 8  # of the validation split


@dataclass
class ExportResult:
    """What `export_model` wrote.

    Attributes:
        weights: the weights file.
        names: class names.
        size: (height, width) of the input in pixels; with a dynamic file only an example.
        files: one entry per format.
        benchmark: one row per format and precision, of a benchmark.
    """

    weights: Path
    names: list[str]
    size: tuple[int, int]
    files: list[ExportedFile] = field(default_factory=list)
    benchmark: list[BenchmarkRow] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> ExportResult:
    """Parse the command line and export, or make a receipt again."""
    return export_model(**vars(make_parser().parse_args(argv)))


def export_model(
    weights: str | Path | None = None,
    *,
    include: str | Sequence[str] | None = None,
    img: int | Sequence[int] | None = None,
    batch_size: int = 1,
    dynamic: bool = False,
    opset: int = 17,
    output: str = "decoded",
    raw_layout: str = "maps",
    conf: float = 0.001,
    iou: float = 0.45,
    max_det: int = 300,
    data: str | None = None,
    int8: bool = False,
    int8_drop: float = 0.01,
    calibration_images: int = 64,
    seed: int = 0,
    receipt: str | Path | None = None,
    benchmark: bool = False,
    out: str | Path | None = None,
    allow_install: bool = False,
    plugins: Sequence[str] = (),
) -> ExportResult:
    """Export a trained model and verify each file. The arguments are named as the flags of export.py.

    Args:
        weights: a `.pt` or `.safetensors` file, own or published; None: best.pt of the newest training run.
        include: formats, names of `graftdet.models.backends.BACKENDS`; None: onnx; of a benchmark all whose packages
            are installed.
        img: side of the input in pixels, or (height, width); None: as trained.
        batch_size: images per call of a file that is not dynamic.
        dynamic: accept any batch size, height and width.
        opset: ONNX operator set.
        output: where the graph ends: "raw", "split", "decoded" or "nms".
        raw_layout: layout of raw outputs, "maps" or "cells".
        conf, iou, max_det: limits of the non-maximum suppression of the output "nms".
        data: a data YAML, to compare AP, on its validation split.
        int8: quantize, with images of the training split of `data`; file names get the ending -int8.
        int8_drop: largest loss of AP50-95 by quantization.
        calibration_images, seed: number of calibration images, and the seed that chooses them.
        receipt: an exported file to compare again, instead of an export; its receipt is written beside it.
        benchmark: measure each format, in each precision, instead of an export; with `data` AP and int8, too.
        out: file or folder to write to; None: beside the weights.
        allow_install: create the environment that the converter of a format needs, where it does not exist; nothing
            else installs anything.
        plugins: files, folders or packages that define blocks of the model.

    Returns:
        The files and their differences to the model, or the rows of the benchmark.

    Raises:
        UserError: unreadable weights, invalid options, a model that cannot be exported, or a file whose output differs
            from the model's.

    Example:
        >>> result = export_model("best.pt", include=["onnx", "openvino"], img=640, dynamic=True)
        >>> [file.path for file in result.files]
    """
    load_plugins(plugins)
    weights = Path(weights or newest_weights())
    formats = (
        [include] if isinstance(include, str) else list(include or (installed_formats() if benchmark else ["onnx"]))
    )
    if receipt:
        paths = {format_of(Path(receipt)): Path(receipt)}
    else:
        paths = check_formats(formats, None if benchmark else out, weights, "-int8" * int8, allow_install)
    file = load_weights(weights)
    model = build_from_weights(file)
    size = image_size(file.size or 640 if img is None else img, model.size_multiple)
    logger.info(f"{weights}: {counted(model.nc, 'class')}, {sum(p.numel() for p in model.parameters()):,} parameters")
    options = ExportOptions(
        size, batch_size, opset, dynamic, file.square_letterbox, output, raw_layout, conf, iou, max_det
    )
    result = ExportResult(weights, list(model.names), size)
    if receipt:
        name, path = next(iter(paths.items()))
        options = options_of(BACKENDS[name].load(path).metadata, path)
        result.files = [compare_again(model, name, path, options, collect_evidence(weights, data, options))]
        return result
    check_export_size(model, size)
    if benchmark:
        images = read_calibration_images(data, calibration_images, seed) if data else None
        evidence = replace(collect_evidence(weights, data, options), calibration=images)
        result.benchmark = run_benchmark(model, formats, options, evidence, benchmark_stem(out, weights), plugins)
        return result
    for name in paths:
        check_output(model, options, name)
    if model.head.anchors is not None:
        logger.info(f"anchors in use, per level [pixels]: {anchors_in_pixels(model)}")
    evidence = collect_evidence(weights, data, options)
    if int8:
        images = read_calibration_images(data, calibration_images, seed)
        limits = Limits(difference=None, matched=None, ap_drop=int8_drop)
        evidence = replace(evidence, calibration=images, limits=limits, accepted_loss=int8_drop / 2)
    for name, path in paths.items():
        exported = export_file(model, name, path, options, evidence)
        result.files.append(exported)
        shape = "any batch and size" if dynamic else f"batch {batch_size}, {size[0]}x{size[1]}"
        logger.log(RESULT, f"{path}: {exported.megabytes:.1f} MB, input {shape}, {counted(model.nc, 'class name')}")
    logger.info(receipt_table([one.receipt for one in result.files]))
    return result


def read_calibration_images(data: str | None, count: int, seed: int) -> list[np.ndarray]:
    """Images (H, W, 3) of the training split, chosen by a seed. Raises `UserError` without `data`."""
    if data is None:
        raise UserError(
            "--int8: needs --data, whose training split it is calibrated on; AP is compared on its val split"
        )
    samples = open_split(load_data_config(data), "train").samples
    chosen = np.random.default_rng(seed).choice(len(samples), min(count, len(samples)), replace=False)
    return [read_image(samples[int(index)].path) for index in chosen]


def collect_evidence(weights: Path, data: str | None, options: ExportOptions) -> Evidence:
    """Images of the validation split, and AP on it; without `data`, drawn images. Raises `UserError`."""
    if data is None:
        return Evidence(weights)
    split = open_split(load_data_config(data), "val")
    paths = [sample.path for sample in split.samples[:COMPARED_IMAGES]]
    images = [read_image(path) for path in paths]
    remembered: dict[tuple[Path | None, bool], float] = {}

    def average_precision(path: Path | None, half: bool = False) -> float:
        from graftdet.val import validate_model

        if (path, half) not in remembered:
            square = {} if options.dynamic else {"square": True}
            with tempfile.TemporaryDirectory() as folder, warnings_only():
                flags = {"data": data, "img": max(options.size), "device": "cpu", "project": folder, **square}
                flags |= {"half": True} if half else {}
                remembered[path, half] = validate_model(weights=[str(path or weights)], **flags).metrics["AP50-95"]
            name = (path or weights).name + (" in half precision" if half else "")
            logger.info(f"{name} on {data}, val: AP50-95 {remembered[path, half]:.4f}")
        return remembered[path, half]

    return Evidence(weights, images, f"{data}, val", f"{data}, val", average_precision)


if __name__ == "__main__":
    cli.run(main)
