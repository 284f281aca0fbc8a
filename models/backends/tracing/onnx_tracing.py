"""torch's tracing ONNX exporter, with replacements for layers that it does not support."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from graftdet.models.backends.tracing.onnx_rewrites import rewrite

logger = logging.getLogger(__name__)


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

    Without onnxslim a warning names it, and constants and operations stay as traced.

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
    rewrite(model)
    return model.SerializeToString()


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
