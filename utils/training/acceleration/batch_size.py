"""The batch size that fits into the memory of a device."""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from graftdet.utils.errors import UserError

logger = logging.getLogger(__name__)
DEFAULT_BATCH_SIZE = 16
MEMORY_FRACTION = 0.8  # of the free memory of a device that a batch may need


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
    chosen, fraction = _fitting_batch(model, size, device)
    logger.info("--batch-size -1: %d, for %s of memory", chosen, fraction)
    return chosen


def exceeded_memory(model: nn.Module, batch_size: int, size: int, device: torch.device, processes: int) -> UserError:
    """The error for a batch that did not fit into the memory of a CUDA device; names the batch size that fits.

    Args:
        model: The model; unchanged.
        batch_size: Images per batch of all processes.
        size: Largest side of the images in pixels.
        device: The device.
        processes: Number of processes.
    """
    torch.cuda.empty_cache()
    fitting = min(_fitting_batch(model, size, device)[0] * processes, batch_size - 1)
    hint = f"--batch-size {fitting} fits" if fitting > 0 else "use a smaller --img or model"
    batch = f"--batch-size {batch_size}: images of {size} pixels"
    return UserError(f"{batch} do not fit into the memory of {device}; {hint}")


def _fitting_batch(model: nn.Module, size: int, device: torch.device) -> tuple[int, str]:
    """The largest batch of a process within `MEMORY_FRACTION` of the free memory, and that memory for messages."""
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
    budget = MEMORY_FRACTION * free
    return largest_batch(counts, peaks, budget), f"{budget / 1e9:.1f} of {total / 1e9:.1f} GB"


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
