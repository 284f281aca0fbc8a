"""Static int8 quantization of exported ONNX graphs by onnxruntime (QuantizeLinear and DequantizeLinear nodes).

Weights are int8 with a scale per output channel, activations uint8 with ranges seen on calibration images. The last
convolutions of the head and everything behind them, the decoding of boxes and scores, stay in float32.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.onnx import renew_digest
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.images.letterbox import letterbox, to_chw

logger = logging.getLogger(__name__)
INT8_FORMATS = ("onnx", "openvino")
SENSITIVITY_IMAGES = 2
LISTED_LAYERS = 8
METHODS: dict[str, dict[str, Any]] = {
    "moving-average": {"CalibMovingAverage": True},
    "minmax": {},
}
"""Calibration method -> `extra_options` of onnxruntime: ranges averaged over images, or the widest ones."""


def methods_for(name: str) -> list[str]:
    """The methods to try for a format, in this order: NNCF first for OpenVINO, where it is installed."""
    from graftdet.models.backends.nncf_quantization import METHODS as NNCF_METHODS
    from graftdet.models.backends.nncf_quantization import is_installed

    return [*(NNCF_METHODS if name == "openvino" and is_installed() else ()), *METHODS]


@dataclass(frozen=True)
class LayerSensitivity:
    """What quantizing one convolution alone does.

    Attributes:
        layer: name of the node.
        difference: mean difference of the scores of the best boxes, from float32.
    """

    layer: str
    difference: float


def export_int8(
    model: Any, name: str, path: Path, options: ExportOptions, images: Sequence[np.ndarray], method: str
) -> Path:
    """Write a model as a quantized file.

    Args:
        model: a `DetectionModel`; unchanged.
        name: "onnx" or "openvino", which runs the same quantized graph.
        path: the file to write.
        options: see `ExportOptions`; the opset must be 13 or newer.
        images: calibration images (H, W, 3) uint8 BGR.
        method: one of `methods_for(name)`.

    Returns:
        The path.

    Raises:
        UserError: another format, an older opset, or a model that cannot be exported.
    """
    if name not in INT8_FORMATS:
        raise UserError(f"--int8: is for the formats {' and '.join(INT8_FORMATS)}, not {name}")
    if options.opset < 13:
        raise UserError(f"--int8: needs --opset 13 or newer, not {options.opset}; scales per channel came with it")
    if method not in METHODS:
        from graftdet.models.backends.nncf_quantization import export_by_nncf

        return export_by_nncf(model, path, options, list(_batches(images, options)), method)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        source = BACKENDS["onnx"].export(model, Path(folder) / "float.onnx", options)
        target = path if name == "onnx" else Path(folder) / "int8.onnx"
        quantize(source, target, images, options, method=method)
        if name == "openvino":
            from graftdet.models.backends.openvino import convert

            convert(target, path)
    return path


def quantize(
    source: Path,
    target: Path,
    images: Sequence[np.ndarray],
    options: ExportOptions,
    layers: Sequence[str] | None = None,
    method: str = "minmax",
) -> None:
    """Quantize an ONNX file.

    Args:
        source: a file of this project.
        target: the file to write, with the same metadata.
        images: calibration images (H, W, 3) uint8 BGR.
        options: what the source was exported with.
        layers: names of the only nodes to quantize; None: all before the last convolutions.
        method: one of `METHODS`.

    Raises:
        ExportError: onnxruntime cannot quantize the graph.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(source).graph
    feeds = _Feeds(images, options, graph.input[0].name)
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.setLevel(logging.ERROR)  # advice to preprocess, which simplification did
    try:
        quantize_static(
            source,
            target,
            feeds,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=list(layers) if layers else None,
            nodes_to_exclude=float_nodes(graph),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=dict(METHODS[method]),
        )
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ExportError(target, f"onnxruntime cannot quantize the model: {first_line(error)}") from error
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers  # onnxruntime adds one, and every later message would appear twice
    model = onnx.load(target)
    _shorten_names(model.graph)
    onnx.save(model, target)
    renew_digest(target)


def float_nodes(graph: Any) -> list[str]:
    """Names of the nodes that stay in float32: convolutions that none follows, whatever follows them, and products of
    matrices, such as attention and the mixed kernels of dynamic convolutions.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    following: dict[str, set[str]] = {}  # node -> the names of all nodes behind it; nodes are in topological order
    for node in reversed(graph.node):
        next_nodes = [reader for tensor in node.output for reader in readers.get(tensor, ())]
        following[node.name] = {one.name for one in next_nodes}.union(*(following[one.name] for one in next_nodes))
    convolutions = {node.name for node in graph.node if node.op_type == "Conv"}
    last = {name for name in convolutions if not following[name] & convolutions}
    products = {node.name for node in graph.node if node.op_type in ("MatMul", "Gemm")}
    return sorted(products | last.union(*(following[name] for name in last)))


def layer_sensitivity(source: Path, images: Sequence[np.ndarray], options: ExportOptions) -> list[LayerSensitivity]:
    """Quantize each convolution alone and compare scores with float32, on a few images.

    Args:
        source: the float32 file.
        images: calibration images (H, W, 3) uint8 BGR.
        options: what the source was exported with.

    Returns:
        One entry per quantized convolution, the most sensitive first.
    """
    import onnx

    graph = onnx.load(source).graph
    kept, images = set(float_nodes(graph)), list(images[:SENSITIVITY_IMAGES])
    batches = list(_batches(images, options))
    expected = [BACKENDS["onnx"].load(source).forward(batch)[1].max(-1) for batch in batches]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.onnx"
        for node in graph.node:
            if node.op_type != "Conv" or node.name in kept:
                continue
            quantize(source, path, images, options, [node.name])
            scores = [BACKENDS["onnx"].load(path).forward(batch)[1].max(-1) for batch in batches]
            pairs = zip(scores, expected, strict=True)
            found.append(LayerSensitivity(node.name, float(np.mean([_top_difference(*pair) for pair in pairs]))))
    return sorted(found, key=lambda one: -one.difference)


def _top_difference(scores: np.ndarray, expected: np.ndarray, count: int = 100) -> float:
    """Mean difference of the `count` best scores (B, N) of `expected`."""
    best = np.argsort(-expected, axis=1)[:, :count]
    return float(np.abs(np.take_along_axis(scores, best, 1) - np.take_along_axis(expected, best, 1)).mean())


def _batches(images: Sequence[np.ndarray], options: ExportOptions) -> Iterator[np.ndarray]:
    """Letterboxed batches (B, 3, H, W) float32 in 0..1, of the file's batch size."""
    for image in images:
        one = to_chw(letterbox(image, options.size)[0]).astype(np.float32)[None] / 255
        yield one.repeat(1 if options.dynamic else options.batch_size, axis=0)


class _Feeds:
    """Calibration inputs, as onnxruntime asks for them."""

    def __init__(self, images: Sequence[np.ndarray], options: ExportOptions, name: str):
        self._name, self._batches = name, _batches(images, options)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def _shorten_names(graph: Any) -> None:
    """Number nodes and inner tensors: their names are a tenth of a small quantized file."""
    fixed = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}
    for tensor in (*graph.initializer, *(output for node in graph.node for output in node.output)):
        name = tensor if isinstance(tensor, str) else tensor.name
        names.setdefault(name, name if name in fixed else f"t{len(names)}")
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for index, node in enumerate(graph.node):
        node.name = f"n{index}"
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
    del graph.value_info[:]
