"""Export a trained model for other programs: `python export.py --weights runs/train/exp/weights/best.pt --img 640`.

Each exported file is loaded again and compared with the model. docs/exported-files.md describes how to run it.
"""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.utils import cli, startup
from graftdet.utils.cli.options import add_trust_flags, image_size


def make_parser() -> cli.ArgumentParser:
    """The flags of export.py, named as the arguments of `export_model`."""
    parser = cli.ArgumentParser(description=__doc__, script="export")
    add = parser.add_argument
    add("--weights", help="a .pt or .safetensors file, own or published (default: best.pt of the newest run)")
    add("--include", nargs="+", default=["onnx"], metavar="FORMAT", help=f"formats: {', '.join(BACKENDS)}")
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
    add("--out", help="file or folder to write to, created if missing (default: beside the weights)")
    add_trust_flags(parser)
    return parser


if startup.is_script(__name__):  # --help and wrong flags end here, before torch is imported
    startup.parse_and_prepare(make_parser)

import cv2

from graftdet.models import load_plugins
from graftdet.models.backends.loading import newest_weights
from graftdet.models.backends.verify import opencv_difference, verify
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.graph.export_check import check_export_size
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

logger = logging.getLogger("graftdet.export")


@dataclass
class ExportedFile:
    """One exported file.

    Attributes:
        format: the name of its format in `graftdet.models.backends.BACKENDS`.
        path: the file.
        megabytes: its size, with the files that belong to it.
        difference: largest |a-b|/max(1,|b|) between its output and the model's.
        opencv_difference: the same for OpenCV's dnn module; None where it cannot load the file, or was not asked.
    """

    format: str
    path: Path
    megabytes: float
    difference: float
    opencv_difference: float | None = None


@dataclass
class ExportResult:
    """What `export_model` wrote.

    Attributes:
        weights: the weights file.
        names: class names.
        size: (height, width) of the input in pixels; with a dynamic file only an example.
        files: one entry per format.
    """

    weights: Path
    names: list[str]
    size: tuple[int, int]
    files: list[ExportedFile] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> ExportResult:
    """Parse the command line and export."""
    options = make_parser().parse_args(argv)
    return export_model(**vars(options))


def export_model(
    weights: str | Path | None = None,
    *,
    include: str | Sequence[str] = ("onnx",),
    img: int | Sequence[int] | None = None,
    batch_size: int = 1,
    dynamic: bool = False,
    opset: int = 17,
    out: str | Path | None = None,
    plugins: Sequence[str] = (),
) -> ExportResult:
    """Export a trained model and verify each file. The arguments are named as the flags of export.py.

    Args:
        weights: a `.pt` or `.safetensors` file, own or published; None: best.pt of the newest training run.
        include: formats, names of `graftdet.models.backends.BACKENDS`.
        img: side of the input in pixels, or (height, width); None: as trained.
        batch_size: images per call of a file that is not dynamic.
        dynamic: accept any batch size, height and width.
        opset: ONNX operator set.
        out: file or folder to write to; None: beside the weights.
        plugins: files, folders or packages that define blocks of the model.

    Returns:
        The files and their differences to the model.

    Raises:
        UserError: unreadable weights, invalid options, a model that cannot be exported, or a file whose output differs
            from the model's.

    Example:
        >>> result = export_model("best.pt", include=["onnx", "openvino"], img=640, dynamic=True)
        >>> [file.path for file in result.files]
    """
    load_plugins(plugins)
    include = [include] if isinstance(include, str) else list(include)
    weights = Path(weights or newest_weights())
    paths = check_formats(include, out, weights)  # before anything is written
    file = load_weights(weights)
    model = build_from_weights(file)
    size = image_size(file.size or 640 if img is None else img, model.size_multiple)
    logger.info(f"{weights}: {model.nc} classes, {sum(p.numel() for p in model.parameters()):,} parameters")
    check_export_size(model, size)
    options = ExportOptions(size, batch_size, opset, dynamic, file.square_letterbox)
    result = ExportResult(weights, list(model.names), size)
    for name, path in paths.items():
        exported = export_file(model, name, path, options)
        result.files.append(exported)
        shape = "any batch and size" if dynamic else f"batch {batch_size}, {size[0]}x{size[1]}"
        logger.info(f"{path}: {exported.megabytes:.1f} MB, input {shape}, {model.nc} class names")
    return result


def export_file(model: DetectionModel, name: str, path: Path, options: ExportOptions) -> ExportedFile:
    """Export a model in one format and compare the file with the model.

    Args:
        model: the model.
        name: the format.
        path: the file to write.
        options: how to export.

    Raises:
        UserError: the model cannot be exported, or the output of the file differs.
    """
    backend = BACKENDS[name]
    backend.export(model, path, options)
    loaded = backend.load(path)
    difference = verify(model, loaded, path, options)
    logger.info(f"{name}: largest |a-b|/max(1,|b|) to torch {difference:.2e}")
    parts = [path.with_suffix(suffix) for suffix in (backend.suffix, *backend.companion_suffixes)]
    exported = ExportedFile(name, path, sum(part.stat().st_size for part in parts) / 1e6, difference)
    if name == "onnx":
        exported.opencv_difference = opencv_difference(loaded, path, options)
        unreadable = exported.opencv_difference is None
        outcome = "cannot read it" if unreadable else f"reads it, largest difference {exported.opencv_difference:.2e}"
        logger.info(f"OpenCV {cv2.__version__} dnn: {outcome}")
    return exported


def check_formats(include: Sequence[str], out: str | Path | None, weights: Path) -> dict[str, Path]:
    """The file to write of each format.

    Raises:
        UserError: an unknown format, one whose package is not installed, or an `out` that does not fit.
    """
    for name in include:
        package = BACKENDS[name].package
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--include {name}: needs {package}; install it with 'pip install {package}'")
    return {name: output_path(out, weights, BACKENDS[name].suffix, len(include)) for name in include}


def output_path(out: str | Path | None, weights: Path, suffix: str, num_formats: int) -> Path:
    """The file to write.

    Args:
        out: a file or a folder; a new folder is written with a final slash. None: beside the weights.
        weights: the weights file, whose stem names the file in a folder.
        suffix: suffix of the format.
        num_formats: how many formats are exported; with several, `out` must be a folder.

    Raises:
        UserError: `out` is a file name that does not fit.
    """
    if out is None:
        return weights.with_suffix(suffix)
    path = Path(out)
    if path.is_dir() or str(out).endswith(("/", "\\")):
        return path / f"{weights.stem}{suffix}"
    if path.suffix.lower() != suffix or num_formats > 1:
        raise UserError(f"--out {out}: expected a file name that ends in {suffix}, or a folder (a new one as '{out}/')")
    return path


if __name__ == "__main__":
    cli.run(main)
