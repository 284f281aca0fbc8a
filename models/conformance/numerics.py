"""Run a block in a conformance check, and compare its outputs."""

import contextlib
import math
import random
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import nn

from graftdet.utils.errors import first_line

Maps = torch.Tensor | list[torch.Tensor]
"""Input of a block: a map (B, C, H, W), or a list of maps for a block that joins rows."""


def seed_all(seed: int) -> None:
    """Seed every random generator that a block may use."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class CheckFailed(Exception):
    """The reason why a block does not pass a check."""


def run_block(block: nn.Module, maps: Maps, seed: int = 0) -> list[torch.Tensor]:
    """Run a block in its current mode, with seeded random generators.

    Returns:
        Its output maps as a list.

    Raises:
        CheckFailed: If an output is not a map (B, C, H, W) with the batch size of the input.
    """
    seed_all(seed)
    output = block(maps)
    output = list(output) if isinstance(output, (list, tuple)) else [output]
    batch = (maps[0] if isinstance(maps, list) else maps).shape[0]
    for item in output:
        if not isinstance(item, torch.Tensor) or item.ndim != 4 or item.shape[0] != batch or not item.numel():
            got = f"shape {tuple(item.shape)}" if isinstance(item, torch.Tensor) else type(item).__name__
            raise CheckFailed(f"returns {got} for a batch of {batch}, expected a map (B, C, H, W)")
    return output


def run_eval(block: nn.Module, maps: Maps, seed: int = 0) -> list[torch.Tensor]:
    """`run_block` in eval mode, without gradients."""
    with torch.no_grad():
        return run_block(block.eval(), maps, seed)


def map_each(maps: Maps, function: Callable[[torch.Tensor], torch.Tensor]) -> Maps:
    """Apply `function` to a map, or to each of a list of maps."""
    return [function(m) for m in maps] if isinstance(maps, list) else function(maps)


def require_equal(outputs: list[torch.Tensor], expected: list[torch.Tensor], what: str, tolerance: float = 0.0) -> None:
    """Compare output maps.

    Args:
        outputs: Maps of the block.
        expected: Maps that they must be equal to.
        what: Where the outputs come from, for the message.
        tolerance: Allowed difference, relative to the largest expected value.

    Raises:
        CheckFailed: If shapes differ, or values by more than `tolerance`.
    """
    shapes, expected_shapes = ([tuple(t.shape) for t in tensors] for tensors in (outputs, expected))
    if shapes != expected_shapes:
        raise CheckFailed(f"{what}: returns {shapes}, expected {expected_shapes}")
    difference = _difference(outputs, expected)
    if not difference <= tolerance:
        allowed = f", allowed is {tolerance:.0e}" if tolerance else ""
        raise CheckFailed(f"{what}: differs by {difference:.1e} of the largest value{allowed}")


def _difference(outputs: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference relative to the largest expected value; infinite if an output is not finite."""
    largest = 0.0
    for a, b in zip(outputs, expected, strict=True):
        if not torch.isfinite(a).all():
            return math.inf
        largest = max(largest, float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-6)))
    return largest


def require_finite(tensors: Iterable[torch.Tensor], what: str) -> None:
    """Raise `CheckFailed` if a value is infinite or NaN."""
    if not all(torch.isfinite(t).all() for t in tensors):
        raise CheckFailed(f"{what}: returns values that are not finite")


@contextlib.contextmanager
def failing_at(what: str) -> Iterator[None]:
    """Turn any error inside the block into a `CheckFailed` that starts with `what`."""
    try:
        yield
    except Exception as error:
        raise CheckFailed(f"{what}: {first_line(error)}") from error
