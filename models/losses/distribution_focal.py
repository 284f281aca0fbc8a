"""Box sides as distributions over whole numbers of strides (Li et al., Generalized Focal Loss, 2020, section 3.2)."""

import torch


def expected_distances(logits, bins: int):
    """Logits (..., 4 * bins) of left, top, right, bottom -> their means (..., 4) in strides, from 0 to bins - 1."""
    shares = logits.unflatten(-1, (4, bins)).softmax(-1)
    # the product of a matrix and a vector takes onnxruntime four times as long
    return (shares * torch.arange(bins, dtype=shares.dtype, device=shares.device)).sum(-1)


def distances_to_boxes(points, distances):
    """Points (N, 2) and distances (..., N, 4) to left, top, right, bottom, in one unit -> boxes (..., N, 4) xyxy."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)


def boxes_to_distances(points, boxes_xyxy, bins: int):
    """Points (..., 2) and boxes (..., 4) xyxy in strides -> distances (..., 4), within what `bins` can tell."""
    distances = torch.cat((points - boxes_xyxy[..., :2], boxes_xyxy[..., 2:] - points), -1)
    return distances.clamp(0, bins - 1 - 0.01)


def distribution_focal_loss(logits, distances, bins: int):
    """Logits (K, 4 * bins) and wanted distances (K, 4) in strides -> (K,), the mean over sides (equation 6).

    Cross entropy to the two whole numbers around the wanted one, weighted by closeness.
    """
    low = distances.floor()
    share = distances - low  # of the upper neighbour
    told = logits.float().unflatten(-1, (4, bins)).log_softmax(-1)  # (K, 4, bins)
    low = low.long()[..., None]
    below, above = told.gather(-1, low)[..., 0], told.gather(-1, low + 1)[..., 0]
    return -(below * (1 - share) + above * share).mean(-1)
