"""OpenVINO: an `.xml` with the graph and a `.bin` with the weights beside it, converted from the ONNX export.

Input, output and metadata are those of the ONNX file; the metadata are in the section `framework` of the rt_info.
Running a file needs openvino and NumPy, no torch.
"""

import functools
import importlib
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions
from graftdet.models.backends.exported_model import ExportedModel, thread_limit
from graftdet.models.backends.layouts.own_outputs import OUTPUTS
from graftdet.models.backends.limits import file_checks
from graftdet.models.backends.limits.size_limits import MAX_OUTPUT, check_declared_sizes
from graftdet.models.backends.metadata import READ_KEYS
from graftdet.models.backends.onnx import check_onnx_file
from graftdet.models.backends.onnx import export as export_onnx
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.untrusted.embedded_digest import fill_embedded_digest

_TELEMETRY = "openvino_telemetry"
_DIGEST = re.compile(rb'<files_sha256 value="(.{64})"')
"""The digest of an .xml and its .bin, as OpenVINO writes metadata."""
_MAX_MESSAGE = 240  # characters of an error of OpenVINO, which may hold names from the file
_NUMPY_TYPES = {"f32": np.float32, "f16": np.float16}


def export(model: Any, path: str | Path, options: ExportOptions) -> Path:
    """Write a model as an .xml and a .bin, in float32.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the .xml to write; the .bin is written beside it.
        options: see `ExportOptions`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported or converted.
        UserError: openvino is not installed, invalid options, or the files cannot be written.
    """
    path = Path(path)
    _import_for(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem[:40]}-") as folder:
            convert(export_onnx(model, Path(folder) / "model.onnx", options, as_matmul=True), path, fold_constants)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def convert(onnx_path: Path, path: Path, change: Callable[[Any], Any] = lambda network: network) -> None:
    """Convert an ONNX file to an .xml and a .bin.

    Args:
        onnx_path: the file, in a folder on the same disk as `path`.
        path: the .xml to write.
        change: returns the graph to write, such as a quantized one.

    Raises:
        ExportError: OpenVINO cannot convert it.
        OSError: the files cannot be written.
    """
    openvino, folder = _import_for(path), onnx_path.parent
    try:
        openvino.save_model(change(_convert(openvino, onnx_path)), folder / "model.xml", compress_to_fp16=False)
    except (OSError, UserError):
        raise
    except Exception as error:  # OpenVINO's exceptions have no common base
        raise ExportError(path, f"OpenVINO cannot convert the model: {_last_line(error)}") from error
    graph, weights = folder / "model.xml", (folder / "model.bin").read_bytes()
    # without indentation, a sixth of the graph
    text = re.sub(rb">\s+<", b"><", graph.read_bytes()).replace(b"<file_sha256 ", b"<files_sha256 ")
    graph.write_bytes(fill_embedded_digest(text, _DIGEST, weights))
    for suffix in (".bin", ".xml"):  # in this order no reader finds a graph without its weights
        os.replace(folder / f"model{suffix}", path.with_suffix(suffix))


def fold_constants(network: Any) -> Any:
    """Compute, in place, what does not depend on the image: half of the graph that the ONNX reader returns is shapes.

    Not for quantized graphs, whose int8 weights it would convert to float32.

    Args:
        network: an OpenVINO model.

    Returns:
        The same model.
    """
    passes = import_without_telemetry("openvino.passes")
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(network)
    return network


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "OpenVinoModel":
    """Open an .xml, or an .onnx in YOLOv5's layout, on the CPU.

    Args:
        path: the file.
        device: 'cpu', 'mps' or ''; all mean the CPU.
        half: compute in bfloat16 on CPUs that support it.

    Raises:
        UserError: openvino is not installed; the file or its .bin is missing or malformed, or has another layout.
    """
    openvino, path = _import_for(path), Path(path)
    file_checks.check_cpu_only(device, "OpenVINO files")
    file_checks.check_is_file(path)
    if path.suffix.lower() == ".onnx":
        check_onnx_file(path)
    elif path.suffix.lower() == ".xml":
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise UserError(f"{weights}: no such file; it contains the weights of {path.name}")
        data = file_checks.read_exported_file(path)
        file_checks.warn_of_changes(path, data, _DIGEST, file_checks.read_exported_file(weights))
    core = _core(openvino)
    half = half and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}
    # A thread bound to a core waits for whatever else runs there, up to seconds per image on a busy machine.
    settings |= {"ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": thread_limit()}
    try:
        return OpenVinoModel(core, _read(openvino, core, path), path, half, settings)
    except UserError:
        raise
    except Exception as error:  # OpenVINO's exceptions have no common base
        raise UserError(f"{path}: is not a file that OpenVINO can run ({_last_line(error)})") from None


def import_openvino() -> ModuleType:
    """Import openvino without its telemetry, see `import_without_telemetry`. No other code imports it."""
    return import_without_telemetry("openvino")


def import_without_telemetry(name: str) -> ModuleType:
    """Import openvino, or a package that uses its telemetry.

    By default, importing openvino sends an event to an analytics host and stores an id in the home folder. It does
    neither where it cannot import openvino_telemetry, so that package is hidden during the import.

    Raises:
        ImportError: the package is not installed.
    """
    hidden = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # makes Python raise ImportError
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[_TELEMETRY]
        if hidden is not None:
            sys.modules[_TELEMETRY] = hidden


