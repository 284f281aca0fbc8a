"""The memory format of a model: channels last, except in blocks that do not support it."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import torch
from torch import nn

from graftdet.utils.errors import first_line

logger = logging.getLogger(__name__)

TRIAL_BATCH = 2
"""Images of the trial: with one, some operations on channels-last memory succeed that fail with more."""

Explain = Callable[[nn.Module, Any, Exception], Exception]
"""(block, its input, what it raised) -> the error to raise instead."""


def prefer_channels_last(
    model: nn.Module,
    device: torch.device,
    image_shape: tuple[int, int, int] = (3, 64, 64),
    blocks: Iterable[nn.Module] | None = None,
    training: bool = False,
    explain: Explain | None = None,
) -> torch.memory_format:
    """Bring `model` into channels-last memory, in which most models run faster (25 % on a CPU), if it supports that.

    Blocks that do not support it, such as one that calls view() on channels-first memory, receive contiguous inputs
    and have contiguous weights; the others stay channels last. Weights, statistics and random states do not change.

    Args:
        model: The model, changed in place.
        device: The device that it is on.
        image_shape: A shape (C, H, W) that it can run on; in training that of the images.
        blocks: Its parts that may need contiguous memory; None: its children.
        training: Try train mode and the backward pass.
        explain: Makes the error for a block that fails in training in any memory format; None: as it is raised.

    Returns:
        The memory format of the images.

    Raises:
        Exception: In training, what a block raises in any memory format, or what `explain` makes of it.
    """
    if device.type == "mps":
        return torch.contiguous_format
    blocks = list(model.children() if blocks is None else blocks)
    images = torch.rand(TRIAL_BATCH, *image_shape, generator=torch.Generator().manual_seed(0)).to(device)
    trial = _Trial(model, blocks, images, training)
    with _unchanged(model, device, training):
        model.to(memory_format=torch.channels_last)
        if trial.run(torch.channels_last) is None:
            return torch.channels_last
        model.to(memory_format=torch.contiguous_format)
        error = trial.run(torch.contiguous_format)
        if error is not None:
            if training:
                _raise_cause(trial, error, explain)
            return torch.contiguous_format
        contiguous = [block for block in blocks if trial.run_block(block, torch.channels_last) is not None]
        hooks = [block.register_forward_pre_hook(_contiguous_input) for block in contiguous]
        hooks += [block.register_forward_hook(_contiguous_gradient) for block in contiguous]
        model.to(memory_format=torch.channels_last)
        for block in contiguous:
            block.to(memory_format=torch.contiguous_format)
        if trial.run(torch.channels_last) is None:
            logger.info(
                "memory format: channels last, contiguous in %s", ", ".join(type(b).__name__ for b in contiguous)
            )
            return torch.channels_last
        for hook in hooks:
            hook.remove()
        model.to(memory_format=torch.contiguous_format)
    return torch.contiguous_format


def _contiguous_input(_: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook of a block that does not support channels-last memory."""
    return _map_tensors(inputs, torch.Tensor.contiguous)


def _contiguous_gradient(_: nn.Module, __: tuple, output: Any) -> None:
    """Forward hook of such a block: the gradient that reaches it is contiguous, too."""
    for tensor in _tensors(output):
        if tensor.requires_grad:
            tensor.register_hook(torch.Tensor.contiguous)


def _raise_cause(trial: "_Trial", error: Exception, explain: Explain | None) -> NoReturn:
    """Raise the error of the block that fails alone in contiguous memory, or else that changes its input in place."""
    if explain is None or not trial.in_backward:
        raise error
    for block in trial.blocks:
        own = trial.run_block(block, torch.contiguous_format)
        if own is not None:
            raise explain(block, trial.inputs[block], own) from own
    for block in trial.changing:
        in_place = RuntimeError(f"changes its input in place, which the backward pass needs ({first_line(error)})")
        raise explain(block, trial.inputs[block], in_place) from error
    raise error


class _Trial:
    """Runs of a model, and of its blocks alone on what they read in the last run in contiguous memory."""

    def __init__(self, model: nn.Module, blocks: list[nn.Module], images: torch.Tensor, training: bool):
        self.model, self.blocks, self.training = model, blocks, training
        self.images = images
        self.inputs: dict[nn.Module, Any] = {}
        self.changing: list[nn.Module] = []  # blocks that change their input in place
        self.in_backward = False

    def run(self, layout: torch.memory_format) -> Exception | None:
        """Run the model, in training with its backward pass; what that raises."""
        hooks = []
        if layout == torch.contiguous_format:
            hooks += [block.register_forward_pre_hook(self._record_input) for block in self.blocks]
            hooks += [block.register_forward_hook(self._compare_versions) for block in self.blocks]
        try:
            return self._attempt(self.model, (self.images.contiguous(memory_format=layout),), layout)
        finally:
            for hook in hooks:
                hook.remove()

    def run_block(self, block: nn.Module, layout: torch.memory_format) -> Exception | None:
        """The same for one block; None where the model did not run it."""
        if block not in self.inputs:
            return None

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            wanted = layout if tensor.ndim == 4 else torch.contiguous_format
            leaf = tensor.clone(memory_format=wanted)
            return leaf.requires_grad_().clone() if self.training and tensor.is_floating_point() else leaf

        block.to(memory_format=layout)
        return self._attempt(block, _map_tensors(self.inputs[block], copy), layout)

    def _attempt(self, module: nn.Module, inputs: tuple, layout: torch.memory_format) -> Exception | None:
        self.in_backward = False
        try:
            with torch.set_grad_enabled(self.training):
                outputs = [tensor for tensor in _tensors(module(*inputs)) if tensor.requires_grad]
            self.in_backward = True
            if outputs:
                torch.autograd.backward(outputs, [_like(tensor, layout) for tensor in outputs])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a block raises
            return error
        return None

    def _record_input(self, block: nn.Module, inputs: tuple) -> None:
        self.inputs[block] = _map_tensors(inputs, lambda tensor: tensor.detach().clone())
        self._versions = [tensor._version for tensor in _tensors(inputs)]

    def _compare_versions(self, block: nn.Module, inputs: tuple, _: Any) -> None:
        if self._versions != [tensor._version for tensor in _tensors(inputs)]:
            self.changing.append(block)


def _like(tensor: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    """A gradient of a tensor, in a memory format."""
    return torch.ones_like(tensor, memory_format=layout if tensor.ndim == 4 else torch.preserve_format)


def _map_tensors(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value` with each tensor replaced, also in lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_map_tensors(item, function) for item in value)
    return {key: _map_tensors(item, function) for key, item in value.items()} if isinstance(value, dict) else value


def _tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in `value`."""
    found: list[torch.Tensor] = []
    _map_tensors(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


@contextlib.contextmanager
def _unchanged(model: nn.Module, device: torch.device, training: bool) -> Iterator[None]:
    """Restore modes, buffers, gradients and random states afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()] if training else []
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter, gradient in gradients:
            parameter.grad = gradient
