"""What a student learns from a teacher beside its labels: maps, scores, sides and boxes. All losses are float32 and 0
where both agree."""

import torch
from graftdet.models.losses.iou import giou

EPS = 1e-6


def map_loss(student, teacher):
    """Maps (B, c, H, W), a list with one a level each -> a scalar, 0 to 2: 1 minus the correlation of matching channels.

    Each channel is brought to mean 0 and variance 1 over pictures and cells, so that neither its scale nor its offset
    counts; half the mean squared difference of two such channels is 1 minus their Pearson correlation (Cao et al., PKD,
    2022, section 3.2). The mean over levels, where the paper sums.
    """
    losses = [(_normalised(s) - _normalised(t)).square().mean() / 2 for s, t in zip(student, teacher, strict=True)]
    return torch.stack(losses).mean()


def _normalised(x):
    x = x.float()
    x = x - x.mean((0, 2, 3), keepdim=True)
    return x / (x.square().mean((0, 2, 3), keepdim=True) + EPS).sqrt()


def score_loss(student, teacher):
    """Scores 0..1 (B, N, nc) of both -> a scalar: the divergence of each score from the teacher's as a share of "yes",
    over all cells, per unit of the teacher's best score of each (as quality focal losses are per unit of quality: Feng et
    al., TOOD, 2021, section 3.3)."""
    s, t = student.float().clamp(EPS, 1 - EPS), teacher.float().clamp(EPS, 1 - EPS)
    divergence = t * (t / s).log() + (1 - t) * ((1 - t) / (1 - s)).log()
    return divergence.sum() / t.amax(-1).sum().clamp(min=1)


def side_loss(student, teacher, weights, bins: int, temperature: float = 10.0):
    """Side logits (B, N, 4 * bins) of both and weights (B, N) -> a scalar: the divergence of the distributions, softened
    by the temperature, that sides are told by (Zheng et al., Localization Distillation, 2022, section 3.1)."""
    s, t = (x.float().unflatten(-1, (4, bins)) / temperature for x in (student, teacher))  # (B, N, 4, bins)
    divergence = (t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1).mean(-1)  # (B, N)
    return temperature**2 * _weighted(divergence, weights)


def box_loss(student, teacher, weights):
    """Boxes (B, N, 4) xyxy pixels of both and weights (B, N) -> a scalar: 1 minus their generalised IoU."""
    return _weighted(1 - giou(student, teacher), weights)


def _weighted(values, weights):
    """The mean of values (B, N); where all weights together are below 1, less than that."""
    return (values * weights).sum() / weights.sum().clamp(min=1)
