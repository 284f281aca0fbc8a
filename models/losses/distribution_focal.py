"""Distances as distributions over whole numbers of strides (Li et al., Generalized Focal Loss, 2020, section 3.2)."""

import torch


def expected_distances(logits: torch.Tensor, reg_max: int | None) -> torch.Tensor:
    """Logits (..., 4 * reg_max) of left, top, right, bottom -> means (..., 4) in strides, from 0 to reg_max - 1.

    Without distributions (`reg_max` None) the outputs (..., 4) are the distances themselves.
    """
    if reg_max is None:
        return logits
    probabilities = logits.unflatten(-1, (4, reg_max)).softmax(-1)
    # the product of a matrix and a vector takes onnxruntime four times as long
    bins = torch.arange(reg_max, dtype=probabilities.dtype, device=probabilities.device)
    return (probabilities * bins).sum(-1)


def distribution_focal_loss(logits: torch.Tensor, distances: torch.Tensor, reg_max: int) -> torch.Tensor:
    """Distribution focal loss (equation 6): cross entropy to the two bins around the target, weighted by closeness.

    Args:
        logits: (K, 4 * reg_max).
        distances: (K, 4) target ltrb distances in strides, each from 0 to below reg_max - 1.
        reg_max: number of bins per distance.

    Returns:
        (K,), the mean over the four distances.
    """
    low = distances.floor()
    fraction = distances - low  # the weight of the upper bin
    log_probabilities = logits.float().unflatten(-1, (4, reg_max)).log_softmax(-1)  # (K, 4, reg_max)
    low = low.long()[..., None]
    below, above = log_probabilities.gather(-1, low)[..., 0], log_probabilities.gather(-1, low + 1)[..., 0]
    return -(below * (1 - fraction) + above * fraction).mean(-1)
