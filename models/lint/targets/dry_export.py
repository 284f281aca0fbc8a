"""Exports of an untrained model, whose operations are attributed to the rows they come from. Writes no file."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from graftdet.models.backends import ExportOptions
from graftdet.models.backends.tracing.export_module import ExportModule
from graftdet.models.backends.tracing.onnx_tracing import simplified, trace_to_onnx
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.lint.targets.target import Finding
from graftdet.utils.errors import first_line

_ROW = re.compile(r"(?:^|[/.])model\.(\d+)(?=[/.]|$)")


class DryExportError(Exception):
    """A model cannot be traced.

    Attributes:
        findings: the rows that cannot; one without a row where each can alone.
    """

    def __init__(self, findings: list[Finding]):
        super().__init__(findings[0].message)
        self.findings = findings


@dataclass(frozen=True)
class OnnxNode:
    """One operation of an ONNX graph.

    Attributes:
        row: the row that it comes from; all that follows the last maps belongs to the head.
        operator: its type.
        name: its name in the graph.
        attributes: name -> value.
        inputs: names of its inputs; an empty one is an optional input that is not given.
        constants: values of the inputs that do not depend on the image, None for the others.
    """

    row: int
    operator: str
    name: str
    attributes: dict[str, Any]
    inputs: list[str]
    constants: list[np.ndarray | None]

    def ints(self, attribute: str, index: int) -> list[int]:
        """Integers that are an attribute in older opsets, and input `index` in newer ones; empty where not given."""
        if attribute in self.attributes:
            value = self.attributes[attribute]
            return list(value) if isinstance(value, (list, tuple)) else [value]
        constant = self.constants[index] if index < len(self.constants) else None
        return [] if constant is None else [int(value) for value in constant.ravel()]


@dataclass(frozen=True)
class DryOnnx:
    """An ONNX export of a model: the bytes of the file, and its nodes in order."""

    data: bytes
    nodes: list[OnnxNode]


def preferred_output(model: DetectionModel, *kinds: str) -> str:
    """The first of these kinds of output that the model's head has; only "raw" may be missing."""
    return next(kind for kind in kinds if kind != "raw" or model.head.raw_format() is not None)


def export_onnx(model: DetectionModel, size: tuple[int, int], opset: int, output: str) -> DryOnnx:
    """Export a model to ONNX as export.py does.

    Args:
        model: the model, in eval mode; unchanged.
        size: (height, width) of the images.
        opset: ONNX operator set.
        output: where the graph ends, see `ExportOptions`.

    Raises:
        DryExportError: the model cannot be traced.
    """
    module = ExportModule(model, ExportOptions(size, opset=opset, output=output))
    images = torch.zeros(1, model.channels, *size)
    names = {"input_names": ["images"], "output_names": module.output_names()}
    try:
        data = simplified(trace_to_onnx(module, (images,), opset_version=opset, **names), False)
    except Exception as error:  # torch's exporter raises many types
        raise DryExportError(_untraceable_rows(model, images, opset, error)) from error
    return DryOnnx(data, list(_onnx_nodes(data, len(model.model) - 1)))


def _onnx_nodes(data: bytes, head: int) -> Iterator[OnnxNode]:
    """The nodes of an ONNX file, in topological order. Names start with the scope, such as `/model.4/cv1/conv/Conv`."""
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load_model_from_string(data).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rows: dict[str, int] = {}  # output -> row
    for node in graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
        match = _ROW.search(node.name)
        sources = [rows[name] for name in node.input if name in rows]
        is_after_rows = node.name.startswith("/") and node.name.count("/") == 1
        row = int(match[1]) if match else head if is_after_rows else max(sources, default=head)
        rows |= dict.fromkeys(node.output, row)
        values = [constants.get(name) for name in node.input]
        yield OnnxNode(row, node.op_type, node.name, attributes, list(node.input), values)


class _OneRow(nn.Module):
    """A row of a model alone, from the maps that it reads to its output."""

    def __init__(self, layer: nn.Module, joined: bool, is_head: bool):
        super().__init__()
        self.layer, self.joined, self.is_head = layer, joined, is_head

    def forward(self, *maps: torch.Tensor) -> Any:
        read = list(maps) if self.joined or self.is_head else maps[0]
        y = self.layer.export_outputs(read) if self.is_head else self.layer(read)  # type: ignore[operator]
        return tuple(y) if isinstance(y, list) else y


