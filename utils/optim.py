"""Optimizer, learning rate schedule with warm-up, and gradient accumulation."""

import math

import torch
from torch import nn

from .distributed import bare
from .ema import ModelEMA
from .errors import UserError, did_you_mean
from .hyperparameters import Hyperparameters, accumulation
from .muon import Muon

OPTIMIZERS = ("SGD", "Adam", "AdamW", "Muon")
_MIXING = (nn.modules.conv._ConvNd, nn.Linear)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def parameter_groups(model: nn.Module, matrices: bool = False) -> dict[str, list[nn.Parameter]]:
    """Sort the trainable parameters of `model` into 'biases', 'weights' (the only ones to decay) and 'norms'.

    'norms' are the scales of normalisation layers and all other parameters of one dimension or none, (1, c, 1, 1) among
    them outside convolutions and linear layers. With `matrices` the weights that mix channels are a group of their own,
    less those of outputs, which have a bias.
    """
    groups = {"biases": [], "weights": [], "norms": []} | ({"matrices": []} if matrices else {})
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if name.endswith("bias"):
                groups["biases"].append(parameter)
            elif isinstance(module, _NORMS) or _is_vector(module, parameter):
                groups["norms"].append(parameter)
            elif matrices and _is_matrix(module, parameter):
                groups["matrices"].append(parameter)
            else:
                groups["weights"].append(parameter)
    return groups


def _is_vector(module: nn.Module, parameter: nn.Parameter) -> bool:
    return parameter.ndim < 2 or (not isinstance(module, _MIXING) and max(parameter.shape) == parameter.numel())


def _is_matrix(module: nn.Module, parameter: nn.Parameter) -> bool:
    if not isinstance(module, _MIXING) or module.bias is not None:
        return False  # an embedding or the kernels of several experts are no map from channels to channels
    return min(parameter.shape[0], parameter[0].numel()) > 1 and parameter.shape[1] > 1


def make_optimizer(
    model: nn.Module, name: str, hyperparameters: Hyperparameters, batch_size: int
) -> torch.optim.Optimizer:
    """Return the optimizer called `name` (SGD with Nesterov momentum, Adam, AdamW, Muon) over the groups of `parameter_groups`.

    Weight decay grows with the number of pictures a step: x batch_size * accumulation / nominal_batch.
    Raises `UserError` for an unknown name, and when nothing is left to train.
    """
    by_lower = {known.lower(): known for known in OPTIMIZERS}
    if name.lower() not in by_lower:
        raise UserError(f"--optimizer {name}: expected one of {', '.join(OPTIMIZERS)}{did_you_mean(name, OPTIMIZERS)}")
    h = hyperparameters
    pictures = batch_size * accumulation(batch_size, h.nominal_batch)
    decay = h.weight_decay * pictures / (h.nominal_batch or pictures)
    groups = [
        {"params": parameters, "name": group, "weight_decay": decay if group in ("weights", "matrices") else 0.0, "initial_lr": h.lr0}
        for group, parameters in parameter_groups(model, matrices=name.lower() == "muon").items()
        if parameters
    ]
    if not groups:
        raise UserError("nothing to train: every row of the model is frozen")
    if by_lower[name.lower()] == "SGD":
        return torch.optim.SGD(groups, lr=h.lr0, momentum=h.momentum, nesterov=h.momentum > 0)
    if by_lower[name.lower()] == "Muon":
        groups = [{**group, "orthogonal": group["name"] == "matrices"} for group in groups]
        return Muon(groups, lr=h.lr0, betas=(h.momentum, 0.999))
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[by_lower[name.lower()]]
    return kind(groups, lr=h.lr0, betas=(h.momentum, 0.999))


class Schedule:
    """Learning rate, momentum and accumulation as functions of the batch's number: nothing to save, nothing to resume.

    The rate falls from lr0 to lr0 * lrf along a line or a cosine, or along a cosine in the second half of the run
    ("flat_cosine", Lyu et al., RTMDet, 2022, section 4.1): a step an epoch or a batch, as `rate_steps` says. In the
    warm-up it is interpolated batch by batch: biases of SGD from warmup_bias_lr, all others from 0; momentum from
    warmup_momentum; accumulation from 1.
    """

    def __init__(self, hyperparameters: Hyperparameters, epochs: int, batches: int, batch_size: int):
        self.h, self.batches, self.iterations, self.batch_size = hyperparameters, batches, epochs * batches, batch_size
        h = hyperparameters
        self.warmup = max(round(h.warmup_epochs * batches), h.warmup_iterations) if h.warmup_epochs > 0 else -1

    def factor(self, iteration: int) -> float:
        """The learning rate of batch `iteration` (from 0, over all epochs) as a share of lr0."""
        if self.h.rate_steps == "epoch":
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


class Stepper:
    """From losses to new weights: scaled backward, accumulation, clipping, optimizer step, weight average.

    Gradients left over at the end of an epoch count in the next one, so the state holds them too.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        ema: ModelEMA,
        clip_norm: float = 10.0,
        scaler: torch.amp.GradScaler | None = None,
    ):
        self.model, self.optimizer, self.schedule, self.ema, self.clip_norm = model, optimizer, schedule, ema, clip_norm
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.pending = 0  # batches whose gradients wait for the next step

    def begin(self, iteration: int) -> None:
        """Set the rates for batch `iteration`, counted over all epochs from 0."""
        self._every = self.schedule.apply(self.optimizer, iteration)

    def backward(self, loss: torch.Tensor) -> bool:
        """Add the gradients of `loss` (a sum over pictures); take a step when enough batches are in. True if it did."""
        self.scaler.scale(loss).backward()
        self.pending += 1
        if self.pending < self._every:
            return False
        self.scaler.unscale_(self.optimizer)
        if self.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.pending = 0
        self.ema.update(self.model)
        return True

    @property
    def learning_rate(self) -> float:
        """The rate of the weights in use now."""
        groups = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
        return groups.get("weights", next(iter(groups.values())))

    def state_dict(self) -> dict:
        """Plain data: optimizer, scaler, number of waiting batches and their gradients by parameter name."""
        waiting = {n: p.grad for n, p in bare(self.model).named_parameters() if p.grad is not None} if self.pending else {}
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "pending": self.pending,
            "gradients": waiting,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` gave, for the same model."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.pending = state["pending"]
        for name, parameter in bare(self.model).named_parameters():
            if name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter.device, parameter.dtype).clone()


def _between(start: float, end: float, share: float) -> float:
    return start * (1 - share) + end * share
