"""ONNX: the layout consumers of YOLOv5 expect. `images` (B, 3, H, W) RGB in 0..1 to `output0` (B, N, 5 + nc): cx, cy,
w, h in pixels, objectness, class probabilities. Running a file needs onnxruntime and NumPy, no torch."""

import json
from pathlib import Path

import numpy as np
from graftdet.models.backends import BACKENDS, Backend, ExportOptions
from graftdet.models.backends.exported_model import RowsModel, thread_limit
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import write_atomically

VERSION = 1  # of the metadata below
OPSETS = range(17, 21)  # below 17 is not offered, above 20 torch's tracing exporter does not go
_NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def export(model, path: str | Path, options: ExportOptions, as_matmul: bool = False) -> Path:
    """Write `model` (a `DetectionModel`, which stays as it is) as one ONNX file with its weights inside.

    `as_matmul`: the last convolutions of `Detect` as products of matrices, a tenth faster in OpenVINO; small devices'
    tools look for convolutions. Returns the path. Raises `UserError` when the size does not fit the strides, torch cannot export a block, or the
    file cannot be written.
    """
    import torch
    from graftdet.models.backends.onnx_tracing import trace_to_onnx

    path, stride = Path(path), model.size_multiple
    if options.opset not in OPSETS:
        raise UserError(f"--opset {options.opset}: expected {OPSETS.start} to {OPSETS.stop - 1}")
    if options.batch < 1 or any(side < stride or side % stride for side in options.size):
        raise UserError(
            f"size {options.size}, batch {options.batch}: expected multiples of {stride} (the coarsest stride), batch 1 or more"
        )
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 1: "rows"}}
    try:
        written = trace_to_onnx(
            rows_module(model, as_matmul), (torch.zeros(options.batch, model.channels, *options.size),),
            opset_version=options.opset, input_names=["images"], output_names=["output0"],
            dynamic_axes=axes if options.dynamic else None,
        )  # fmt: skip
        data = _finish(written, model, options, stride)
    except Exception as error:  # torch's exporter raises many kinds for a block that it cannot trace
        raise UserError(f"{path}: the model cannot be exported: {first_line(error)}") from error
    write_atomically(path, data)
    return path


def rows_module(model, as_matmul: bool = False):
    """The fused copy of a `DetectionModel` that an exported file is: images in 0..1 -> rows (B, N, 5 + nc)."""
    import copy

    from torch import nn

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = copy.deepcopy(model).cpu().float().fuse().requires_grad_(False)

        def forward(self, images):
            return self.detector.head.export_outputs(self.detector.head_inputs(images), as_matmul)

    return Rows().eval()


def _finish(data: bytes, model, options: ExportOptions, stride: int) -> bytes:
    """Check the graph, name its output's axes and add what a reader must know; the file's bytes."""
    import onnx

    graph = onnx.load_model_from_string(data)
    onnx.checker.check_model(graph)
    batch, rows, columns = graph.graph.output[0].type.tensor_type.shape.dim
    columns.dim_value = 5 + model.nc
    metadata = {
        "task": "detect",
        "names": list(model.names),
        "nc": model.nc,
        "stride": stride,
        "size": list(options.size),
        "dynamic": options.dynamic,
        "needs_nms": model.needs_nms,
        "square_letterbox": options.square_letterbox,
        "version": VERSION,
        "made_by": "graftdet",
    }
    onnx.helper.set_model_props(graph, {key: _text(value) for key, value in metadata.items()})
    return graph.SerializeToString()


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def load(path: str | Path, device: str = "cpu", half: bool = False) -> "OnnxModel":
    """Open an exported file with onnxruntime: ours, or anyone's with the same layout (names are then class0, class1 ...).
    It is computed in the type that it was written in, whatever `half` says.

    Raises `UserError` when the file is missing, torn, no ONNX file, or has another layout.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            f"{path}: running an ONNX file needs onnxruntime; install it with 'pip install onnxruntime'"
        ) from None
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # errors come as exceptions, not as lines of their own
    settings.intra_op_num_threads = thread_limit()
    # Threads that wait by spinning double the time of a picture as soon as anything else needs a core: drawing, a video.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=_providers(onnxruntime, str(device)))
    except UserError:
        raise
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise UserError(f"{path}: is no ONNX file that can be run ({first_line(error)})") from None
    return OnnxModel(session, path)


def _providers(onnxruntime, device: str) -> list:
    """What onnxruntime computes with on `device`: 'cpu', 'cuda:1', '1', or '' for the best there is."""
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    number = device.lower().removeprefix("cuda").removeprefix(":")
    if device.lower() in ("cpu", "mps") or (not device and not has_cuda):
        return ["CPUExecutionProvider"]
    if not has_cuda or (number and not number.isdecimal()):
        raise UserError(f"--device {device}: onnxruntime here runs on the CPU only; use --device cpu")
    return [("CUDAExecutionProvider", {"device_id": int(number or 0)}), "CPUExecutionProvider"]


class OnnxModel(RowsModel):
    """An ONNX file that detects, run by onnxruntime."""

    backend = "onnxruntime"

    def __init__(self, session, path: str | Path):
        self.session, self.path = session, Path(path)
        inputs, output = session.get_inputs(), session.get_outputs()[0]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _NUMPY_TYPES:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise UserError(f"{path}: expected one input of pictures (batch, 3, height, width), found {found}")
        self._input, self._output = inputs[0].name, output.name
        metadata = session.get_modelmeta().custom_metadata_map
        self._describe(_sides(inputs[0].shape), _sides(output.shape), metadata, _NUMPY_TYPES[inputs[0].type])

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            return self.session.run([self._output], {self._input: images})[0]
        except Exception as error:  # onnxruntime's exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: onnxruntime fails on pictures of {shape} ({first_line(error)})") from None


def _sides(shape) -> list[int | None]:
    return [side if isinstance(side, int) else None for side in shape]


BACKENDS.register("onnx")(Backend(suffix=".onnx", export=export, load=load))
