"""Learning rate schedule with warm-up."""

import math

import torch

from graftdet.utils.hyperparameters import Hyperparameters, accumulation


class Schedule:
    """Learning rate, momentum and gradient accumulation as functions of the batch number; has no state to save.

    The learning rate decays from lr0 to lr0 * lrf: linearly, along a cosine, or along a cosine in the second half of
    the run ("flat_cosine", Lyu et al., RTMDet, 2022, section 4.1), updated per epoch or per batch (`lr_update`). In the
    warm-up all values are interpolated per batch: the learning rate of biases from warmup_bias_lr (SGD only), all
    others from 0; momentum from warmup_momentum; accumulation from 1.

    Args:
        hyperparameters: Values of this run (`Hyperparameters.for_run`).
        epochs: Length of the run.
        batches: Batches per epoch.
        batch_size: Images per batch, over all processes.
    """

    def __init__(self, hyperparameters: Hyperparameters, epochs: int, batches: int, batch_size: int):
        self.h, self.batches, self.iterations, self.batch_size = hyperparameters, batches, epochs * batches, batch_size
        h = hyperparameters
        self.warmup = max(round(h.warmup_epochs * batches), h.warmup_iterations) if h.warmup_epochs > 0 else -1

    def factor(self, iteration: int) -> float:
        """Return the learning rate of batch `iteration` (from 0, over all epochs) as a fraction of lr0."""
        if self.h.lr_update == "epoch":
            iteration -= iteration % self.batches
        progress = iteration / self.iterations
        if self.h.schedule == "flat_cosine":
            progress = max(2 * progress - 1, 0)
        decay = progress if self.h.schedule == "linear" else (1 - math.cos(progress * math.pi)) / 2
        return 1 - decay * (1 - self.h.lrf)

    def apply(self, optimizer: torch.optim.Optimizer, iteration: int, rate_factor: float = 1.0) -> int:
        """Set learning rates, times `rate_factor`, and momentum for batch `iteration`.

        Returns:
            The number of batches per optimizer step.
        """
        h, warm = self.h, min(iteration / self.warmup, 1.0) if self.warmup > 0 else 1.0
        for group in optimizer.param_groups:
            # the high initial learning rate of biases is for SGD: Adam's steps are as large as the learning rate itself
            start = h.warmup_bias_lr if group["name"] == "biases" and "momentum" in group else 0.0
            group["lr"] = _interpolate(start, group["initial_lr"] * self.factor(iteration), warm) * rate_factor
            if "momentum" in group:
                group["momentum"] = _interpolate(h.warmup_momentum, h.momentum, warm)
        if warm < 1:
            return max(round(_interpolate(1, h.nominal_batch / self.batch_size, warm)), 1)
        return accumulation(self.batch_size, h.nominal_batch)


def _interpolate(start: float, end: float, fraction: float) -> float:
    return start * (1 - fraction) + end * fraction
