"""torch's tracing ONNX exporter, helped over layers that it does not know."""

import contextlib
import io
import warnings

import torch
from torch import nn


def trace_to_onnx(module: nn.Module, inputs: tuple, **options) -> bytes:
    """The bytes of an ONNX file of `module`, which is in eval mode and is changed: its pools that cannot be traced.

    `options` are those of `torch.onnx.export`. The tracing exporter is asked for by name: it gives the same numbers as
    the newer one, writes opset 17 itself, never puts weights into a second file, names the axes, and works alike from
    torch 2.6 on. Raises whatever torch raises for a block that it cannot trace.
    """
    _replace_pools(module)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), _quiet(), _plain_attention():
        warnings.simplefilter("ignore")  # that this exporter is the older one; that shapes are traced
        torch.onnx.export(module, inputs, file, dynamo=False, **options)
    return file.getvalue()


class SideMean(nn.Module):
    """What `nn.AdaptiveAvgPool2d((None, 1))` or `((1, None))` gives, as the mean along a side: `dim` 3 or 2."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x):
        return x.mean(self.dim, keepdim=True)


def _replace_pools(module: nn.Module) -> None:
    """Pools along one side, as coordinate attention has them: ONNX has none whose size is not known beforehand."""
    sides = {(None, 1): 3, (1, None): 2}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if (
                type(child) is nn.AdaptiveAvgPool2d
                and isinstance(child.output_size, tuple)
                and child.output_size in sides
            ):
                setattr(parent, name, SideMean(sides[child.output_size]))


@contextlib.contextmanager
def _plain_attention():
    """`nn.MultiheadAttention` in eval mode else takes a fused operation, which ONNX has not."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _quiet():
    """torch prints the whole graph where an operation cannot be exported; the error says which one."""
    log = getattr(torch._C, "_jit_set_onnx_log_enabled", None)
    if log is not None:
        log(False)
    try:
        yield
    finally:
        if log is not None:
            log(True)
