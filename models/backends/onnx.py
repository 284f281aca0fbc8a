"""ONNX: the layout consumers of YOLOv5 expect. `images` (B, 3, H, W) RGB in 0..1 to `output0` (B, N, 5 + nc): cx, cy,
w, h in pixels, objectness, class probabilities. Running a file needs onnxruntime and NumPy, no torch."""

import ast
import json
from pathlib import Path

import numpy as np

from utils.errors import UserError, first_line
from utils.images import write_atomically

from ..predictor import Predictor
from . import BACKENDS, Backend, ExportOptions

VERSION = 1  # of the metadata below
OPSETS = range(17, 21)  # below 17 is not offered, above 20 torch's tracing exporter does not go
GREY = 114 / 255  # of the borders of letterboxed pictures
_NUMPY_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


def export(model, path: str | Path, options: ExportOptions) -> Path:
    """Write `model` (a `DetectionModel`, which stays as it is) as one ONNX file with its weights inside.

    Returns the path. Raises `UserError` when the size does not fit the strides, torch cannot export a block, or the
    file cannot be written.
    """
    import torch

    from ..tracing import trace_to_onnx

    path, stride = Path(path), model.size_multiple
    if options.opset not in OPSETS:
        raise UserError(f"--opset {options.opset}: expected {OPSETS.start} to {OPSETS.stop - 1}")
    if options.batch < 1 or any(side < stride or side % stride for side in options.size):
        raise UserError(f"size {options.size}, batch {options.batch}: expected multiples of {stride} (the coarsest stride), batch 1 or more")
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 1: "rows"}}
    try:
        written = trace_to_onnx(
            rows_module(model), (torch.zeros(options.batch, model.channels, *options.size),),
            opset_version=options.opset, input_names=["images"], output_names=["output0"],
            dynamic_axes=axes if options.dynamic else None,
        )  # fmt: skip
        data = _finish(written, model, options, stride)
    except Exception as error:  # torch's exporter raises many kinds for a block that it cannot trace
        raise UserError(f"{path}: the model cannot be exported: {first_line(error)}") from error
    write_atomically(path, data)
    return path


