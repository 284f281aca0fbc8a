"""What happens to a training step whose loss or gradients are not finite: `--on-nan`."""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from graftdet.utils.distributed import Ranks, unwrap
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted
from graftdet.utils.training.divergence.loss_meter import NonFiniteLoss
from graftdet.utils.training.flags import ON_NAN

logger = logging.getLogger(__name__)

MAX_SKIPS = 10  # consecutive batches that are skipped; one more ends the run
MAX_ROLLBACKS = 3  # of a run
RATE_FACTOR = 0.5  # of the learning rate, per rollback


class NonFiniteGradients(NonFiniteLoss):
    """Gradients are NaN or infinite though the loss is finite."""


class StepGuard:
    """Finds steps that would destroy the weights, and skips them where this was asked for.

    A batch with a non-finite loss is skipped before its backward pass: gradients that were accumulated before stay.
    A batch with non-finite gradients takes them with it, as they are sums. In both cases weights, state of the
    optimizer, EMA, gradient scaler and running statistics of batch norm are those of before. With an enabled gradient
    scaler, gradients that overflow are its own matter.

    Args:
        action: One of `ON_NAN`: "stop" and "rollback" raise, "skip" raises after `MAX_SKIPS` batches in a row.
        ranks: This process among all; they skip a step together.

    Attributes:
        skipped: Number of batches skipped in the run.
        consecutive: Number of batches skipped since the last one that was not.
        rollbacks: Number of times that the run returned to a checkpoint.
    """

    def __init__(self, action: str = "stop", ranks: Ranks | None = None):
        assert action in ON_NAN, action
        self.action, self.ranks = action, ranks or Ranks()
        self.skipped = self.consecutive = self.rollbacks = 0
        self._buffers: list[torch.Tensor] = []
        self._saved: list[torch.Tensor] = []

    @property
    def is_active(self) -> bool:
        """Whether every step is checked before it changes anything, which waits for the device."""
        return self.action != "stop"

    @property
    def rate_factor(self) -> float:
        """The learning rate relative to that of the recipe."""
        return RATE_FACTOR**self.rollbacks

    @torch.no_grad()
    def remember(self, model: nn.Module) -> None:
        """Save what the forward pass of `model` changes: the running statistics of batch norms."""
        if self.action != "skip":
            return
        self._buffers = list(unwrap(model).buffers())
        self._saved = [buffer.clone() for buffer in self._buffers]

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Let a `NonFiniteLoss` of one process be raised in all of them, unless the action is "stop"."""
        found: NonFiniteLoss | None = None
        try:
            yield
        except NonFiniteLoss as error:
            found = error
        if self.is_active and self.ranks.any(found is not None):
            texts = self.ranks.gather(str(found or "")) or ["the loss of another process is not finite"]
            found = found or NonFiniteLoss(next(text for text in texts if text))  # the main process names its images
        if found:
            raise found

    def check_gradients(self, model: nn.Module, describe: Callable[[str], str]) -> None:
        """Raise `NonFiniteGradients` if a gradient of `model` is not finite and the action is not "stop".

        Args:
            model: The model after a backward pass; with several processes its gradients are the same in all of them.
            describe: Makes the message from what is not finite.
        """
        if not self.is_active:
            return
        named = [(name, p.grad) for name, p in unwrap(model).named_parameters() if p.grad is not None]
        if not named:
            return
        norms = torch.stack(torch._foreach_norm([gradient for _, gradient in named]))
        if norms.isfinite().all():
            return
        names = [name for (name, _), norm in zip(named, norms.tolist(), strict=True) if not math.isfinite(norm)]
        of = f"{counted(len(names), 'parameter')}, the first is '{names[0]}'"
        raise NonFiniteGradients(describe(f"gradients are not finite ({of}); try a lower lr0"))

    def skip(self, error: NonFiniteLoss) -> None:
        """Count a batch that is skipped, and undo what its forward pass changed.

        Raises:
            NonFiniteLoss: `error`, where batches are not skipped or too many were.
        """
        if self.action != "skip":
            raise error
        with torch.no_grad():
            for buffer, saved in zip(self._buffers, self._saved, strict=True):
                buffer.copy_(saved)
        if self.consecutive == MAX_SKIPS:
            raise NonFiniteLoss(f"{MAX_SKIPS} batches in a row were skipped; {error}")
        self.consecutive += 1
        self.skipped += 1
        logger.warning(f"skipped ({self.consecutive} in a row, at most {MAX_SKIPS}): {error}")

    def passed(self) -> None:
        """Record a batch that was trained on."""
        self.consecutive = 0
        self._buffers = self._saved = []

    def check_epoch(self, images: int) -> None:
        """Raise `UserError` at the end of an epoch in which no batch was trained on.

        Args:
            images: Number of images that were trained on.
        """
        if images == 0 and self.consecutive:
            raise NonFiniteLoss("every batch of the epoch was skipped, as its loss or gradients were not finite")
        if images == 0:
            raise UserError("no image of the training split can be read")

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"skipped": self.skipped, "consecutive": self.consecutive, "rollbacks": self.rollbacks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; nothing was counted where it is empty."""
        self.skipped, self.consecutive = int(state.get("skipped", 0)), int(state.get("consecutive", 0))
        self.rollbacks = min(max(int(state.get("rollbacks", 0)), 0), MAX_ROLLBACKS)
