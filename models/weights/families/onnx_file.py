"""Weights of an ONNX file: its convolutions, in the order in which they run. The graph itself is not run.

Exporters merge batch norms into the convolutions before them and then drop the names of both. The order remains, so a
family whose order of layers is known gives them their names again (`WeightsFamily.layer_order`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graftdet.models.weights.families.base import MODEL_EPS, WeightsFamily
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.files import read_regular_file


@dataclass(frozen=True)
class OnnxConvolution:
    """One convolution: weight (c2, c1 / groups, k, k) and bias (c2,), zeros where it has none."""

    weight: torch.Tensor
    bias: torch.Tensor


def read_convolutions(path: Path) -> tuple[list[OnnxConvolution], int | None]:
    """Read the convolutions of an ONNX file, in order, and the longer side of its input, None where it is dynamic.

    Raises:
        UserError: the package `onnx` is missing, or the file is malformed or has its weights in another file.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(f"{path}: needs onnx to read its weights; install it with 'pip install onnx'") from None
    try:
        graph = onnx.load_model_from_string(read_regular_file(path)).graph
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        found = []
        for node in graph.node:
            if node.op_type == "Conv" and node.input[1] in tensors:
                weight, *bias = (_tensor(tensors[name], onnx) for name in node.input[1:3] if name in tensors)
                found.append(OnnxConvolution(weight, bias[0] if bias else torch.zeros(weight.shape[0])))
        inputs = [value for value in graph.input if value.name not in tensors]
        sides = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim][2:] if inputs else []
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # the parser of the file's format decides what is raised
        raise UserError(f"{path}: cannot be read as an ONNX file ({first_line(error)})") from None
    return found, max(sides, default=0) or None


def name_convolutions(
    family: WeightsFamily, convolutions: list[OnnxConvolution], size: int | None
) -> PublishedWeights | None:
    """The weights under the family's published names; None where the convolutions are not those of the family.

    Merged batch norms become identities with the merged bias: the statistics that they were made from are lost.
    """
    names = family.layer_order([tuple(layer.weight.shape) for layer in convolutions])
    if names is None or len(names) != len(convolutions):
        return None
    state = {}
    for name, layer in zip(names, convolutions, strict=True):
        state[f"{name}.weight"] = layer.weight
        batch_norm = family.batch_norm_of(name)
        if batch_norm is None:
            state[f"{name}.bias"] = layer.bias
        else:
            ones = torch.ones_like(layer.bias)
            state[f"{batch_norm}.weight"], state[f"{batch_norm}.bias"] = ones, layer.bias
            state[f"{batch_norm}.running_mean"] = torch.zeros_like(ones)
            state[f"{batch_norm}.running_var"] = ones * (1 - MODEL_EPS)
            state[f"{batch_norm}.num_batches_tracked"] = torch.tensor(0)
    return PublishedWeights(state, size=size, merged_batch_norms=True)


def _tensor(stored: Any, onnx: Any) -> torch.Tensor:
    if stored.data_location == onnx.TensorProto.EXTERNAL:
        raise UserError("has its weights in another file, which is not read; save it as one file")
    return torch.from_numpy(onnx.numpy_helper.to_array(stored).copy()).float()
