"""Parts of the rows that exported files return.

Every constant has the rank and, but for the batch, the shape of the tensor it is combined with: once they are folded,
even OpenCV 4.5 computes such graphs correctly. Its readers up to 4.8 broadcast other constants wrongly, or not at all.
"""

from collections.abc import Iterable

import torch

from graftdet.models.losses.points import level_points

LEAST_OBJECTNESS = 1e-7  # so that no class is divided by zero


def cells_of_rows(
    sizes: Iterable[tuple[int, int]], strides: Iterable[float], like: torch.Tensor, offset: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cell of each row, for x and y.

    Args:
        sizes: (H, W) of each level.
        strides: pixels per cell of each level.
        like: a tensor of the device and type wanted.
        offset: position of the points within their cells, see `level_points`.

    Returns:
        Points of the cells in pixels and the strides, both (1, N, 2).
    """
    points, pixels = level_points(sizes, strides, like, offset)
    return points[None], pixels[None, :, None].repeat(1, 1, 2)


def mean_distances(logits: torch.Tensor, reg_max: int | None) -> torch.Tensor:
    """The distances of `expected_distances`, as one matrix product, which all readers compute correctly.

    Args:
        logits: (B, N, 4 * reg_max) of left, top, right, bottom.
        reg_max: number of distribution bins per distance; None: the outputs are the distances.

    Returns:
        (B, N, 4) in strides.
    """
    if reg_max is None:
        return logits
    probabilities = logits.reshape(logits.shape[0], -1, reg_max).softmax(-1)  # (B, 4 N, reg_max)
    bins = torch.arange(reg_max, device=logits.device).to(logits.dtype)[:, None]
    return (probabilities @ bins).reshape(logits.shape[0], -1, 4)


def rows_of_distances(points: torch.Tensor, distances: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Rows of boxes given by their distances from points.

    Args:
        points: (1, N, 2) in pixels.
        distances: (B, N, 4) ltrb in pixels.
        probabilities: (B, N, nc) of the classes.

    Returns:
        (B, N, 5 + nc), see `with_objectness`.
    """
    low, high = distances[..., :2], distances[..., 2:]
    boxes = torch.cat((points + (high - low) * 0.5, low + high), -1)
    return with_objectness(boxes, probabilities)


def with_objectness(boxes_cxcywh: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """Rows of a head without objectness.

    The objectness is the highest class probability, and the classes are divided by it: their products are unchanged,
    and programs that rank boxes by objectness alone rank them by score.

    Args:
        boxes_cxcywh: (B, N, 4) in pixels.
        probabilities: (B, N, nc) of the classes.

    Returns:
        (B, N, 5 + nc): cx, cy, w, h, objectness, classes.
    """
    objectness = probabilities.amax(-1, keepdim=True) + LEAST_OBJECTNESS  # OpenCV before 4.7 has no clamp
    return torch.cat((boxes_cxcywh, objectness, probabilities / objectness), -1)
