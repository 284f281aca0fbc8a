"""Optimizer, learning rate schedule with warm-up, and gradient accumulation."""

import torch
from graftdet.utils.distributed import unwrap
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.hyperparameters import Hyperparameters, accumulation
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.muon import Muon
from graftdet.utils.training.schedule import Schedule
from torch import nn

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
        {
            "params": parameters,
            "name": group,
            "weight_decay": decay if group in ("weights", "matrices") else 0.0,
            "initial_lr": h.lr0,
        }
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
        waiting = (
            {n: p.grad for n, p in unwrap(self.model).named_parameters() if p.grad is not None} if self.pending else {}
        )
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
        for name, parameter in unwrap(self.model).named_parameters():
            if name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter.device, parameter.dtype).clone()
