"""Class losses for targets that are qualities (IoU), not just 0 or 1.

All take logits and targets (..., nc), compute in float32 and return (..., nc), unreduced.
"""

import torch
import torch.nn.functional as F

from graftdet.utils.registry import Registry

CLASS_LOSSES = Registry("class loss")
"""name -> function of logits (..., nc) and qualities (..., nc) in 0..1, 0 where an example is negative -> (..., nc)."""


@CLASS_LOSSES.register("bce")
def binary_cross_entropy(logits: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Cross entropy with soft targets; easy and hard examples have the same weight."""
    return F.binary_cross_entropy_with_logits(logits.float(), quality.float(), reduction="none")


@CLASS_LOSSES.register("varifocal")
def varifocal(logits: torch.Tensor, quality: torch.Tensor, alpha: float = 0.75, gamma: float = 2.0) -> torch.Tensor:
    """Positives weighted by their quality, negatives by alpha p^gamma (Zhang et al., VarifocalNet, 2021, eq. 2)."""
    logits, quality = logits.float(), quality.float()
    weight = torch.where(quality > 0, quality, alpha * logits.sigmoid() ** gamma)
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * weight


@CLASS_LOSSES.register("quality_focal")
def quality_focal(logits: torch.Tensor, quality: torch.Tensor, beta: float = 2.0) -> torch.Tensor:
    """Cross entropy weighted by |quality - p|^beta (Li et al., Generalized Focal Loss, 2020, equation 5; Feng et al.,
    TOOD, 2021, equation 5, has the same form).
    """
    logits, quality = logits.float(), quality.float()
    weight = (quality - logits.sigmoid()).abs() ** beta
    return F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * weight