@dataclass(frozen=True)
class RowExport:
    """A row exported to ONNX alone.

    Attributes:
        row: its index.
        error: why it cannot be exported; empty where it can.
        data: the bytes of the file; its inputs are `in0`, `in1`, ..., its outputs `out0`, ...
        inputs, outputs: what the row reads and gives in the model, (1, c, H, W) each; of the head its decoded rows.
    """

    row: int
    error: str
    data: bytes = b""
    inputs: tuple[np.ndarray, ...] = ()
    outputs: tuple[np.ndarray, ...] = ()


def export_rows(model: DetectionModel, images: torch.Tensor, opset: int) -> Iterator[RowExport]:
    """Export each row of a model alone; rows that read lists of maps are omitted.

    Args:
        model: the model, in eval mode; unchanged.
        images: (1, C, H, W) in 0..1.
        opset: ONNX operator set.
    """
    detector = ExportModule(model).detector
    head = len(detector.model) - 1
    observed: dict[int, Any] = dict.fromkeys(range(head))
    with torch.no_grad():
        observed[head] = detector.head_inputs(images, observed)
    for index, maps in observed.items():
        joined = isinstance(maps, list)
        inputs = tuple(maps) if joined else (maps,)
        if not all(isinstance(tensor, torch.Tensor) for tensor in inputs):  # of an auxiliary row None
            continue
        row = _OneRow(detector.model[index], joined, index == head).eval()
        try:
            with torch.no_grad():
                outputs = row(*(tensor.clone() for tensor in inputs))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            names = {"input_names": _names("in", inputs), "output_names": _names("out", outputs)}
            data = simplified(trace_to_onnx(row, inputs, opset_version=opset, **names), False)
        except Exception as reason:  # torch's exporter raises many types
            yield RowExport(index, first_line(reason))
            continue
        yield RowExport(index, "", data, *(tuple(tensor.numpy() for tensor in part) for part in (inputs, outputs)))


def _names(prefix: str, tensors: Sequence[torch.Tensor]) -> list[str]:
    return [f"{prefix}{index}" for index in range(len(tensors))]


def _untraceable_rows(model: DetectionModel, images: torch.Tensor, opset: int, error: Exception) -> list[Finding]:
    """The rows that cannot be exported alone, and why; where all can, the error of the whole model."""
    text = f"cannot be exported with opset {opset}"
    found = [
        Finding(export.row, f"{text}: {export.error}") for export in export_rows(model, images, opset) if export.error
    ]
    return found or [Finding(None, f"the model {text}: {first_line(error)}")]


@dataclass(frozen=True)
class TorchNode:
    """One operation of a TorchScript graph: its row, its name, such as `aten::slice`, and the node."""

    row: int
    operator: str
    node: Any

    def constant(self, index: int) -> Any:
        """The value of input `index`, where it is a constant number or text; None otherwise."""
        source = list(self.node.inputs())[index]
        return source.toIValue() if source.node().kind() == "prim::Constant" else None


def trace_torch(module: ExportModule, size: tuple[int, int]) -> list[TorchNode]:
    """Trace a module as exports to TorchScript and ncnn do; its operations on what depends on the images, in order.

    Args:
        module: what the file computes.
        size: (height, width) of the images.

    Raises:
        DryExportError: the model cannot be traced.
    """
    images, head = torch.zeros(1, module.detector.channels, *size), len(module.detector.model) - 1
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # that shapes are traced; that torch.export is the newer way
            module(images)  # blocks that make their weights in the first call
            graph = torch.jit.trace(module, images, check_trace=False).inlined_graph
    except Exception as error:  # tracing raises many types
        raise DryExportError([Finding(None, f"the model cannot be traced: {first_line(error)}")]) from error
    found, dependent = [], {value.debugName() for value in list(graph.inputs())[1:]}
    for node in graph.nodes():
        if node.kind() == "aten::size" or not any(value.debugName() in dependent for value in node.inputs()):
            continue  # a constant for a file of one size
        dependent.update(value.debugName() for value in node.outputs())
        match = _ROW.search(node.scopeName())
        found.append(TorchNode(int(match[1]) if match else head, node.kind(), node))
    return found
