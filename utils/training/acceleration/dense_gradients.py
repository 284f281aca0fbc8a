"""Gradients that arrive as slices of a larger tensor are made dense where they enter a module."""

from typing import Any

import torch
from torch import nn


def make_gradients_dense(model: nn.Module) -> None:
    """Copy gradients that are slices before the backward pass of a module reads them.

    The gradient of a concatenated tensor is a slice. In channels-last memory its rows are only a few numbers long, and
    element-wise operations of CPUs compute it number by number: that of SiLU takes eight times as long with 32 channels
    in bfloat16. Results are equal up to rounding.

    Args:
        model: The model; all its modules without own parameters receive a forward hook, which deepcopy copies.
    """
    for module in model.modules():
        if module is not model and next(module.parameters(recurse=False), None) is None:
            module.register_forward_hook(_watch_gradient)


def _watch_gradient(_: nn.Module, __: tuple, output: Any) -> None:
    """Forward hook: the gradient of an output (B, C, H, W) is dense."""
    if torch.is_tensor(output) and output.requires_grad and output.ndim == 4 and not torch.compiler.is_compiling():
        output.register_hook(_dense)


def _dense(gradient: torch.Tensor) -> torch.Tensor | None:
    """Tensor hook: a dense copy of a gradient (B, C, H, W) that is not dense, None for others."""
    if gradient.is_contiguous(memory_format=torch.channels_last) or gradient.is_contiguous():
        return None
    is_last = gradient.stride(1) == 1
    return gradient.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
