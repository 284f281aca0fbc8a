"""Suppression of class logits that are no local maximum: dense outputs without NMS."""

import functools
import math
from itertools import pairwise

import torch
from torch.nn import functional as F

WINDOW = 3  # cells: side of the neighborhood of a cell, on its own level and around its position on others
PENALTY = 4.0  # logits that a suppressed cell loses
FULL_GAP = 0.02  # logits below the maximum from which on the penalty is full; below, rounding decides nothing


def suppress_non_maxima(raw: list[torch.Tensor], box_channels: int, strides: list[float]) -> list[torch.Tensor]:
    """Lower the class logits wherever a neighbor, on any level, has a greater one of the same class.

    A logit that is d below the maximum of its neighborhood loses PENALTY * min(d / FULL_GAP, 1); a local maximum is
    unchanged. Neighborhoods are windows of WINDOW cells on the same level and, for another one, of the coarser of the
    two. The penalty is constant to the gradient. (Zhou et al., Objects as Points, 2019, section 3, extract local maxima
    of 3x3 cells instead of NMS; Wang et al., End-to-End Object Detection with Fully Convolutional Network, 2021,
    section 3.3, filter maxima across levels.)

    Args:
        raw: (B, box_channels + nc, H, W) tensors, one per level.
        box_channels: number of leading channels that stay unchanged.
        strides: pixels per cell, one per level.

    Returns:
        Tensors of the same shapes.
    """
    logits = [y[:, box_channels:] for y in raw]
    with torch.no_grad():
        maxima = _maxima_across_levels(logits, strides)
        penalties = [
            PENALTY - F.relu(PENALTY - (most - z) * (PENALTY / FULL_GAP))  # a clamp that OpenCV before 4.7 has, too
            for most, z in zip(maxima, logits, strict=True)
        ]
    return [
        torch.cat((y[:, :box_channels], z - penalty), 1) for y, z, penalty in zip(raw, logits, penalties, strict=True)
    ]


def _maxima_across_levels(logits, strides):
    """The maximum of each cell's neighborhood on all levels: a list of (B, nc, H, W), one per level."""
    windows = [_window_maximum(z) for z in logits]
    maxima = list(windows)
    from_fine = sorted(range(len(logits)), key=strides.__getitem__)
    finer = coarser = None  # the maximum of all finer levels, and of the windows of all coarser ones, on the grid of b
    for a, b in pairwise(from_fine):
        finer = logits[a] if finer is None else torch.maximum(finer, logits[a])
        finer = _coarsened(finer, strides[b] / strides[a], logits[b])
        maxima[b] = torch.maximum(maxima[b], _window_maximum(finer))
    for a, b in pairwise(reversed(from_fine)):
        coarser = windows[a] if coarser is None else torch.maximum(coarser, windows[a])
        coarser = F.interpolate(coarser, logits[b].shape[-2:])
        maxima[b] = torch.maximum(maxima[b], coarser)
    return maxima


def _window_maximum(z):
    """The maximum of the window around each cell, (B, nc, H, W)."""
    if torch.jit.is_tracing():  # for exported files: runtimes have fast pooling
        return F.max_pool2d(z, WINDOW, 1, WINDOW // 2)
    # In torch, on a CPU, the maximum of shifted maps takes a fiftieth of the time of pooling.
    z = F.pad(z, (WINDOW // 2,) * 4, value=-math.inf)
    for axis in (2, 3):
        size = z.shape[axis] - WINDOW + 1
        z = functools.reduce(torch.maximum, (z.narrow(axis, start, size) for start in range(WINDOW)))
    return z


def _coarsened(z, ratio: float, like):
    """The maximum in each cell of a grid whose stride is `ratio` times that of `z`, of the size of `like`."""
    cells = math.ceil(ratio)
    z = F.max_pool2d(z, cells, cells, ceil_mode=True)
    return z if cells == ratio else F.interpolate(z, like.shape[-2:])