def _import_for(path: str | Path) -> ModuleType:
    try:
        return import_openvino()
    except ImportError:
        raise UserError(f"{path}: OpenVINO files need openvino; install it with 'pip install openvino'") from None


@functools.cache
def _core(openvino: ModuleType) -> Any:
    """The core of the whole process, never freed.

    Each core gives the thread a stack for signals. Freed in another order than created, cores leave the thread a stack
    that no longer exists, and the next signal, such as the exit of a loader process, ends the process.
    """
    return openvino.Core()


def _convert(openvino: ModuleType, path: Path) -> Any:
    """The graph in an .onnx. With the frontend given explicitly; others would guess the format of a malformed file."""
    frontend = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    return frontend.convert(frontend.load(str(path)))


def _read(openvino: ModuleType, core: Any, path: Path) -> Any:
    if path.suffix.lower() == ".onnx":
        return _convert(openvino, path)
    with open(path, "rb") as file:
        if b"<net" not in file.read(4096):
            raise RuntimeError("it has no <net>")
    return core.read_model(path)


class OpenVinoModel(ExportedModel):
    """An exported file run by OpenVINO on the CPU.

    A graph compiled for one shape is a sixth faster than one for any shape, and each takes a third of a second to
    compile: the first shape that a dynamic file receives gets its own graph, all others use a common one.

    Args:
        core: the OpenVINO core.
        network: the graph.
        path: the file, for messages.
        half: whether it computes in bfloat16.
        settings: properties of the compiled graph.
    """

    def __init__(self, core: Any, network: Any, path: Path, half: bool, settings: dict):
        self.path, self.half = path, half
        self.backend = "OpenVINO" + " in bfloat16" * half
        self._core, self._network, self._settings = core, network, settings
        self._requests: dict[str | tuple[int, ...], Any] = {}  # input shape, or "any" -> request
        inputs, outputs = network.inputs, network.outputs
        dtype = inputs[0].get_element_type().get_type_name() if inputs else None
        if not outputs or len(inputs) != 1 or len(inputs[0].get_partial_shape()) != 4 or dtype not in _NUMPY_TYPES:
            found = ", ".join(f"{i.get_element_type().get_type_name()} {i.get_partial_shape()}" for i in inputs)
            raise UserError(f"{path}: expected one image input (batch, 3, height, width), found {found or 'none'}")
        shapes = [(_name(output), _dimensions(output)) for output in outputs]
        metadata = _metadata(network)
        _refuse_costly_layers(path, network)
        check_declared_sizes(path, _dimensions(inputs[0]), shapes, metadata)  # a request allocates its output
        if not network.is_dynamic():
            self._requests["any"] = core.compile_model(network, "CPU", settings).create_infer_request()
        self._describe(_dimensions(inputs[0]), shapes, metadata, _NUMPY_TYPES[dtype])

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            request = self._request(images.shape)
            request.infer({0: images}, share_inputs=True)
        except Exception as error:
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: OpenVINO fails on an input of {shape} ({_last_line(error)})") from None
        # copies, since the next call overwrites the outputs
        return [request.get_output_tensor(index).data.copy() for index in self._output_indices]

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape in self._requests or "any" in self._requests:
            return self._requests.get(shape) or self._requests["any"]
        network = self._network
        key: str | tuple[int, ...] = "any"
        if not self._requests:
            network, key = network.clone(), shape
            network.reshape(shape)
        self._requests[key] = self._core.compile_model(network, "CPU", self._settings).create_infer_request()
        return self._requests[key]


def _refuse_costly_layers(path: Path, network: Any) -> None:
    """Raise `UserError` for a loop, and a large layer that does not depend on the input: compiling computes it."""
    dependent = set()
    for layer in network.get_ordered_ops():
        name = layer.get_friendly_name()
        if layer.get_type_name() == "Loop":
            raise UserError(f"{path}: loop '{name}' may never end in OpenVINO; run the .onnx by onnxruntime")
        sources = (port.get_source_output().get_node().get_friendly_name() for port in layer.inputs())
        if layer.get_type_name() == "Parameter" or any(source in dependent for source in sources):
            dependent.add(name)
            continue
        count = max((math.prod(side or 1 for side in _dimensions(port)) for port in layer.outputs()), default=0)
        if count > MAX_OUTPUT:
            raise UserError(f"{path}: constant '{name}' has {count} numbers, more than the limit of {MAX_OUTPUT}")


def _name(port: Any) -> str:
    return port.get_any_name() if port.get_names() else "unnamed"


def _dimensions(port: Any) -> list[int | None]:
    shape = port.get_partial_shape()
    return [] if shape.rank.is_dynamic else [None if side.is_dynamic else side.get_length() for side in shape]


def _metadata(network: Any) -> dict[str, str]:
    """The metadata of the ONNX file, which OpenVINO preserves."""
    keys = [key for key in READ_KEYS if network.has_rt_info(["framework", key])]
    return {key: network.get_rt_info(["framework", key]).astype(str) for key in keys}


def _last_line(error: BaseException) -> str:
    """OpenVINO's errors start with where they were raised and end with what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:_MAX_MESSAGE] if lines else first_line(error)


BACKENDS.register("openvino")(
    Backend(
        suffix=".xml",
        export=export,
        load=load,
        package="openvino",
        companion_suffixes=(".bin",),
        reads=(".onnx",),
        outputs=OUTPUTS,
    )
)
