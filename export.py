"""Write a trained model for other programs: `python export.py --weights runs/train/exp/weights/best.pt --img 640`."""

from pathlib import Path

import cv2
from graftdet.models import load_plugins
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.loading import newest_weights
from graftdet.models.backends.verify import opencv_difference, verify
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils import cli
from graftdet.utils.cli_options import add_plugins_flag, image_size
from graftdet.utils.errors import UserError


def main(argv=None):
    options = make_parser().parse_args(argv)
    load_plugins(options.plugins)
    weights = Path(options.weights or newest_weights())
    file = load_weights(weights)
    model = build_from_weights(file)
    size = image_size(options.img or file.size or 640, model.size_multiple)
    print(f"{weights}: {model.nc} classes, {sum(p.numel() for p in model.parameters()):,} parameters")

    how = ExportOptions(size, options.batch_size, options.opset, options.dynamic, file.square_letterbox)
    for word in options.include:
        backend = BACKENDS[word]
        path = output_path(options.out, weights, backend.suffix, len(options.include))
        backend.export(model, path, how)
        loaded = backend.load(path)
        difference = verify(model, loaded, path, how)  # raises when the file does not give what the model gives
        print(f"{word}: largest |a-b|/max(1,|b|) to torch {difference:.2e}")
        if word == "onnx":
            opencv = opencv_difference(loaded, path, how)
            told = "cannot read it" if opencv is None else f"reads it, largest difference {opencv:.2e}"
            print(f"OpenCV {cv2.__version__} dnn: {told}")
        shape = "any batch and size" if options.dynamic else f"batch {options.batch_size}, {size[0]}x{size[1]}"
        megabytes = sum(path.with_suffix(end).stat().st_size for end in (backend.suffix, *backend.beside)) / 1e6
        print(f"{path}: {megabytes:.1f} MB, input {shape}, {len(model.names)} names inside")


def output_path(out: str | None, weights: Path, suffix: str, formats: int) -> Path:
    """Where to write: `--out` as a file or a folder, else beside the weights. Raises `UserError` when it makes no sense."""
    if out is None:
        return weights.with_suffix(suffix)
    path = Path(out)
    if path.is_dir() or out.endswith(("/", "\\")):
        return path / f"{weights.stem}{suffix}"
    if path.suffix.lower() != suffix or formats > 1:
        raise UserError(f"--out {out}: expected a file that ends in {suffix}, or a folder (a new one as '{out}/')")
    return path


def make_parser():
    parser = cli.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="a .pt file, ours or published (default: best.pt of the newest training run)")
    parser.add_argument(
        "--include", nargs="+", default=["onnx"], metavar="FORMAT", help=f"formats: {', '.join(BACKENDS)}"
    )
    parser.add_argument(
        "--img",
        "--imgsz",
        "--img-size",
        type=int,
        nargs="+",
        help="one side, or height and width (default: as trained)",
    )
    parser.add_argument(
        "--batch-size", type=cli.at_least(1), default=1, help="pictures at once, of a file that is not --dynamic"
    )
    parser.add_argument("--dynamic", action="store_true", help="take any batch, height and width")
    parser.add_argument("--opset", type=int, default=17, help="ONNX operator set")
    parser.add_argument(
        "--out", help="file or folder to write to, made where it is missing (default: beside the weights)"
    )
    add_plugins_flag(parser)
    return parser


if __name__ == "__main__":
    cli.run(main)
