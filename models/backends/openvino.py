"""OpenVINO: an `.xml` with the graph, its `.bin` with the weights beside it, made from our ONNX form: same input, same rows,
same metadata (in the section `framework` of its rt_info). Running a file needs openvino and NumPy, no torch."""

import functools
import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
from graftdet.models.backends import BACKENDS, Backend, ExportOptions
from graftdet.models.backends.exported_model import RowsModel, thread_limit
from graftdet.models.backends.onnx import export as export_onnx
from graftdet.utils.errors import UserError, first_line

_TELEMETRY = "openvino_telemetry"
_TYPES = {"f32": np.float32, "f16": np.float16}


def export(model, path: str | Path, options: ExportOptions) -> Path:
    """Write `model` (a `DetectionModel`, which stays as it is) as `path`, an .xml, and a .bin beside it, in float32.

    Returns the path. Raises `UserError` as the ONNX export does, and where openvino is missing or refuses the graph.
    """
    openvino, path = _package(path), Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem[:40]}-") as folder:
            through = export_onnx(model, Path(folder) / "model.onnx", options, as_matmul=True)
            openvino.save_model(_convert(openvino, through), Path(folder) / "model.xml", compress_to_fp16=False)
            for suffix in (".bin", ".xml"):  # no reader sees a graph without its weights
                os.replace(Path(folder) / f"model{suffix}", path.with_suffix(suffix))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    except UserError:
        raise
    except Exception as error:  # OpenVINO's exceptions have no common base
        raise UserError(f"{path}: OpenVINO cannot convert the model: {_last_line(error)}") from error
    return path


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "OpenVinoModel":
    """Open an .xml, or an .onnx of YOLOv5's layout, on the CPU; `half` computes in bfloat16 on CPUs that have it.

    Raises `UserError` when the file or its .bin is missing, torn, something else, or has another layout.
    """
    openvino, path = _package(path), Path(path)
    if device.lower() not in ("", "cpu", "mps"):
        raise UserError(f"--device {device}: OpenVINO files run on the CPU only; use --device cpu")
    for needed in (path, path.with_suffix(".bin")) if path.suffix.lower() == ".xml" else (path,):
        if not needed.is_file():
            raise UserError(
                f"{needed}: no such file" + (f"; it holds the weights of {path.name}" if needed != path else "")
            )
    core = _core(openvino)
    half = half and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}
    # A thread that is bound to a core waits for whatever else runs there, up to seconds a picture on a busy machine.
    settings |= {"ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": thread_limit()}
    try:
        network = _read(openvino, core, path)
        return OpenVinoModel(core, network, path, half, settings)
    except UserError:
        raise
    except Exception as error:  # OpenVINO's exceptions have no common base
        raise UserError(f"{path}: is no file that OpenVINO can run ({_last_line(error)})") from None


def import_openvino() -> ModuleType:
    """The package openvino, imported without its telemetry: the only place that imports it.

    Unless told otherwise, importing openvino sends an event to an analytics host and keeps an id in the home folder. It
    does neither where it cannot import openvino_telemetry, which is why that package is hidden meanwhile.
    Raises `ImportError` when openvino is not installed.
    """
    hidden = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # makes Python raise ImportError
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_TELEMETRY]
        if hidden is not None:
            sys.modules[_TELEMETRY] = hidden


def _package(path):
    try:
        return import_openvino()
    except ImportError:
        raise UserError(f"{path}: OpenVINO files need openvino; install it with 'pip install openvino'") from None


@functools.cache
def _core(openvino):
    """One for the whole process, never let go: each sets the thread a stack for signals and, freed out of turn, leaves it
    one that is no more, so that the next signal, such as the end of a loader's process, ends the process."""
    return openvino.Core()


def _convert(openvino, path: Path):
    """The graph in an .onnx. The frontend is asked for by name: others would write what they think of a torn file."""
    frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    return frontend.convert(frontend.load(str(path)))


def _read(openvino, core, path: Path):
    if path.suffix.lower() == ".onnx":
        return _convert(openvino, path)
    with open(path, "rb") as file:
        if b"<net" not in file.read(4096):
            raise RuntimeError("it has no <net>")
    return core.read_model(path)


class OpenVinoModel(RowsModel):
    """A file that detects, run by OpenVINO on the CPU. `half` tells whether it computes in bfloat16.

    A graph for one shape is a sixth faster than one for any, and each takes a third of a second to prepare: so the first
    shape that a dynamic file is given gets its own, all others share one.
    """

    def __init__(self, core, network, path: Path, half: bool, settings: dict):
        self.path, self.half = path, half
        self.backend = "OpenVINO" + " in bfloat16" * half
        self._core, self._network, self._settings, self._requests = core, network, settings, {}
        inputs, outputs = network.inputs, network.outputs
        kind = inputs[0].get_element_type().get_type_name() if inputs else None
        if not outputs or len(inputs) != 1 or len(inputs[0].get_partial_shape()) != 4 or kind not in _TYPES:
            found = ", ".join(f"{i.get_element_type().get_type_name()} {i.get_partial_shape()}" for i in inputs)
            raise UserError(
                f"{path}: expected one input of pictures (batch, 3, height, width), found {found or 'none'}"
            )
        if not network.is_dynamic():
            self._requests["any"] = core.compile_model(network, "CPU", settings).create_infer_request()
        self._describe(_sides(inputs[0]), _sides(outputs[0]), _metadata(network), _TYPES[kind])

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            request = self._request(images.shape)
            request.infer({0: images}, share_inputs=True)
        except Exception as error:
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: OpenVINO fails on pictures of {shape} ({_last_line(error)})") from None
        return request.get_output_tensor(0).data.copy()  # the next call writes there again

    def _request(self, shape: tuple[int, ...]):
        if shape in self._requests or "any" in self._requests:
            return self._requests.get(shape) or self._requests["any"]
        network, key = self._network, "any"
        if not self._requests:
            network, key = network.clone(), shape
            network.reshape(shape)
        self._requests[key] = self._core.compile_model(network, "CPU", self._settings).create_infer_request()
        return self._requests[key]


def _sides(port) -> list[int | None]:
    shape = port.get_partial_shape()
    return [None if side.is_dynamic else side.get_length() for side in shape] if not shape.rank.is_dynamic else []


def _metadata(network) -> dict[str, str]:
    """What the ONNX file said about itself; OpenVINO keeps it."""
    keys = [
        key
        for key in ("names", "nc", "stride", "size", "needs_nms", "square_letterbox", "squares")
        if network.has_rt_info(["framework", key])
    ]
    return {key: network.get_rt_info(["framework", key]).astype(str) for key in keys}


def _last_line(error: BaseException) -> str:
    """OpenVINO's errors begin with where they were raised and end with what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else first_line(error)


BACKENDS.register("openvino")(Backend(suffix=".xml", export=export, load=load, beside=(".bin",)))
