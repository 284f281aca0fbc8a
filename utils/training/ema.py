"""Averages of a model's weights: the exponential moving average (EMA), which is validated and saved, and over epochs.

Averaging the weights along the trajectory generalizes better than the final weights (Polyak and Juditsky, 1992;
Tarvainen and Valpola, "Mean teachers are better role models", 2017, section 2).
"""

import copy
import math
from typing import Any

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
        self._source: nn.Module | None = None  # the model that `_owners` refers to
        self._owners: list[tuple[dict, dict, str]] = []  # dictionaries of modules that hold a tensor, and its name

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards `model` (weights and batch norm statistics); integers are copied."""
        self.updates += 1
        if self.fraction:
            decay = min(1 - 1 / (1 + self.fraction * self.updates), self.decay)
        else:
            decay = self.decay * (1 - math.exp(-self.updates / self.tau))
        averages, targets = [], []
        for average, current in self._pairs(unwrap(model)):
            if average.is_floating_point():
                averages.append(average)
                targets.append(current.to(average.dtype))
            else:
                average.copy_(current)
        torch._foreach_lerp_(averages, targets, 1 - decay)

    def _pairs(self, model: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The tensors of the state: (average, that of `model`); weights that several layers share occur once.

        Two state dicts would take 3 ms per step.
        """
        if self._source is not model:
            self._source, self._owners = model, []
            for prefix, module in self.model.named_modules():
                for kind in ("_parameters", "_buffers"):
                    own = getattr(module, kind)
                    saved = [key for key in own if key not in module._non_persistent_buffers_set]
                    if saved:  # a model in training may lack other modules
                        current = getattr(model.get_submodule(prefix), kind)
                        self._owners += [(own, current, key) for key in saved if own[key] is not None]
        found = ((own[key], current[key]) for own, current, key in self._owners)
        return list({pair[0].data_ptr(): pair for pair in found}.values())

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name. `updates` is saved separately."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor], updates: int) -> None:
        """Restore averaged weights and the number of updates behind them."""
        self.model.load_state_dict(state)
        self.updates = updates


class EpochAverage:
    """Average of the weights of the consecutive epochs whose mean fitness is the highest (stochastic weight averaging).

    The single best epoch of a small validation split is partly luck, and after it training may overfit; the mean over
    several epochs is higher by a flat maximum only (Izmailov et al., Averaging Weights Leads to Wider Optima and Better
    Generalization, 2018, section 3). Running statistics of batch norms are averaged as the weights are: what is
    averaged are EMA weights, whose statistics are averages, too, so that they are not computed again.

    Args:
        span: number of epochs; 0: nothing is averaged.

    Attributes:
        best: the averaged weights by name, None before the first `span` epochs.
        fitness: mean fitness of their epochs.
        epochs: first and last of them.
    """

    def __init__(self, span: int):
        self.span = span
        self.best: dict[str, torch.Tensor] | None = None
        self.fitness, self.epochs = -1.0, (0, 0)
        self._recent: list[tuple[int, float, dict[str, torch.Tensor]]] = []

    def update(self, epoch: int, fitness: float, weights: dict[str, torch.Tensor]) -> None:
        """Add the weights of an epoch; the average changes where the last `span` epochs are the best so far."""
        if not self.span:
            return
        copied = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        self._recent = [*self._recent, (epoch, fitness, copied)][-self.span :]
        mean = sum(fitness for _, fitness, _ in self._recent) / self.span
        if len(self._recent) == self.span and mean > self.fitness:
            states = [state for _, _, state in self._recent]
            self.best = {name: _mean([state[name] for state in states]) for name in copied}
            self.fitness, self.epochs = mean, (self._recent[0][0], epoch)

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint: the average, and the weights of the last epochs."""
        return {"best": self.best, "fitness": self.fitness, "epochs": self.epochs, "recent": self._recent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.best, self.fitness = state["best"], state["fitness"]
        self.epochs, self._recent = tuple(state["epochs"]), [tuple(entry) for entry in state["recent"]]


def _mean(tensors: list[torch.Tensor]) -> torch.Tensor:
    """The mean of tensors; the last one where they are no floating-point numbers."""
    return torch.stack(tensors).mean(0) if tensors[0].is_floating_point() else tensors[-1]
