"""ONNX, in the layout that programs for YOLOv5 expect (docs/exported-files.md).

Input `images` (B, 3, H, W) RGB in 0..1, output `output0` (B, N, 5 + nc): cx, cy, w, h in pixels, objectness, class
probabilities. Running a file needs onnxruntime and NumPy, no torch.
"""

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend, ExportError, ExportOptions, check_output
from graftdet.models.backends.exported_model import ExportedModel, thread_limit
from graftdet.models.backends.layouts.own_outputs import OUTPUTS
from graftdet.models.backends.limits.file_checks import read_exported_file, warn_of_changes
from graftdet.models.backends.limits.onnx_constants import largest_constant_shape
from graftdet.models.backends.limits.size_limits import MAX_OUTPUT
from graftdet.models.backends.metadata import make_metadata
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import read_regular_file, write_atomically
from graftdet.utils.processes.native_output import captured_output
from graftdet.utils.untrusted.embedded_digest import NO_DIGEST, fill_embedded_digest

OPSETS = range(11, 21)  # torch's tracing exporter supports none above 20
_EXTERNAL_NAME = re.compile(rb"\n\x08location\x12([\x00-\x7f])([^\n]{0,127})", re.DOTALL)
"""The key 'location' of a tensor's external data, the length of its value, and the value, as protobuf writes them."""
_DIGEST = re.compile(rb"\n\x0bfile_sha256\x12@(.{64})", re.DOTALL)
"""The metadata entry 'file_sha256' as protobuf writes it."""
_LOOP = re.compile(rb"\x22[\x04](Loop|Scan)")
"""The operator of a node whose number of iterations only running it shows, as protobuf writes it."""
LOOP_SECONDS = 10.0  # after which running a file with such a node is ended
_NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def export(model: Any, path: str | Path, options: ExportOptions, as_matmul: bool = False) -> Path:
    """Write a model as one ONNX file that contains its weights.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the file to write.
        options: see `ExportOptions`.
        as_matmul: compute the last convolutions of `Detect` as matrix products, which is a tenth faster in OpenVINO;
            tools of small devices expect convolutions.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported.
        UserError: invalid options, or the file cannot be written.
    """
    import torch

    from graftdet.models.backends.tracing.export_module import ExportModule
    from graftdet.models.backends.tracing.onnx_tracing import simplified, trace_to_onnx

    path, stride = Path(path), model.size_multiple
    if options.opset not in OPSETS:
        raise UserError(f"--opset {options.opset}: expected {OPSETS.start} to {OPSETS.stop - 1}")
    if options.batch_size < 1 or any(side < stride or side % stride for side in options.size):
        raise UserError(
            f"size {options.size}, batch size {options.batch_size}: expected multiples of {stride} (the largest "
            "stride), and a batch size of 1 or more"
        )
    check_output(model, options, "onnx")
    module = ExportModule(model, options, as_matmul)
    try:
        traced = trace_to_onnx(
            module,
            (torch.zeros(options.batch_size, model.channels, *options.size),),
            opset_version=options.opset,
            input_names=["images"],
            output_names=module.output_names(),
            dynamic_axes=module.dynamic_axes(),
        )
        data = _check_and_describe(simplified(traced, options.dynamic), model, options)
    except (MemoryError, OSError) as error:  # says nothing about the model
        raise UserError(f"{path}: cannot be exported ({first_line(error)})") from None
    except Exception as error:  # torch's exporter raises many types for a block that it cannot trace
        raise ExportError(path, f"the model cannot be exported: {first_line(error)}") from error
    write_atomically(path, data)
    return path


def _check_and_describe(data: bytes, model: Any, options: ExportOptions) -> bytes:
    """Check the graph, declare the number of columns and add the metadata; the bytes of the file."""
    import onnx

    graph = onnx.load_model_from_string(data)
    onnx.checker.check_model(graph)
    if options.output == "decoded":
        graph.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 5 + model.nc
    onnx.helper.set_model_props(graph, {**make_metadata(model, options), "file_sha256": NO_DIGEST})
    return fill_embedded_digest(graph.SerializeToString(), _DIGEST)


