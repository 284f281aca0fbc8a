"""What lets dense outputs do without suppression: of neighbours that answer to one object only the best one is heard."""

import functools
import math
from itertools import pairwise

import torch
from torch.nn import functional as F

WINDOW = 3  # cells, the side of the window in which a cell competes, on its own level and around its place on others
LESS = 4.0  # what a cell that is beaten loses, in logits
CLOSE = 0.02  # logits: one that is beaten by less loses less, so that rounding decides nothing


def dampen_neighbours(raw, sides: int, strides: list[float]):
    """Lower the class logits wherever a neighbour, on any level, has a greater one of the same class.

    Raw maps, a list of (B, sides + nc, H, W), to maps of the same shapes whose first `sides` channels are unchanged. A
    logit below the greatest of its neighbourhood by d loses LESS * min(d / CLOSE, 1); a peak keeps its own. The
    neighbourhoods are windows of WINDOW cells on the same level and, for another one, of the coarser of the two. What
    is lost is constant to the gradient. (Zhou et al., Objects as Points, 2019, section 3, take peaks of 3x3 cells
    instead of suppressing; Wang et al., End-to-End Object Detection with Fully Convolutional Network, 2021, section
    3.3, compete over levels.)
    """
    logits = [y[:, sides:] for y in raw]
    with torch.no_grad():
        windows = [_greatest(z) for z in logits]
        greatest = list(windows)
        from_fine = sorted(range(len(raw)), key=strides.__getitem__)
        finer = coarser = (
            None  # the greatest of all finer levels, and of windows of all coarser ones, on the grid of level b
        )
        for a, b in pairwise(from_fine):
            finer = _coarsened(
                logits[a] if finer is None else torch.maximum(finer, logits[a]), strides[b] / strides[a], logits[b]
            )
            greatest[b] = torch.maximum(greatest[b], _greatest(finer))
        for a, b in pairwise(reversed(from_fine)):
            coarser = windows[a] if coarser is None else torch.maximum(coarser, windows[a])
            coarser = F.interpolate(coarser, logits[b].shape[-2:])
            greatest[b] = torch.maximum(greatest[b], coarser)
        losses = [((most - z) * (LESS / CLOSE)).clamp(max=LESS) for most, z in zip(greatest, logits, strict=True)]
    return [torch.cat((y[:, :sides], z - loss), 1) for y, z, loss in zip(raw, logits, losses, strict=True)]


def _greatest(z):
    """The greatest value of the window around each cell, (B, nc, H, W)."""
    if torch.jit.is_tracing():  # for a runtime, whose pooling is fast
        return F.max_pool2d(z, WINDOW, 1, WINDOW // 2)
    # In torch, on a CPU, maps shifted against each other take a fiftieth of what pooling takes.
    z = F.pad(z, (WINDOW // 2,) * 4, value=-math.inf)
    for axis in (2, 3):
        size = z.shape[axis] - WINDOW + 1
        z = functools.reduce(torch.maximum, (z.narrow(axis, start, size) for start in range(WINDOW)))
    return z


def _coarsened(z, ratio: float, like):
    """The greatest value in each cell of a grid whose stride is `ratio` times that of `z`, of the size of `like`."""
    cells = math.ceil(ratio)
    z = F.max_pool2d(z, cells, cells, ceil_mode=True)
    return z if cells == ratio else F.interpolate(z, like.shape[-2:])
