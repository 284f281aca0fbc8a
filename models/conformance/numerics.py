"""Running a block in a trial, and comparing what it gives."""

import contextlib
import math
import random

import numpy as np
import torch
from graftdet.utils.errors import first_line
from torch import nn


def seed_all(seed: int) -> None:
    """Seed every generator that a block's author may have used."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Failure(Exception):
    """Why a block does not pass a trial."""


def run_block(block: nn.Module, maps, seed: int = 0) -> list[torch.Tensor]:
    """The block's maps as a list, random numbers seeded. Raises `Failure` where they are no maps of the same batch."""
    seed_all(seed)
    output = block(maps)
    output = list(output) if isinstance(output, (list, tuple)) else [output]
    batch = (maps[0] if isinstance(maps, list) else maps).shape[0]
    for item in output:
        if not isinstance(item, torch.Tensor) or item.ndim != 4 or item.shape[0] != batch or not item.numel():
            what = f"shape {tuple(item.shape)}" if isinstance(item, torch.Tensor) else type(item).__name__
            raise Failure(f"gives {what} for a batch of {batch}, expected a map (B, C, H, W)")
    return output


def evaluated(block: nn.Module, maps, seed: int = 0) -> list[torch.Tensor]:
    """`run_block` in eval mode, without gradients."""
    with torch.no_grad():
        return run_block(block.eval(), maps, seed)


def change(maps, function):
    """`function` of a map, or of each of a list of them."""
    return [function(m) for m in maps] if isinstance(maps, list) else function(maps)


def _difference(found, expected) -> float:
    """The largest difference, relative to the largest number expected; infinite for other shapes or missing numbers."""
    worst = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or not torch.isfinite(a).all():
            return math.inf
        worst = max(worst, float((a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1e-6)))
    return worst


def must_agree(found, expected, what: str, tolerance: float = 0.0) -> None:
    """Raise `Failure` where shapes differ, or numbers by more than `tolerance` of the largest."""
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (found, expected)]
    if shapes[0] != shapes[1]:
        raise Failure(f"{what}: gives {shapes[0]}, expected {shapes[1]}")
    difference = _difference(found, expected)
    if not difference <= tolerance:
        raise Failure(
            f"{what}: differs by {difference:.1e} of the largest value"
            + (f", allowed is {tolerance:.0e}" if tolerance else "")
        )


def must_be_finite(tensors, what: str) -> None:
    """Raise `Failure` where a number is infinite or none."""
    if not all(torch.isfinite(t).all() for t in tensors):
        raise Failure(f"{what}: gives numbers that are not finite")


@contextlib.contextmanager
def telling(what: str):
    """Whatever goes wrong inside is told with `what` was tried."""
    try:
        yield
    except Exception as error:
        raise Failure(f"{what}: {first_line(error)}") from error
