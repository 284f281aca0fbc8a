"""Faster training steps on the device in use, with the same results."""

import copy
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from graftdet.utils.device import Explain, cpu_flags, fastest_layout
from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)
DEFAULT_BATCH_SIZE = 16
MEMORY_FRACTION = 0.8  # of the free memory of a device that a batch may need
_SMOOTH_ACTIVATIONS = (nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid)


def prepare_for_training(
    model: nn.Module,
    device: torch.device,
    image_shape: tuple[int, int, int] = (3, 64, 64),
    blocks: Iterable[nn.Module] | None = None,
    explain: Explain | None = None,
) -> torch.memory_format:
    """Bring `model` into the form in which it trains fastest.

    Args:
        model: The model, changed in place.
        device: The device that it is on.
        image_shape: Shape (C, H, W) of the training images.
        blocks: Its parts that may need contiguous memory; None: its children.
        explain: Makes the error for a block that cannot be trained.

    Returns:
        The memory format for its input images.

    Raises:
        Exception: What a block raises in training, or what `explain` makes of it.
    """
    disable_inplace_activations(model)
    return fastest_layout(model, device, image_shape, blocks, training=True, explain=explain)


def compile_model(model: nn.Module, enabled: bool, device: torch.device) -> nn.Module:
    """Let torch compile `model`, in place, at its first call (takes minutes per image size).

    Names, weights and copies of the model do not change.

    Raises:
        UserError: If torch has no compiler to generate code with.
    """
    if enabled:
        if device.type == "cuda" and importlib.util.find_spec("triton") is None:
            raise UserError("--compile: needs the package triton on CUDA devices; train without it")
        if device.type != "cuda" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
            raise UserError(
                "--compile: needs a C++ compiler, and neither g++ nor clang++ is installed; train without it"
            )
        model.compile(dynamic=False)
    return model


def mixed_precision(choice: str, device: torch.device) -> tuple[torch.dtype | None, torch.amp.GradScaler | None]:
    """Choose the precision of training.

    Args:
        choice: "on", "off" or "auto": float16 on CUDA, bfloat16 on CPUs with matrix units for it (AMX). On older CPUs
            with vector instructions for it (AVX512-BF16) bfloat16 is slower than float32.
        device: The device to train on.

    Returns:
        The type for autocast (None: float32 everywhere) and the gradient scaler that it needs, if any.
    """
    if choice == "off":
        return None, None
    if device.type == "cuda":
        return torch.float16, torch.amp.GradScaler("cuda")
    if choice == "on":
        return (torch.bfloat16 if device.type == "cpu" else torch.float16), None
    return (torch.bfloat16 if device.type == "cpu" and "amx_bf16" in cpu_flags() else None), None


def disable_inplace_activations(model: nn.Module) -> None:
    """Let smooth activations allocate their output: their gradient needs the input, which autograd otherwise copies
    (8 % of a training step on a CPU, and no memory is saved).
    """
    for module in model.modules():
        if isinstance(module, _SMOOTH_ACTIVATIONS):
            module.inplace = False


def automatic_batch_size(model: nn.Module, size: int, device: torch.device) -> int:
    """Choose a batch size by the memory of the device.

    Trains on batches of 1 to 16 images without targets, measures the memory, and extrapolates it to `MEMORY_FRACTION`
    of what is free.

    Args:
        model: The model; unchanged.
        size: Side of the images in pixels.
        device: The device to train on.

    Returns:
        Images per batch of this process, a multiple of 8 from 8 on; `DEFAULT_BATCH_SIZE` on devices other than CUDA.
    """
    if device.type != "cuda":
        logger.info("--batch-size -1: %d, as there is no CUDA device", DEFAULT_BATCH_SIZE)
        return DEFAULT_BATCH_SIZE
    free, total = torch.cuda.mem_get_info(device)
    probe = copy.deepcopy(model).to(device).train()
    counts, peaks = [], []
    try:
        for count in (1, 2, 4, 8, 16):
            peaks.append(_training_memory(probe, count, size, device))
            counts.append(count)
    except torch.cuda.OutOfMemoryError:
        pass
    del probe
    torch.cuda.empty_cache()
    chosen = largest_batch(counts, peaks, MEMORY_FRACTION * free)
    logger.info("--batch-size -1: %d, for %.1f of %.1f GB of memory", chosen, MEMORY_FRACTION * free / 1e9, total / 1e9)
    return chosen


def largest_batch(counts: Sequence[int], peaks: Sequence[float], budget: float) -> int:
    """The largest batch whose memory, a linear function of the number of images, is within a budget.

    Args:
        counts: Numbers of images.
        peaks: Memory [bytes] that each needed.
        budget: Memory [bytes] that a batch may need.
    """
    if len(counts) < 2:
        return 1
    slope, offset = np.polyfit(counts, peaks, 1)
    largest = int((budget - offset) / slope) if slope > 1e3 else counts[-1]  # bytes per image
    return max(largest // 8 * 8 if largest >= 8 else largest, 1)


def _training_memory(model: Any, count: int, size: int, device: torch.device) -> int:
    """Bytes that a forward and backward pass on `count` images needs."""
    torch.cuda.reset_peak_memory_stats(device)
    with torch.autocast("cuda", torch.float16):
        outputs = model.raw_outputs(torch.zeros(count, model.channels, size, size, device=device))
    means = [tensor.float().mean() for tensor in _tensors(outputs) if tensor.requires_grad]
    torch.stack(means).sum().backward()
    model.zero_grad(set_to_none=True)
    return torch.cuda.max_memory_allocated(device)


def _tensors(value: object) -> list[torch.Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in _tensors(item)]
