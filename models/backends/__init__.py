"""Exported forms of a model. One file a format, each registers a `Backend`; every file in this folder is known."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from graftdet.utils.registry import Registry

BACKENDS = Registry("export format")
"""word -> `Backend`."""


@dataclass(frozen=True)
class Backend:
    """A format. `export(model, path, options)` writes a `DetectionModel` and returns the path; `load(path, device, half)`
    gives a `Predictor` with names, stride and size read back from the file, without torch; its `half` tells whether it
    computes in half precision, which is asked for by `half` and done where format and device have it. `beside` are suffixes of
    further files that belong to an exported one."""

    suffix: str
    export: Callable
    load: Callable
    beside: tuple[str, ...] = ()


@dataclass
class ExportOptions:
    """How to export: picture `size` (height, width), `batch`, ONNX `opset`, `dynamic` batch, height and width; and whether
    the weights know `square_letterbox` alone (`graftdet.models.weights.weights_file.WeightsFile`), which the file then says."""

    size: tuple[int, int] = (640, 640)
    batch: int = 1
    opset: int = 17
    dynamic: bool = False
    square_letterbox: bool = False


def backend_for(path: str | Path) -> Backend | None:
    """The format of an exported file by its suffix; None for anything else (a `.pt` file)."""
    suffix = Path(path).suffix.lower()
    return next((backend for backend in BACKENDS.values() if backend.suffix == suffix), None)


for _name in ("onnx", "openvino"):  # neither imports torch or its own package before it is used
    import_module(f".{_name}", __name__)
