"""Command line flags, and checks of their values, that several scripts share."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graftdet.utils import cli
from graftdet.utils.errors import UserError
from graftdet.utils.nms.suppression import METHODS
from graftdet.utils.untrusted.limits import AllowLarge

MAX_SIDE = 16384  # pixels
TARGETS = ("onnx", "ncnn", "opencv", "rknn")  # of `graftdet.models.lint.targets`
PLOT_FORMATS = ("png", "pdf", "svg", "none")

logger = logging.getLogger(__name__)


def image_size(img: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Return the value of `--img` as (height, width).

    Args:
        img: One side, or height and width, in pixels.
        stride: Sides are rounded up to multiples of it, with a warning.

    Raises:
        UserError: If there are more than two numbers, or one is out of range.
    """
    sides = (img, img) if isinstance(img, int) else tuple(img) * (2 if len(img) == 1 else 1)
    given = " ".join(map(str, sides))
    if len(sides) != 2 or not all(1 <= side <= MAX_SIDE for side in sides):
        raise UserError(f"--img {given}: expected one side or height and width, from 1 to {MAX_SIDE}")
    height, width = (-(-side // stride) * stride for side in sides)
    if (height, width) != sides:
        logger.warning("--img %s: rounded up to %d %d, multiples of %d", given, height, width, stride)
    return height, width


class OneSize(argparse.Action):
    """Stores one image size. Two equal ones, as `--img 640 640`, are one; different ones are an error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the value of the flag."""
        if len(values) > 2 or len(set(values)) > 1:
            given = " ".join(map(str, values))
            parser.error(f"{option_string} {given}: expected one size, the longer side; images keep their aspect ratio")
        setattr(namespace, self.dest, values[0])


def fraction(text: str) -> float:
    """Return a number from 0 to 1; the `type` of an argument of argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return value


def add_run_flags(parser: argparse.ArgumentParser, project: str) -> None:
    """Add the flags of every run: --device, --plugins, --allow-large, and the run folder (default: below `project`)."""
    add = parser.add_argument
    add("--device", default="", help="cpu, mps, cuda or the index of a CUDA device (default: the fastest available)")
    add("--project", type=Path, default=Path(project), help="folder of runs; created if missing")
    add("--name", default="exp", help="folder of this run below --project; a number is appended if it exists")
    add("--exist-ok", action="store_true", help="write into an existing folder")
    add_trust_flags(parser)


def add_plots_flag(parser: argparse.ArgumentParser) -> None:
    """Add --plots, the file formats of charts."""
    about = "file formats of charts: png, pdf, svg; none: no charts, images and report (default: png)"
    parser.add_argument("--plots", nargs="+", choices=PLOT_FORMATS, default=[], metavar="FORMAT", help=about)


def add_trust_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a model may do: --plugins and --allow-large."""
    about = "Python files, folders or packages that define your own blocks"
    parser.add_argument("--plugins", nargs="+", action="extend", type=_plugin, default=[], metavar="FILE", help=about)
    about = (
        "read files above the limits of size; allow models with more than 1000 rows or weights of more than 1 GiB; "
        "open exported files without a trial"
    )
    parser.add_argument("--allow-large", action=AllowLarge, help=about)


def _plugin(name: str) -> str:
    """A file or a folder written with a / as an absolute path (for a resumed run); the name of a package as it is."""
    path = Path(name)
    return str(path.resolve()) if path.is_file() or (path.is_dir() and path.name != name) else name


def add_model_flags(parser: argparse.ArgumentParser, backend: str) -> None:
    """Add the flags that select a trained model: --weights, --half, --precision, and --backend (default: `backend`)."""
    weights = (
        "a .pt, .safetensors or exported file, or a name that `graftdet weights` lists; several form an ensemble "
        "(default: best.pt of the newest training run)"
    )
    parser.add_argument("--weights", nargs="+", help=weights)
    parser.add_argument("--half", action="store_true", help="the same as --precision half")
    about = (
        "half: float16 on CUDA, bfloat16 with torch and OpenVINO; auto: half where it is faster and its boxes agree "
        "with float32 (default: auto with --backend auto, else float32)"
    )
    parser.add_argument("--precision", choices=("auto", "float32", "half"), help=about)
    about = f"engine that runs a .pt: torch, onnx, openvino, or auto (the fastest installed) (default: {backend})"
    parser.add_argument("--backend", choices=("auto", "torch", "onnx", "openvino"), default=backend, help=about)


def add_model_yaml_flags(
    parser: argparse.ArgumentParser,
    several: bool = False,
    about: str = "model YAML: a path, or a name in configs/models",
) -> None:
    """Add the arguments of commands that build a model without weights: its YAML (or `several`), --img and --nc."""
    parser.add_argument("cfg", metavar="FILE.yaml", nargs="+" if several else None, help=about)
    about = "image size in pixels, rounded up to the stride: one number, or height and width"
    parser.add_argument("--img", type=cli.at_least(1), nargs="+", default=[640], help=about)
    parser.add_argument("--nc", type=cli.at_least(1), help="number of classes (default: that of the YAML)")


def add_selection_flags(parser: argparse.ArgumentParser, conf: float, iou: float) -> None:
    """Add the flags that select detections: --conf, --iou, --max-det, --nms, --augment, --slice."""
    add = parser.add_argument
    add("--conf", "--conf-thres", type=fraction, default=conf, help="confidence threshold")
    add("--iou", "--iou-thres", type=fraction, default=iou, help="IoU threshold of non-maximum suppression")
    add("--max-det", type=cli.at_least(1), default=300, help="maximum number of detections per image")
    about = (
        "non-maximum suppression: standard, none, or blend (score-weighted mean of overlapping boxes) "
        "(default: none for heads that need none, else standard)"
    )
    add("--nms", choices=tuple(METHODS), help=about)
    add("--augment", action="store_true", help="test-time augmentation")
    about = (
        "side of overlapping windows [pixels of the image], each scaled to the input size, for small objects in large "
        "images; the whole image is one more window, and non-maximum suppression merges all boxes (default: none)"
    )
    add("--slice", type=cli.at_least(1), metavar="SIDE", help=about)
    about = "fraction of a window of --slice that it shares with the next one, 0 to 0.9"
    add("--slice-overlap", type=fraction, default=0.2, help=about)
