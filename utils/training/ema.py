"""Exponential moving average (EMA) of a model's weights: the copy that is validated and saved.

Averaging the weights along the trajectory generalizes better than the final weights (Polyak and Juditsky, 1992;
Tarvainen and Valpola, "Mean teachers are better role models", 2017, section 2).
"""

import copy
import math

import torch
from torch import nn

from graftdet.utils.distributed import unwrap


class ModelEMA:
    """`ema.model` is a copy of `model` in eval mode whose floating-point state is averaged at each `update`.

    After u updates the decay is decay * (1 - exp(-u / tau)), so that the average follows quickly at first. With a
    `fraction` it is 1 - 1 / (1 + fraction * u), at most `decay`: the average spans about this fraction of all updates
    so far, however long the run is (Shamir and Zhang, "Stochastic Gradient Descent for Non-smooth Optimization", 2013,
    section 4).

    Args:
        model: the model to average; a DistributedDataParallel wrapper is removed.
        decay: limit of the decay.
        tau: time constant of its ramp-up [updates].
        fraction: fraction of the updates that the average spans; 0: ramp-up by `tau`.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, tau: float = 2000.0, fraction: float = 0.0):
        self.model = copy.deepcopy(unwrap(model)).eval().requires_grad_(False)
        self.decay, self.tau, self.updates, self.fraction = decay, tau, 0, fraction

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model` (weights and batch norm statistics); integers are copied."""
        self.updates += 1
        if self.fraction:
            decay = min(1 - 1 / (1 + self.fraction * self.updates), self.decay)
        else:
            decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        current = unwrap(model).state_dict()
        averages, targets = {}, {}  # by address: weights that several layers share move once
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                averages[average.data_ptr()] = average
                targets[average.data_ptr()] = current[name].to(average.dtype)
            else:
                average.copy_(current[name])
        torch._foreach_lerp_(list(averages.values()), list(targets.values()), 1 - decay)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name. `updates` is saved separately."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor], updates: int) -> None:
        """Restore averaged weights and the number of updates behind them."""
        self.model.load_state_dict(state)
        self.updates = updates