def rows_module(model):
    """The fused copy of a `DetectionModel` that an exported file is: images in 0..1 -> rows (B, N, 5 + nc)."""
    import copy

    from torch import nn

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.detector = copy.deepcopy(model).cpu().float().fuse().requires_grad_(False)

        def forward(self, images):
            return self.detector.head.decode_rows(self.detector.raw_outputs(images))

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
        "version": VERSION,
        "made_by": "graftdet",
    }
    onnx.helper.set_model_props(graph, {key: _text(value) for key, value in metadata.items()})
    return graph.SerializeToString()


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def load(path: str | Path, device: str = "cpu") -> "OnnxModel":
    """Open an exported file with onnxruntime: ours, or anyone's with the same layout (names are then class0, class1 ...).

    Raises `UserError` when the file is missing, torn, no ONNX file, or has another layout.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: running an ONNX file needs onnxruntime; install it with 'pip install onnxruntime'") from None
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # errors come as exceptions, not as lines of their own
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


class OnnxModel(Predictor):
    """An ONNX file that detects. `fixed_size` and `fixed_batch` are None where the file takes any."""

    def __init__(self, session, path: str | Path):
        self.session, self.path = session, Path(path)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _NUMPY_TYPES:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise UserError(f"{path}: expected one input of pictures (batch, 3, height, width), found {found}")
        self._input, self._output = inputs[0], outputs[0]
        batch, _, height, width = (side if isinstance(side, int) else None for side in self._input.shape)
        metadata = session.get_modelmeta().custom_metadata_map
        self.stride = _stride(metadata.get("stride"))
        self.fixed_batch = batch
        self.fixed_size = (height, width) if height and width else None
        size = _literal(metadata.get("size") or metadata.get("imgsz"))
        self.needs_nms = _literal(metadata.get("needs_nms")) is not False
        self.train_size = max(self.fixed_size or _pair(size) or (640,))
        columns = self._columns(_literal(metadata.get("names")))
        names = _names(metadata.get("names"), columns - 5)
        self.names = names or [f"class{index}" for index in range(columns - 5)]
        self.names_known = names is not None

    def __call__(self, images):
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1, numpy or torch -> boxes (B, N, 4), scores (B, N, nc), numpy."""
        rows = self.rows(images)
        centre, half = rows[..., :2], rows[..., 2:4] / 2
        return np.concatenate((centre - half, centre + half), axis=-1), rows[..., 4:5] * rows[..., 5:]

    def rows(self, images) -> np.ndarray:
        """What the file gives for `images`: (B, N, 5 + nc) float32.

        A fixed batch is filled up and its surplus cut off; pictures smaller than a fixed size are filled right and
        below, which moves no box.
        """
        images = images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()
        kind = _NUMPY_TYPES[self._input.type]
        images = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
        images = self._to_fixed_size(np.ascontiguousarray(images, dtype=kind))
        step = self.fixed_batch or max(len(images), 1)
        results = []
        for start in range(0, len(images), step):
            chunk = images[start : start + step]
            full = np.concatenate((chunk, np.zeros((step - len(chunk), *chunk.shape[1:]), kind))) if len(chunk) < step else chunk
            results.append(self._run(full)[: len(chunk)])
        return np.concatenate(results).astype(np.float32)

    def _to_fixed_size(self, images: np.ndarray) -> np.ndarray:
        missing = [full - side for full, side in zip(self.fixed_size or images.shape[2:], images.shape[2:])]
        if max(missing) <= 0 or min(missing) < 0:
            return images
        return np.pad(images, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), constant_values=GREY)

    def _run(self, images: np.ndarray) -> np.ndarray:
        try:
            return self.session.run([self._output.name], {self._input.name: images})[0]
        except Exception as error:  # onnxruntime's exceptions have no common base
            shape = "x".join(map(str, images.shape))
            raise UserError(f"{self.path}: onnxruntime fails on pictures of {shape} ({first_line(error)})") from None

    def _columns(self, names) -> int:
        """5 + nc, from the declared output, else from one trial run. `names`, from the metadata, tells rows from columns
        where a small picture has fewer rows than that."""
        shape = list(self._output.shape)
        if len(shape) != 3 or not isinstance(shape[2], int):
            sides = self.fixed_size or (2 * self.stride, 2 * self.stride)
            channels = self._input.shape[1] if isinstance(self._input.shape[1], int) else 3
            shape = list(self._run(np.zeros((self.fixed_batch or 1, channels, *sides), _NUMPY_TYPES[self._input.type])).shape)
        as_named = len(shape) == 3 and isinstance(names, (list, dict)) and shape[-1] == 5 + len(names)
        turned = len(shape) != 3 or (isinstance(shape[1], int) and shape[1] < min(shape[2], 300))
        if (turned and not as_named) or shape[2] < 6:
            raise UserError(f"{self.path}: expected an output (batch, rows, 5 + classes) in YOLOv5's layout, found {shape}")
        return shape[2]


def _literal(text: str | None):
    """A value written as JSON or as a Python literal (as other exporters do); None for anything else."""
    if not text:
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _names(text: str | None, count: int) -> list[str] | None:
    """Class names from metadata, a list or a dict by index; None when they are not there or do not fit."""
    value = _literal(text)
    if isinstance(value, dict):
        value = [value.get(index, value.get(str(index))) for index in range(len(value))]
    return [str(name) for name in value] if isinstance(value, list) and len(value) == count else None


def _stride(text: str | None) -> int:
    value = _literal(text)
    return int(value) if isinstance(value, (int, float)) and 1 <= value <= 1024 else 32


def _pair(value) -> tuple[int, int] | None:
    fits = isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) and v > 0 for v in value)
    return tuple(value) if fits else None


BACKENDS.register("onnx")(Backend(suffix=".onnx", export=export, load=load))
