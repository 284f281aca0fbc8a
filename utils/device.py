"""Selection of the device, its memory, and the memory format and number of workers that suit it."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from graftdet.utils.errors import UserError, first_line

logger = logging.getLogger(__name__)

TRIAL_BATCH = 2
"""Images of the trial: with one, some operations on channels-last memory succeed that fail with more."""

Explain = Callable[[nn.Module, Any, Exception], Exception]
"""(block, its input, what it raised) -> the error to raise instead."""


def select_device(name: str | torch.device = "") -> torch.device:
    """Return the device named 'cpu', 'cuda', 'cuda:1', '1' or 'mps'; '' selects the best available one.

    Raises:
        UserError: If the device does not exist, or several are named ('0,1'): torchrun starts one process per device.
    """
    text = str(name).strip().lower()
    if text == "":
        return torch.device("cuda:0" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    if "," in text:
        count = len([part for part in text.split(",") if part.strip()])
        raise UserError(
            f"--device {name}: each process uses one device; for {count} devices run "
            f"'torchrun --nproc-per-node {count} train.py ...' (CUDA_VISIBLE_DEVICES={text} selects them)"
        )
    if text == "cpu":
        return torch.device("cpu")
    if text == "mps":
        if not _has_mps():
            raise UserError(f"--device {name}: this machine has no MPS device; use --device cpu")
        return torch.device("mps")
    number = text.removeprefix("cuda").removeprefix(":") if text.startswith("cuda") else text
    if number and not number.isdecimal():
        raise UserError(f"--device {name}: expected cpu, mps, cuda or a CUDA device's number such as 0")
    index, count = int(number or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        available = f"CUDA devices: 0 to {count - 1}" if count else "no CUDA device is available; use --device cpu"
        raise UserError(f"--device {name}: {available}")
    return torch.device("cuda", index)


def device_memory(device: torch.device) -> str:
    """Return the memory in use on `device` as a short text such as '3.1G'; on a CPU that of the process."""
    if device.type == "cuda":
        return f"{torch.cuda.memory_reserved(device) / 1e9:.1f}G"
    if device.type == "mps":
        return f"{torch.mps.driver_allocated_memory() / 1e9:.1f}G"
    try:  # second number: resident pages (Linux)
        return f"{int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f}G"
    except (OSError, IndexError, ValueError):
        return "-"


def peak_memory(device: torch.device) -> str:
    """Return the peak memory of this process on `device`, formatted as by `device_memory`."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_reserved(device) / 1e9:.1f}G"
    try:
        import resource
    except ImportError:  # Windows
        return "-"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.1f}G"


def default_workers(training_device: str = "") -> int:
    """Return the number of processes that load images: one per available CPU core, at most 8.

    Training on the "cpu" needs the cores itself: then it is one per eight cores, at least one. Processes that torchrun
    started on this machine divide its cores.

    Args:
        training_device: Type of the device that trains meanwhile, if any.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(8, cores // 8 if training_device == "cpu" else cores))


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Return the instruction sets listed in /proc/cpuinfo; empty on systems without this file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def _has_mps() -> bool:
    return bool(getattr(torch.backends, "mps", None)) and torch.backends.mps.is_available()


def fastest_layout(
    model: nn.Module,
    device: torch.device,
    image_shape: tuple[int, int, int] = (3, 64, 64),
    blocks: Iterable[nn.Module] | None = None,
    training: bool = False,
    explain: Explain | None = None,
) -> torch.memory_format:
    """Bring `model` into the memory format in which it runs fastest: channels last (25 % faster on a CPU).

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
