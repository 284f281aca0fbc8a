"""What lets dense outputs do without suppression: of neighbours that answer to one object only the best one is heard."""

import math

import torch
from torch.nn import functional as F

OWN = 5  # cells, the side of the window in which a cell competes on its own level
OTHER = 3  # and around its place on the other levels
LESS = 6.0  # what a cell that is beaten loses, in logits
CLOSE = 0.02  # logits: one that is beaten by less than about this loses less, so that rounding decides nothing


def dampen_neighbours(raw, sides: int, strides: list[float]):
    """Lower the class logits wherever a neighbour, on any level, has a greater one of the same class.

    Raw maps, a list of (B, sides + nc, H, W), to maps of the same shapes whose first `sides` channels are unchanged. A
    logit below the greatest of its neighbourhood by d loses LESS * (1 - exp(-d / CLOSE)); a peak keeps its own. The
    neighbourhoods are windows of OWN cells on the same level and of OTHER cells on the others. What is lost is constant
    to the gradient. (Zhou et al., Objects as Points, 2019, section 3, take peaks of 3x3 cells instead of suppressing;
    Wang et al., End-to-End Object Detection with Fully Convolutional Network, 2021, section 3.3, compete over levels.)
    """
    logits = [y[:, sides:] for y in raw]
    with torch.no_grad():
        losses = []
        for i, own in enumerate(logits):
            greatest = _greatest(own, OWN)
            for j, other in enumerate(logits):
                if j != i:
                    greatest = torch.maximum(greatest, _seen_from(other, strides[i] / strides[j], own))
            losses.append(LESS - LESS * ((own - greatest) / CLOSE).exp())
    return [torch.cat((y[:, :sides], z - loss), 1) for y, z, loss in zip(raw, logits, losses, strict=True)]


def _greatest(z, window: int):
    """The greatest value of the window around each cell, (B, nc, H, W)."""
    for kernel in ((window, 1), (1, window)):  # one side after the other: fewer comparisons
        z = F.max_pool2d(z, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
    return z


def _seen_from(other, ratio: float, own):
    """The greatest value of another level around each cell of `own`, whose stride is `ratio` times the other's."""
    if ratio <= 1:
        return F.interpolate(_greatest(other, OTHER), own.shape[-2:])
    cells = math.ceil(ratio)
    coarse = F.max_pool2d(other, cells, cells, ceil_mode=True)
    return _greatest(coarse if cells == ratio else F.interpolate(coarse, own.shape[-2:]), OTHER)
