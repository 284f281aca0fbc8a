"""Optimizers, parameter groups, and the step from losses to new weights."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from graftdet.utils.distributed import unwrap
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.hyperparameters import Hyperparameters, accumulation
from graftdet.utils.text import counted
from graftdet.utils.training.divergence.loss_meter import NonFiniteLoss
from graftdet.utils.training.divergence.step_guard import NonFiniteGradients, StepGuard
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.flags import OPTIMIZERS
from graftdet.utils.training.muon import Muon
from graftdet.utils.training.schedule import Schedule

logger = logging.getLogger(__name__)

MAX_LISTED = 3  # names that a message lists
_CHANNEL_MIXING = (nn.modules.conv._ConvNd, nn.Linear)
_NORMALIZATION = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def parameter_groups(model: nn.Module, matrices: bool = False) -> dict[str, list[nn.Parameter]]:
    """Sort the trainable parameters of `model` into "biases", "weights" (with weight decay) and "scales".

    "scales" are the scales of normalization layers and all other parameters with at most one dimension larger than 1,
    outside convolutions and linear layers. With `matrices`, weights that mix channels are a fourth group "matrices",
    except those of output layers, which have a bias.
    """
    groups = {"biases": [], "weights": [], "scales": []} | ({"matrices": []} if matrices else {})
    seen = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if name.endswith("bias"):
                groups["biases"].append(parameter)
            elif isinstance(module, _NORMALIZATION) or _is_vector(module, parameter):
                groups["scales"].append(parameter)
            elif matrices and _is_matrix(module, parameter):
                groups["matrices"].append(parameter)
            else:
                groups["weights"].append(parameter)
    return groups


def _is_vector(module: nn.Module, parameter: nn.Parameter) -> bool:
    return parameter.ndim < 2 or (not isinstance(module, _CHANNEL_MIXING) and max(parameter.shape) == parameter.numel())


def _is_matrix(module: nn.Module, parameter: nn.Parameter) -> bool:
    if not isinstance(module, _CHANNEL_MIXING) or module.bias is not None:
        return False  # e.g. an embedding or the kernels of several experts: not a map from channels to channels
    return min(parameter.shape[0], parameter[0].numel()) > 1 and parameter.shape[1] > 1


def make_optimizer(
    model: nn.Module,
    name: str,
    hyperparameters: Hyperparameters,
    batch_size: int,
    transferred: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Create an optimizer over the groups of `parameter_groups`, divided by learning rate.

    Weight decay is scaled with the number of images per step: x batch_size * accumulation / nominal_batch.

    Args:
        model: The model to train.
        name: SGD (with Nesterov momentum), Adam, AdamW or Muon, in any case.
        hyperparameters: The training recipe.
        batch_size: Images per batch, over all processes.
        transferred: Parameters that learn at `transferred_lr` times the rate of all others.

    Raises:
        UserError: If the name is unknown or no parameter is trainable.
    """
    by_lower = {known.lower(): known for known in OPTIMIZERS}
    if name.lower() not in by_lower:
        raise UserError(f"--optimizer {name}: expected one of {', '.join(OPTIMIZERS)}{did_you_mean(name, OPTIMIZERS)}")
    h = hyperparameters
    images = batch_size * accumulation(batch_size, h.nominal_batch)  # per step
    decay = h.weight_decay * images / (h.nominal_batch or images)
    slow = {id(parameter) for parameter in transferred} if h.transferred_lr != 1 else set()
    groups = [
        {
            "params": part,
            "name": group,
            "weight_decay": decay if group in ("weights", "matrices") else 0.0,
            "initial_lr": h.lr0 * factor,
        }
        for group, parameters in parameter_groups(model, matrices=name.lower() == "muon").items()
        for factor, is_slow in ((1.0, False), (h.transferred_lr, True))
        if (part := [parameter for parameter in parameters if (id(parameter) in slow) == is_slow])
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


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Names of the trainable parameters that received no gradient, in order; those of frozen rows are not counted.

    Args:
        model: The model after a backward pass, before its gradients are set to zero.
    """
    return [name for name, p in unwrap(model).named_parameters() if p.requires_grad and p.grad is None]


def warn_of_missing_gradients(model: nn.Module) -> None:
    """Log a warning that names the parameters without gradient and the rows that they belong to, if there are any."""
    names = parameters_without_gradient(model)
    if not names:
        return
    count = sum(parameter.requires_grad for parameter in unwrap(model).parameters())
    rows = sorted({int(parts[1]) for name in names if len(parts := name.split(".")) > 2 and parts[1].isdecimal()})
    where = f", in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}" if rows else ""
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    logger.warning(
        "%d of %s received no gradient in the first batch%s (%s); they are not trained: a block "
        "after them cuts the gradient (detach, no_grad, .data, argmax), or their own block does not use them; "
        "check blocks with `python -m models conform`",
        len(names),
        counted(count, "trainable parameter"),
        where,
        listed,
    )


class Stepper:
    """From losses to new weights: scaled backward, gradient accumulation, clipping, optimizer step, EMA.

    Gradients that are accumulated at the end of an epoch count in the next one, so they are part of the state.

    Args:
        model: The model to train, perhaps in a DistributedDataParallel wrapper.
        optimizer: Optimizer of its parameters.
        schedule: Sets the learning rate of each batch.
        ema: Updated after each step.
        clip_norm: Maximum norm of the gradient; 0: no clipping.
        scaler: Gradient scaler of mixed precision; None: no scaling.
        guard: What happens to steps that are not finite; None: they raise.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        ema: ModelEMA,
        clip_norm: float = 10.0,
        scaler: torch.amp.GradScaler | None = None,
        guard: StepGuard | None = None,
    ):
        self.model, self.optimizer, self.schedule, self.ema, self.clip_norm = model, optimizer, schedule, ema, clip_norm
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.guard = guard or StepGuard()
        self.pending = 0  # batches accumulated for the next step

    def begin(self, iteration: int) -> None:
        """Set learning rates and momentum for batch `iteration`, counted over all epochs from 0."""
        self._batches_per_step = self.schedule.apply(self.optimizer, iteration, self.guard.rate_factor)

    def backward(
        self,
        loss: torch.Tensor,
        on_gradients: Callable[[nn.Module], None] | None = None,
        describe: Callable[[str], str] = str,
    ) -> bool:
        """Accumulate the gradients of `loss` (a sum over images); after enough batches step and return True.

        Args:
            loss: The loss.
            on_gradients: Called with the model while it has the gradients.
            describe: Makes the message about the batch from what is not finite.

        Raises:
            NonFiniteGradients: If gradients are not finite and the guard checks them.
        """
        self.scaler.scale(loss).backward()
        if not self.scaler.is_enabled():  # else overflow is a matter of the scaler
            self.guard.check_gradients(self.model, describe)
        if on_gradients:
            on_gradients(self.model)
        self.pending += 1
        if self.pending < self._batches_per_step:
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

    def skip(self, error: NonFiniteLoss) -> None:
        """Skip the batch that raised `error`, as `StepGuard.skip`, which may raise it again."""
        self.guard.skip(error)
        if isinstance(error, NonFiniteGradients):  # they are part of the sum
            self.optimizer.zero_grad()
            self.pending = 0

    @property
    def learning_rate(self) -> float:
        """The current learning rate of the weights, the highest where they have several."""
        rates = {group["name"]: group["lr"] for group in reversed(self.optimizer.param_groups)}
        return rates.get("weights", self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Plain data: optimizer, scaler, guard, number of accumulated batches and their gradients by parameter name."""
        gradients = (
            {n: p.grad for n, p in unwrap(self.model).named_parameters() if p.grad is not None} if self.pending else {}
        )
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "pending": self.pending,
            "gradients": gradients,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, for the same model."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.guard.load_state_dict(state.get("guard", {}))
        self.pending = state["pending"]
        self.optimizer.zero_grad()
        for name, parameter in unwrap(self.model).named_parameters():
            if name in state["gradients"]:
                parameter.grad = state["gradients"][name].to(parameter.device, parameter.dtype).clone()
