"""Static int8 quantization of OpenVINO graphs by NNCF, with the same layers in float32 as by onnxruntime.

NNCF's graphs run faster in OpenVINO than those with the quantization nodes of ONNX: it also unifies the scales of
tensors that are joined, and corrects the bias of each convolution.
"""

import importlib.util
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, ExportError, ExportOptions
from graftdet.models.backends.openvino import convert, fold_constants, import_without_telemetry
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.processes.native_output import captured_output

METHODS = ("nncf", "nncf-full-range")
"""The second one has eight instead of seven bits for the weights of the first layer, whose sums can overflow on
processors without VNNI."""


def is_installed() -> bool:
    """Whether NNCF can be used."""
    return importlib.util.find_spec("nncf") is not None


def export_by_nncf(
    model: Any, path: Path, options: ExportOptions, batches: Sequence[np.ndarray], method: str = METHODS[0]
) -> Path:
    """Write a model as a quantized .xml and .bin.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the .xml to write.
        options: see `ExportOptions`.
        batches: calibration inputs (B, 3, H, W) float32 in 0..1.
        method: one of `METHODS`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported or quantized.
        UserError: NNCF is not installed.
    """
    try:
        nncf = import_without_telemetry("nncf")
    except ImportError:
        raise UserError(f"{path}: needs nncf; install it with 'pip install nncf'") from None

    advanced = nncf.AdvancedQuantizationParameters()
    if method == "nncf-full-range":
        advanced.overflow_fix = import_without_telemetry("nncf.quantization.advanced_parameters").OverflowFix.DISABLE

    def quantized(network: Any) -> Any:
        fuse_swish(fold_constants(network))
        scope = nncf.IgnoredScope(names=float_operations(network), validate=False)
        preset = nncf.QuantizationPreset.MIXED  # asymmetric activations, as SiLU needs
        data = nncf.Dataset(list(batches))
        try:
            with captured_output():
                network = nncf.quantize(
                    network,
                    data,
                    preset=preset,
                    subset_size=len(batches),
                    ignored_scope=scope,
                    advanced_parameters=advanced,
                )
        except Exception as error:  # NNCF's exceptions have no common base
            raise ExportError(path, f"NNCF cannot quantize the model: {first_line(error)}") from error
        shorten(network)
        return network

    logging.getLogger("nncf").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        convert(BACKENDS["onnx"].export(model, Path(folder) / "float.onnx", options), path, quantized)
    return path


def fuse_swish(network: Any) -> None:
    """Replace `x * sigmoid(x)` by one operation, in place.

    NNCF would quantize the two inputs of the product, and OpenVINO would compute it apart from its convolution.

    Args:
        network: an OpenVINO model.
    """
    operations, utils = (import_without_telemetry(f"openvino.{name}") for name in ("opset13", "utils"))
    for operation in network.get_ordered_ops():
        if operation.get_type_name() != "Multiply":
            continue
        inputs = [operation.input_value(0), operation.input_value(1)]
        for x, factor in (inputs, inputs[::-1]):
            sigmoid = factor.get_node()
            if sigmoid.get_type_name() == "Sigmoid" and sigmoid.input_value(0) == x:
                swish = operations.swish(x)
                swish.set_friendly_name(operation.get_friendly_name())
                utils.replace_node(operation, swish)
                break


def shorten(network: Any) -> None:
    """Number the operations and use equal limits of a quantization once, in place; a third of a small file is graph.

    Args:
        network: a quantized OpenVINO model.
    """
    for index, operation in enumerate(network.get_ordered_ops()):
        if operation.get_type_name() not in ("Parameter", "Result"):
            operation.set_friendly_name(f"n{index}")
        if operation.get_type_name() == "FakeQuantize":
            for limit, same in ((3, 1), (4, 2)):  # the ranges of its output and of its input
                values = [operation.input_value(port).get_node().get_data() for port in (limit, same)]
                if np.array_equal(*values):
                    operation.input(limit).replace_source_output(operation.input_value(same))


def float_operations(network: Any) -> list[str]:
    """Names of the operations that stay in float32: those that `float_nodes` has of the ONNX graph.

    Args:
        network: an OpenVINO model.
    """
    following: dict[str, set[str]] = {}
    operations = network.get_ordered_ops()
    for operation in reversed(operations):
        readers = [target.get_node() for port in operation.outputs() for target in port.get_target_inputs()]
        names = [reader.get_friendly_name() for reader in readers]
        following[operation.get_friendly_name()] = set(names).union(*(following[name] for name in names))
    convolutions = {one.get_friendly_name() for one in operations if one.get_type_name().endswith("Convolution")}
    last = {name for name in convolutions if not following[name] & convolutions}
    products = {one.get_friendly_name() for one in operations if one.get_type_name() == "MatMul"}
    return sorted(products | last.union(*(following[name] for name in last)))
