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
from graftdet.models.backends.openvino import convert, import_without_telemetry
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.processes.native_output import captured_output

METHOD = "nncf"


def is_installed() -> bool:
    """Whether NNCF can be used."""
    return importlib.util.find_spec("nncf") is not None


def export_by_nncf(model: Any, path: Path, options: ExportOptions, batches: Sequence[np.ndarray]) -> Path:
    """Write a model as a quantized .xml and .bin.

    Args:
        model: a `DetectionModel`; unchanged.
        path: the .xml to write.
        options: see `ExportOptions`.
        batches: calibration inputs (B, 3, H, W) float32 in 0..1.

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

    def quantized(network: Any) -> Any:
        scope = nncf.IgnoredScope(names=float_operations(network), validate=False)
        preset = nncf.QuantizationPreset.MIXED  # asymmetric activations, as SiLU needs
        data = nncf.Dataset(list(batches))
        try:
            with captured_output():
                return nncf.quantize(network, data, preset=preset, subset_size=len(batches), ignored_scope=scope)
        except Exception as error:  # NNCF's exceptions have no common base
            raise ExportError(path, f"NNCF cannot quantize the model: {first_line(error)}") from error

    logging.getLogger("nncf").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as folder:
        convert(BACKENDS["onnx"].export(model, Path(folder) / "float.onnx", options), path, quantized)
    return path


def float_operations(network: Any) -> list[str]:
    """Names of the operations that stay in float32: convolutions that none follows, and whatever follows them.

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
    return sorted(last.union(*(following[name] for name in last)))
