"""TODO"""

import math

import torch
from graftdet.utils.hyperparameters import Hyperparameters, accumulation


class Schedule:
    """Learning rate, momentum and accumulation as functions of the batch's number: nothing to save, nothing to resume.

    The rate falls from lr0 to lr0 * lrf along a line or a cosine, or along a cosine in the second half of the run
    ("flat_cosine", Lyu et al., RTMDet, 2022, section 4.1): a step an epoch or a batch, as `lr_update` says. In the
    warm-up it is interpolated batch by batch: biases of SGD from warmup_bias_lr, all others from 0; momentum from
    warmup_momentum; accumulation from 1.
    """

    def __init__(self, hyperparameters: Hyperparameters, epochs: int, batches: int, batch_size: int):
        self.h, self.batches, self.iterations, self.batch_size = hyperparameters, batches, epochs * batches, batch_size
        h = hyperparameters
        self.warmup = max(round(h.warmup_epochs * batches), h.warmup_iterations) if h.warmup_epochs > 0 else -1

    def factor(self, iteration: int) -> float:
        """The learning rate of batch `iteration` (from 0, over all epochs) as a share of lr0."""
        if self.h.lr_update == "epoch":
            iteration -= iteration % self.batches
        done = iteration / self.iterations
        if self.h.schedule == "flat_cosine":
            done = max(2 * done - 1, 0)
        fall = done if self.h.schedule == "linear" else (1 - math.cos(done * math.pi)) / 2
        return 1 - fall * (1 - self.h.lrf)

    def apply(self, optimizer: torch.optim.Optimizer, iteration: int) -> int:
        """Set rates and momentum for batch `iteration` (from 0, over all epochs); return how many batches make a step."""
        h, warm = self.h, min(iteration / self.warmup, 1.0) if self.warmup > 0 else 1.0
        for group in optimizer.param_groups:
            # a high first rate of the biases is for SGD: Adam's steps have the size of the rate itself
            start = h.warmup_bias_lr if group["name"] == "biases" and "momentum" in group else 0.0
            group["lr"] = _between(start, group["initial_lr"] * self.factor(iteration), warm)
            if "momentum" in group:
                group["momentum"] = _between(h.warmup_momentum, h.momentum, warm)
        if warm < 1:
            return max(round(_between(1, h.nominal_batch / self.batch_size, warm)), 1)
        return accumulation(self.batch_size, h.nominal_batch)


def _between(start: float, end: float, share: float) -> float:
    return start * (1 - share) + end * share
