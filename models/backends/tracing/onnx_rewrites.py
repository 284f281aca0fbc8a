"""Operations of an ONNX graph that a reader lacks or computes wrongly, by others: the same numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

ABOVE_ZERO = 1e-7  # not zero in float16 either
MAX_RANGES = 16


def rewrite(model: Any) -> None:
    """Rewrite the graph of a model in place.

    OpenCV 4 reads no Unsqueeze of several axes; before 4.7 also none of an axis counted from the end, no Pad with an
    empty input, no Split into unequal parts and no Gather of several channels, which ends the process in 4.8.
    onnxruntime from 1.17 on, and onnxsim, make one operation of a Pad with zero and a MaxPool, whose own padding is
    minus infinity: negative values at the border, as behind SiLU, would come out instead of zero.

    Args:
        model: an `onnx.ModelProto`.
    """
    from onnx import shape_inference

    graph = model.graph
    inferred = shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
    constants = _constants(graph)
    read_before = _read(graph.node)
    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    nodes = []
    for node in list(graph.node):
        if node.op_type == "Pad":
            _pad_above_zero(graph, node, node.output[0] in pooled, constants)
        if node.op_type == "Unsqueeze":
            nodes += _axes_one_by_one(graph, node, constants, ranks.get(node.output[0]))
        elif node.op_type == "Split":
            nodes += _split_by_slices(graph, node, constants)
        elif node.op_type == "Gather":
            nodes += _gather_by_slices(graph, node, constants)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    unread = read_before - _read(nodes)  # onnxruntime warns about them
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
        graph.initializer.remove(tensor)


def _read(nodes: Iterable[Any]) -> set[str]:
    """The names of all inputs of nodes."""
    return {name for node in nodes for name in node.input}


def _constants(graph: Any) -> dict[str, np.ndarray]:
    """The constants of a graph by name."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


def _attribute(node: Any, name: str, default: Any) -> Any:
    from onnx import helper

    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def _add_constant(graph: Any, name: str, value: Any, kind: type = np.int64) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
    return name


def _pad_above_zero(graph: Any, node: Any, is_pooled: bool, constants: dict[str, np.ndarray]) -> None:
    """Omit an empty value of a Pad; with zeros in front of a MaxPool give it `ABOVE_ZERO`."""
    if list(node.input[2:]) == [""]:
        del node.input[2:]
    is_zero = len(node.input) < 3 or not constants.get(node.input[2], np.ones(1)).any()
    if is_pooled and is_zero and _attribute(node, "mode", b"constant") == b"constant":
        name = _add_constant(graph, f"{node.output[0]}_value", ABOVE_ZERO, np.float32)
        node.input[:] = [*node.input[:2], name, *node.input[3:]]


def _axes_one_by_one(graph: Any, node: Any, constants: dict[str, np.ndarray], rank: int | None) -> list[Any]:
    """One Unsqueeze per axis, counted from the first, where the axes are constants."""
    from onnx import helper

    is_attribute = bool(node.attribute)  # before opset 13
    axes = list(node.attribute[0].ints) if is_attribute else [int(axis) for axis in constants.get(node.input[1], ())]
    if not axes or (min(axes) < 0 and rank is None):
        return [node]
    axes = sorted(axis % rank if rank else axis for axis in axes)  # they count in the output, so the first comes first
    source, nodes = node.input[0], []
    for number, axis in enumerate(axes):
        name = f"{node.name}_{number}"
        target = node.output[0] if number + 1 == len(axes) else name
        if is_attribute:
            nodes.append(helper.make_node("Unsqueeze", [source], [target], name, axes=[axis]))
        else:
            added = _add_constant(graph, f"{name}_axis", [axis])
            nodes.append(helper.make_node("Unsqueeze", [source, added], [target], name))
        source = target
    return nodes


def _split_by_slices(graph: Any, node: Any, constants: dict[str, np.ndarray]) -> list[Any]:
    """One Slice per part of a Split, where the parts are constant and not equal."""
    sizes = constants.get(node.input[1], np.ones(1)) if len(node.input) > 1 else np.ones(1)
    if len(set(sizes.tolist())) < 2:
        return [node]
    ends = [int(end) for end in np.cumsum(sizes)]
    return _slices(graph, node, zip([0, *ends], ends, strict=False), list(node.output))


def _gather_by_slices(graph: Any, node: Any, constants: dict[str, np.ndarray]) -> list[Any]:
    """Slices and a Concat instead of a Gather of few ranges of constant indices, such as channels in another order."""
    from onnx import helper

    indices = constants.get(node.input[1], np.zeros(0, np.int64))
    if indices.ndim != 1 or indices.size < 2 or indices.min() < 0:
        return [node]
    starts = [0, *(int(one) for one in np.flatnonzero(np.diff(indices) != 1) + 1)]
    if len(starts) > MAX_RANGES:
        return [node]
    ends = [*starts[1:], indices.size]
    ranges = [(int(indices[start]), int(indices[end - 1]) + 1) for start, end in zip(starts, ends, strict=True)]
    parts = [f"{node.output[0]}_{number}" for number in range(len(ranges))]
    concat = helper.make_node("Concat", parts, node.output, node.name, axis=_attribute(node, "axis", 0))
    return [*_slices(graph, node, ranges, parts), concat]


def _slices(graph: Any, node: Any, ranges: Iterable[tuple[int, int]], outputs: list[str]) -> list[Any]:
    """One Slice per range of the input of a node along its axis."""
    from onnx import helper

    axis, nodes = _attribute(node, "axis", 0), []
    for number, ((start, end), output) in enumerate(zip(ranges, outputs, strict=True)):
        name = f"{node.name}_slice_{number}"
        values = {"start": start, "end": end, "axis": axis}
        added = [_add_constant(graph, f"{name}_{key}", [value]) for key, value in values.items()]
        nodes.append(helper.make_node("Slice", [node.input[0], *added], [output], name))
    return nodes
