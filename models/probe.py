"""Running a block for its output shape only: on tensors without data where the block allows it."""

import contextlib

import torch
from torch import nn
from torch.func import functional_call

from utils.errors import UserError

PROBE_SIZE = 640


@contextlib.contextmanager
def evaluating(module: nn.Module):
    """Put `module` into eval mode and back, each submodule as it was."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def output_shapes(module: nn.Module, inputs) -> tuple | list[tuple]:
    """The shape (c, h, w) that `module` gives in eval mode, or a list of them for a list of maps.

    `inputs` is a shape (c, h, w) or a list of them for a block that takes a list. Whatever the block raises is let
    through; an output that is no map raises `UserError`.
    """
    with torch.no_grad(), evaluating(module):
        try:
            meta = {name: t.to("meta") for name, t in [*module.named_parameters(), *module.named_buffers()]}
            output = functional_call(module, meta, (_empty(inputs, "meta"),))
        except Exception as error:
            if not needs_values(error):
                raise
            output = module(_empty(inputs, "cpu"))
    if isinstance(output, (list, tuple)):
        return [_map_shape(item) for item in output]
    return _map_shape(output)


def needs_values(error: Exception) -> bool:
    """Whether a run on tensors without data failed for the lack of data: torch says "meta" or the device in all of these."""
    return isinstance(error, NotImplementedError) or "meta" in str(error).lower() or "device" in str(error)


def _map_shape(output) -> tuple:
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        kind = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise UserError(f"gives {kind}, expected a map (B, C, H, W)")
    return tuple(output.shape[1:])


def _empty(shapes, device):
    if isinstance(shapes, list):
        return [torch.zeros(1, *shape, device=device) for shape in shapes]
    return torch.zeros(1, *shapes, device=device)