def renew_digest(path: str | Path) -> None:
    """Give an ONNX file of this project, which was changed on purpose, the digest of its content."""
    write_atomically(path, fill_embedded_digest(read_regular_file(path), _DIGEST))


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "OnnxModel":
    """Open an ONNX file with onnxruntime: an exported one, or any with the same layout (names are then class0, ...).

    Args:
        path: the file.
        device: 'cpu', 'cuda:1', '1', or '' for the best one available.
        half: no effect; the file is computed in the type that it was written in.

    Raises:
        UserError: onnxruntime is not installed, or the file is missing, malformed, or has another layout.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{path}: running an ONNX file needs onnxruntime; install it with 'pip install onnxruntime'"
        ) from None
    check_onnx_file(path)
    data = read_exported_file(Path(path))
    warn_of_changes(path, data, _DIGEST)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # errors are raised, not printed
    settings.intra_op_num_threads = thread_limit()
    # Spinning threads double the time per image as soon as anything else needs a core: drawing, reading a video.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(onnxruntime, str(device))
    try:
        with captured_output():  # where it fails on a name that is not UTF-8, onnxruntime prints several lines
            session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise UserError(f"{path}: is not a valid ONNX file ({first_line(error)})") from None
    return OnnxModel(session, path, LOOP_SECONDS if _LOOP.search(data) else None)


def check_onnx_file(path: str | Path) -> None:
    """Raise `UserError` for an ONNX file that a runtime must not open.

    That is one which names a file of its weights that is not beside it under a plain name: runtimes read such data from
    anywhere, and OpenVINO takes one form of name as an address in memory. And one whose constants take gigabytes.
    """
    data = read_exported_file(Path(path))
    if (count := largest_constant_shape(data)) > MAX_OUTPUT:
        raise UserError(f"{path}: has a constant of {count:.3g} numbers, more than the limit of {MAX_OUTPUT}")
    for match in _EXTERNAL_NAME.finditer(data):
        name = match[2].decode(errors="replace")[: match[1][0]]
        if not re.fullmatch(r"[^/\\:*\0]+", name) or name in (".", ".."):
            raise UserError(f"{path}: has its weights in '{name}'; expected the name of a file in the same folder")


def _providers(onnxruntime, device: str) -> list:
    """The execution providers of onnxruntime for `device`."""
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    number = device.lower().removeprefix("cuda").removeprefix(":")
    if device.lower() in ("cpu", "mps") or (not device and not has_cuda):
        return ["CPUExecutionProvider"]
    if not has_cuda or (number and not number.isdecimal()):
        raise UserError(f"--device {device}: this onnxruntime runs on the CPU only; use --device cpu")
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


class OnnxModel(ExportedModel):
    """An ONNX file run by onnxruntime.

    Args:
        session: an onnxruntime `InferenceSession`.
        path: the file, for messages.
        seconds: after which running it is ended; None: never.
    """

    backend = "onnxruntime"

    def __init__(self, session: Any, path: str | Path, seconds: float | None = None):
        self.session, self.path, self.seconds = session, Path(path), seconds
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _NUMPY_TYPES:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise UserError(f"{path}: expected one image input (batch, 3, height, width), found {found}")
        self._input, self._outputs = inputs[0].name, [output.name for output in outputs]
        try:
            metadata = session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError:
            raise UserError(f"{path}: its metadata are not UTF-8; it is damaged, export it again") from None
        shapes = [(output.name, _dimensions(output.shape or ())) for output in outputs]
        self._describe(_dimensions(inputs[0].shape), shapes, metadata, _NUMPY_TYPES[inputs[0].type])

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        outputs, inputs = [self._outputs[i] for i in self._output_indices], {self._input: images}
        try:
            if self.seconds is None:
                found = self.session.run(outputs, inputs)
            else:
                found = self._run_limited(outputs, inputs, self.seconds)
        except Exception as error:  # onnxruntime's exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: onnxruntime fails on an input of {shape} ({first_line(error)})") from None
        if not all(isinstance(array, np.ndarray) and array.dtype.kind in "fiub" for array in found):
            raise UserError(f"{self.path}: its outputs are not numbers, expected boxes and scores")
        return found

    def _run_limited(self, outputs: list[str], inputs: dict[str, np.ndarray], seconds: float) -> list[np.ndarray]:
        """Run the file; onnxruntime raises an error where it takes longer than `seconds`."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        timer = threading.Timer(seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return self.session.run(outputs, inputs, options)
        finally:
            timer.cancel()


def _dimensions(shape: Sequence) -> list[int | None]:
    return [side if isinstance(side, int) else None for side in shape]


BACKENDS.register("onnx")(Backend(suffix=".onnx", export=export, load=load, package="onnxruntime", outputs=OUTPUTS))
