"""torch's tracing ONNX exporter, with replacements for layers that it does not support."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

logger = logging.getLogger(__name__)

ABOVE_ZERO = 1e-7  # not zero in float16 either


def trace_to_onnx(module: nn.Module, inputs: tuple[Any, ...], **options: Any) -> bytes:
    """Export a module by tracing it.

    The tracing exporter is selected explicitly: it gives the same numbers as the newer one, writes opset 17 itself,
    never puts weights into a second file, names the axes, and works alike from torch 2.6 on.

    Args:
        module: a module in eval mode; pools that cannot be traced are replaced in it.
        inputs: example inputs.
        options: those of `torch.onnx.export`.

    Returns:
        The bytes of an ONNX file.

    Raises:
        Exception: whatever torch raises for a block that it cannot trace.
    """
    _replace_pools(module)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), _no_graph_dump(), unfused_attention():
        warnings.simplefilter("ignore")  # that this exporter is the older one; that shapes are traced
        torch.onnx.export(module, inputs, file, dynamo=False, **options)  # type: ignore[arg-type]
    return file.getvalue()


def simplified(data: bytes, is_dynamic: bool) -> bytes:
    """Fold constants and merge operations by onnxslim, so that older readers, such as OpenCV 4.5, take the file.

    Without onnxslim a warning names it, and the graph stays as traced, except for pads in front of pools.

    Args:
        data: the bytes of an ONNX file.
        is_dynamic: whether its sizes are free; symbolic inference of all shapes then takes minutes, and is omitted.

    Returns:
        The bytes of one that computes the same.
    """
    import onnx

    model = onnx.load_model_from_string(data)
    try:
        import onnxslim
    except ImportError:
        logger.warning("the graph is not simplified, and OpenCV 4 may not read it: pip install onnxslim")
    else:
        model = onnxslim.slim(model, no_shape_infer=is_dynamic)
        _insert_axes_one_by_one(model.graph)
    _pad_pools_above_zero(model.graph)
    return model.SerializeToString()


def _pad_pools_above_zero(graph: Any) -> None:
    """Pad with `ABOVE_ZERO` instead of zero where a MaxPool follows.

    onnxruntime from 1.17 on, and onnxsim, make one operation of a Pad with zero and a MaxPool, whose own padding is
    minus infinity: negative values at the border, as behind SiLU, would come out instead of zero.
    """
    from onnx import numpy_helper

    pooled = {node.input[0] for node in graph.node if node.op_type == "MaxPool"}
    for node in graph.node:
        is_constant = all(one.s == b"constant" for one in node.attribute if one.name == "mode")
        if node.op_type != "Pad" or node.output[0] not in pooled or not is_constant:
            continue
        if len(node.input) < 3 or not node.input[2] or not _constant_of(graph, node.input[2]).any():
            name = f"{node.output[0]}_value"
            graph.initializer.append(numpy_helper.from_array(np.array(ABOVE_ZERO, np.float32), name))
            node.input[:] = [*node.input[:2], name, *node.input[3:]]


def _constant_of(graph: Any, name: str) -> np.ndarray:
    """The number that a constant has; for anything else not zero."""
    from onnx import numpy_helper

    tensors = [tensor for tensor in graph.initializer if tensor.name == name]
    tensors += [node.attribute[0].t for node in graph.node if node.op_type == "Constant" and node.output[0] == name]
    return numpy_helper.to_array(tensors[0]) if tensors else np.ones(1)


def _insert_axes_one_by_one(graph: Any) -> None:
    """Replace each Unsqueeze of several axes by one per axis: OpenCV 4 reads no other."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[Any] = []
    replaced: set[str] = set()
    for node in graph.node:
        axes = _inserted_axes(node, constants)
        if len(axes) < 2 or min(axes) < 0:
            nodes.append(node)
            continue
        source, is_attribute = node.input[0], bool(node.attribute)  # before opset 13
        replaced.update(node.input[1:])
        for number, axis in enumerate(sorted(axes)):  # they count in the output, so the first comes first
            name = f"{node.name}_{number}"
            target = node.output[0] if number + 1 == len(axes) else name
            if is_attribute:
                nodes.append(helper.make_node("Unsqueeze", [source], [target], name, axes=[axis]))
            else:
                graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), f"{name}_axis"))
                nodes.append(helper.make_node("Unsqueeze", [source, f"{name}_axis"], [target], name))
            source = target
    del graph.node[:]
    graph.node.extend(nodes)
    unread = replaced - {name for node in nodes for name in node.input}  # onnxruntime warns about them
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
        graph.initializer.remove(tensor)


def _inserted_axes(node: Any, constants: dict[str, np.ndarray]) -> list[int]:
    """The axes that an Unsqueeze inserts; empty for other operations, and where they are computed."""
    if node.op_type != "Unsqueeze":
        return []
    if node.attribute:
        return list(node.attribute[0].ints)
    return [int(axis) for axis in constants.get(node.input[1], ())]


class AxisMean(nn.Module):
    """The mean along one axis: the same as `nn.AdaptiveAvgPool2d((None, 1))` (dim 3) or `((1, None))` (dim 2)."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, 1) or (B, C, 1, W)."""
        return x.mean(self.dim, keepdim=True)


def _replace_pools(module: nn.Module) -> None:
    """Replace pools along one axis, as in coordinate attention: ONNX has none whose size is unknown in advance."""
    axes = {(None, 1): 3, (1, None): 2}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.AdaptiveAvgPool2d and isinstance(child.output_size, tuple):
                dim = axes.get(child.output_size)
                if dim is not None:
                    setattr(parent, name, AxisMean(dim))


@contextlib.contextmanager
def unfused_attention() -> Iterator[None]:
    """In eval mode `nn.MultiheadAttention` would use a fused operation, which ONNX does not have."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _no_graph_dump() -> Iterator[None]:
    """Torch prints the whole graph where an operation cannot be exported; the error names the operation.

    Its switch has no effect: the exporter sets it again (torch 2.13).
    """
    name = "_jit_onnx_log"
    log = getattr(torch._C, name, None)
    setattr(torch._C, name, lambda *texts: None)
    try:
        yield
    finally:
        if log is not None:
            setattr(torch._C, name, log)
