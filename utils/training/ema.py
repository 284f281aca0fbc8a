"""Exponential moving average of a model's weights, the copy that is validated and kept.

Averaging the weights along the way to the minimum generalises better than the last ones (Polyak and Juditsky, 1992;
Tarvainen and Valpola, "Mean teachers are better role models", 2017, section 2).
"""

import copy
import math

import torch
from graftdet.utils.distributed import bare
from torch import nn


class ModelEMA:
    """`ema.model` is a copy of `model` in eval mode whose floating-point state follows at each `update`.

    After u updates the decay is decay * (1 - exp(-u / tau)): early on the average follows quickly. With a `share` it is
    1 - 1 / (1 + share * u), at most `decay`: the average spans about that share of all updates so far, however long the
    run is (Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013, section 4).
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0, share: float = 0.0):
        self.model = copy.deepcopy(bare(model)).eval().requires_grad_(False)
        self.decay, self.tau, self.updates, self.share = decay, tau, 0, share

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model` (weights and the statistics of its norms); whole numbers are copied."""
        self.updates += 1
        if self.share:
            decay = min(1 - 1 / (1 + self.share * self.updates), self.decay)
        else:
            decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        current = bare(model).state_dict()
        averages, towards = [], []
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                towards.append(current[name].to(average.dtype))
            else:
                average.copy_(current[name])
        torch._foreach_lerp_(averages, towards, 1 - decay)

    def state_dict(self) -> dict:
        """The averaged weights by name. `updates` is kept apart."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict, updates: int) -> None:
        """Restore averaged weights and the number of updates behind them."""
        self.model.load_state_dict(state)
        self.updates = updates
