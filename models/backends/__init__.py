"""Exported formats of a model: one file per format, with `export()` and `load()`, registered in `BACKENDS`.

To add a format: write its file here, register a `Backend` in it, and add its name to the loop at the end of this
module. A format file imports neither torch nor the package that runs the format before it is used.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from graftdet.models.backends.converters.environment import ConverterEnvironment
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.registry import Registry

BACKENDS = Registry("export format")
"""Format name -> `Backend`."""


@dataclass(frozen=True)
class Backend:
    """An export format and the runtime that runs it.

    Attributes:
        suffix: end of the name of the exported file, or of the exported folder.
        export: `export(model, path, options) -> Path` writes a `DetectionModel`, which stays unchanged, with
            `ExportOptions`. Raises `ExportError`.
        load: `load(path, device="cpu", half=False) -> Predictor` opens a file without torch; names, stride and size are
            read from the file. With `half` it computes in half precision where format and device support it.
        package: the package that runs the format.
        converter: a further package that only the export needs.
        environment: an environment of its own that the export needs.
        companion_suffixes: suffixes of further files that belong to an exported one.
        reads: suffixes of other formats that `load` opens, too.
        outputs: values of `ExportOptions.output` that it can write.
        is_folder: whether the export is a folder.
        members: suffixes of files in that folder that stand for it.
        has_free_sizes: whether it can be written for any batch size, height and width.
        has_batches: whether one call can take several images.
        platforms: values of `sys.platform` where it can be run; empty: all.
    """

    suffix: str
    export: Callable
    load: Callable
    package: str
    converter: str | None = None
    environment: ConverterEnvironment | None = None
    companion_suffixes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("raw", "split", "decoded")
    is_folder: bool = False
    members: tuple[str, ...] = ()
    has_free_sizes: bool = True
    has_batches: bool = True
    platforms: tuple[str, ...] = ()

    @property
    def systems(self) -> str:
        """The names of these platforms."""
        return " or ".join("macOS" if name == "darwin" else name for name in self.platforms)

    @property
    def runs_here(self) -> bool:
        """Whether this operating system can run the format."""
        return not self.platforms or sys.platform in self.platforms

    @property
    def can_export(self) -> bool:
        """Whether all that the export needs is installed."""
        return not self.missing_packages() and (self.environment is None or self.environment.is_ready)

    def can_load(self, suffix: str) -> bool:
        """Whether `load` opens files with this suffix."""
        return suffix in (self.suffix, *self.reads)

    def owns(self, path: str | Path) -> bool:
        """Whether the name of a file or folder is that of an export in this format."""
        return Path(path).name.lower().endswith((self.suffix, *self.members))

    def exists(self, path: str | Path) -> bool:
        """Whether there is a file, or folder, of this format."""
        path = Path(path)
        return path.is_file() or (self.is_folder and path.is_dir())

    def parts(self, path: Path) -> list[Path]:
        """The files or the folder of an export: the main one last, so that no reader finds a graph without weights."""
        return [*(path.with_suffix(suffix) for suffix in self.companion_suffixes), path]

    def files(self, path: Path) -> list[Path]:
        """All files of an export that exist, those in a folder in the order of their names."""
        inside = [sorted(part.rglob("*")) if part.is_dir() else [part] for part in self.parts(path)]
        return [file for files in inside for file in files if file.is_file()]

    def missing_packages(self, for_export: bool = True) -> list[str]:
        """The packages that are not installed, of those that run the format and, `for_export`, write it."""
        needed = [self.package, *([self.converter] if self.converter and for_export else [])]
        return [package for package in needed if not _is_installed(package)]


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # its import is blocked
        return False


@dataclass(frozen=True)
class ExportOptions:
    """How to export a model.

    Attributes:
        size: (height, width) of the input in pixels, multiples of the model's stride.
        batch_size: images per call; with `dynamic` only an example.
        opset: ONNX operator set.
        dynamic: accept any batch size, height and width.
        square_letterbox: written into the file's metadata, see `graftdet.models.inference.predictor.Predictor`.
        output: where the graph ends, one of `graftdet.models.backends.layouts.own_outputs.OUTPUTS`.
        raw_layout: of raw outputs, "maps" (B, A (5 + nc), H, W) or "cells" (B, A, H W, 5 + nc).
        conf: lowest score, with output "nms".
        iou: limit of the overlap of two boxes of a class, with output "nms".
        max_det: maximum number of detections per image, with output "nms".
    """

    size: tuple[int, int] = (640, 640)
    batch_size: int = 1
    opset: int = 17
    dynamic: bool = False
    square_letterbox: bool = False
    output: str = "decoded"
    raw_layout: str = "maps"
    conf: float = 0.001
    iou: float = 0.45
    max_det: int = 300


class ExportError(UserError):
    """A model cannot be exported, or the exported file does not reproduce it.

    Attributes:
        path: the file that was to be written.
        reason: what is wrong, without the path.
    """

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = Path(path), reason


def check_output(model: Any, options: ExportOptions, name: str) -> None:
    """Check that a format and a model's head have the requested output, and the format free sizes and batches.

    Args:
        model: the `DetectionModel`.
        options: how to export.
        name: the format.

    Raises:
        UserError: they do not.
    """
    backend, outputs = BACKENDS[name], BACKENDS[name].outputs
    if options.dynamic and not backend.has_free_sizes:
        raise UserError(f"--dynamic: {name} files have a fixed size; export them without --dynamic")
    if options.batch_size != 1 and not backend.has_batches:
        raise UserError(f"--batch-size {options.batch_size}: {name} files take one image per call")
    if options.output not in outputs:
        raise UserError(
            f"--output {options.output}: {name} has {', '.join(outputs)}{did_you_mean(options.output, outputs)}"
        )
    head = type(model.head).__name__
    raw = model.head.raw_format() if options.output == "raw" else {}
    if raw is None:
        raise UserError(f"--output raw: nothing decodes the raw outputs of {head}; use --output split or decoded")
    if options.raw_layout == "cells" and options.output == "raw" and raw["decoder"] != "anchors":
        raise UserError(f"--raw-layout cells: is for heads with anchors, such as Detect; {head} has none, use maps")


def backend_for(path: str | Path) -> Backend | None:
    """The format of an exported file or folder, by its name; None for anything else, such as a `.pt` file."""
    return next((backend for backend in BACKENDS.values() if backend.owns(path)), None)


for _format in ("onnx", "openvino", "torchscript", "ncnn", "executorch", "coreml", "litert"):
    import_module(f".{_format}", __name__)
