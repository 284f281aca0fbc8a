"""Distillation losses: differences between student and teacher in maps, scores, distance distributions and boxes.

All are float32 scalars, 0 where both agree.
"""

import torch

from graftdet.models.losses.iou import giou

EPS = 1e-6


def map_loss(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """1 minus the Pearson correlation of matching channels (Cao et al., PKD, 2022, section 3.2).

    Each channel is standardized to mean 0 and variance 1 over images and cells, so that neither its scale nor its
    offset counts; half the mean squared difference of two such channels is 1 minus their correlation.

    Args:
        student: (B, c, H, W) maps, one per level.
        teacher: maps of the same shapes.

    Returns:
        A scalar, 0 to 2: the mean over levels, where the paper sums.
    """
    losses = [(_standardized(s) - _standardized(t)).square().mean() / 2 for s, t in zip(student, teacher, strict=True)]
    return torch.stack(losses).mean()


def _standardized(x):
    x = x.float()
    x = x - x.mean((0, 2, 3), keepdim=True)
    return x / (x.square().mean((0, 2, 3), keepdim=True) + EPS).sqrt()


def score_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the scores, each taken as the probability of a binary variable.

    The sum over all cells, per unit of the teacher's best score of each (as quality focal losses are per unit of
    quality: Feng et al., TOOD, 2021, section 3.3).

    Args:
        student: (B, N, nc) scores 0..1.
        teacher: (B, N, nc) scores 0..1.

    Returns:
        A scalar.
    """
    s, t = student.float().clamp(EPS, 1 - EPS), teacher.float().clamp(EPS, 1 - EPS)
    divergence = t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log()
    return divergence.sum() / t.amax(-1).sum().clamp(min=1)


def distribution_loss(
    student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor, reg_max: int, temperature: float = 10.0
) -> torch.Tensor:
    """Divergence of the distributions of ltrb distances (Zheng et al., Localization Distillation, 2022, section 3.1).

    Args:
        student: (B, N, 4 * reg_max) logits.
        teacher: (B, N, 4 * reg_max) logits.
        weights: (B, N) of the cells.
        reg_max: number of bins per distance.
        temperature: divides the logits of both, which softens the distributions.

    Returns:
        A scalar.
    """
    s, t = (x.float().unflatten(-1, (4, reg_max)) / temperature for x in (student, teacher))  # (B, N, 4, reg_max)
    divergence = (t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1).mean(-1)  # (B, N)
    return temperature**2 * _weighted_mean(divergence, weights)


def box_loss(student: torch.Tensor, teacher: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """1 minus the generalized IoU of boxes (B, N, 4) xyxy pixels, weighted by (B, N) -> a scalar."""
    return _weighted_mean(1 - giou(student, teacher), weights)


def _weighted_mean(values, weights):
    """The weighted mean of values (B, N); where the sum of all weights is below 1, their weighted sum."""
    return (values * weights).sum() / weights.sum().clamp(min=1)
