"""Command line flags, and checks of their values, that several scripts share."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from graftdet.utils import cli
from graftdet.utils.errors import UserError
from graftdet.utils.nms.suppression import METHODS


def image_size(img: int | Sequence[int], stride: int) -> tuple[int, int]:
    """`--img` as (height, width): one side or two, brought up to multiples of `stride`, which is told. Raises `UserError`."""
    sides = (img, img) if isinstance(img, int) else tuple(img) * (2 if len(img) == 1 else 1)
    if len(sides) != 2 or not all(1 <= side <= 16384 for side in sides):
        raise UserError(f"--img {' '.join(map(str, sides))}: expected one side or height and width, from 1 to 16384")
    height, width = (-(-side // stride) * stride for side in sides)
    if (height, width) != sides:
        print(f"--img {' '.join(map(str, sides))}: taken as {height} {width}, multiples of {stride}", file=sys.stderr)
    return height, width


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return value


def add_run_flags(parser: argparse.ArgumentParser, project: str) -> None:
    """What every run takes: --device, where it writes (`graftdet.utils.files`), and --plugins."""
    add = parser.add_argument
    add("--device", default="", help="cpu, mps, cuda or a CUDA device's number (default: the best there is)")
    add("--project", type=Path, default=Path(project), help="folder of runs; made where it is missing")
    add("--name", default="exp", help="folder of this run below --project; one that exists gets a number")
    add("--exist-ok", action="store_true", help="write into a folder that exists")
    add_plugins_flag(parser)


def add_plugins_flag(parser: argparse.ArgumentParser) -> None:
    about = "Python files that bring blocks of your own"
    parser.add_argument("--plugins", nargs="+", action="extend", type=_plugin, default=[], metavar="FILE", help=about)


def _plugin(name: str) -> str:
    """A file, or a folder written with a /, as an absolute path, which a run finds that goes on from elsewhere; the
    dotted name of a package as it is."""
    path = Path(name)
    return str(path.resolve()) if path.is_file() or (path.is_dir() and not path.name == name) else name


def add_model_flags(parser: argparse.ArgumentParser, backend: str) -> None:
    """What detects, for scripts that do not train: --weights, --half, and --backend with its default."""
    weights = "a .pt or exported file; several are an ensemble (default: best.pt of the newest training run)"
    parser.add_argument("--weights", nargs="+", help=weights)
    parser.add_argument("--half", action="store_true", help="float16 on CUDA; bfloat16 with OpenVINO")
    told = f"what runs a .pt: torch, onnx or openvino, or auto: the fastest that is installed (default: {backend})"
    parser.add_argument("--backend", choices=("auto", "torch", "onnx", "openvino"), default=backend, help=told)


def add_selection_flags(parser: argparse.ArgumentParser, conf: float, iou: float) -> None:
    """Which of a model's boxes are kept: --conf, --iou, --max-det, --nms, --augment."""
    add = parser.add_argument
    add("--conf", "--conf-thres", type=fraction, default=conf, help="least score")
    add("--iou", "--iou-thres", type=fraction, default=iou, help="overlap above which the weaker box goes")
    add("--max-det", type=cli.at_least(1), default=300, help="most detections a picture")
    told = "standard, none, or blend: boxes that overlap become their mean by score (default: what the model needs)"
    add("--nms", choices=tuple(METHODS), help=told)
    add("--augment", action="store_true", help="test-time augmentation")
