"""Anchor points of anchor-free heads: the centers of cells, and boxes as ltrb distances from them."""

from collections.abc import Iterable

import torch


def flatten_levels(raw: list[torch.Tensor], box_channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Flatten raw outputs, level after level, row after row.

    Args:
        raw: (B, box_channels + nc, H, W) tensors, one per level.
        box_channels: number of leading channels for the box.

    Returns:
        Box outputs (B, N, box_channels) and class outputs (B, N, nc).
    """
    rows = torch.cat([y.permute(0, 2, 3, 1).flatten(1, 2) for y in raw], 1)  # (B, N, box_channels + nc)
    return rows[..., :box_channels], rows[..., box_channels:]


def level_points(
    sizes: Iterable[tuple[int, int]], strides: Iterable[float], like: torch.Tensor, offset: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the points of all cells.

    Args:
        sizes: (H, W) of each level.
        strides: pixels per cell of each level.
        like: a tensor of the device and type wanted.
        offset: position of the point within its cell, in strides: 0.5 is the center, 0 the upper left corner.

    Returns:
        Points (N, 2) x, y in pixels, and the stride of each, (N,).
    """
    points, stride_of_points = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = (torch.arange(height, device=like.device).to(like.dtype) + offset) * stride
        x = (torch.arange(width, device=like.device).to(like.dtype) + offset) * stride
        points.append(torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1).reshape(-1, 2))
        stride_of_points.append(torch.full_like(points[-1][:, 0], stride))
    return torch.cat(points), torch.cat(stride_of_points)


def distances_to_boxes(points: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """Points (N, 2) and ltrb distances (..., N, 4), in one unit -> boxes (..., N, 4) xyxy in that unit."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)


def boxes_to_distances(points: torch.Tensor, boxes_xyxy: torch.Tensor, reg_max: int) -> torch.Tensor:
    """Points (..., 2) and boxes (..., 4) xyxy, in strides -> ltrb distances (..., 4), clamped to those that `reg_max`
    bins can represent.
    """
    distances = torch.cat((points - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points), -1)
    return distances.clamp(0, reg_max - 1 - 0.01)
