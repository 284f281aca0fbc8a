"""The contract of criteria."""

from abc import ABC, abstractmethod
from typing import Any

import torch


class Criterion(ABC):
    """The training loss of a head, computed in float32.

    Losses are means over the positives or elements of a batch, in several processes over those of all. The published
    total is their sum times the batch size, which the trainer applies.
    """

    @abstractmethod
    def __call__(self, raw: Any, targets: torch.Tensor, /) -> dict[str, torch.Tensor]:
        """Compute the losses of a batch.

        Args:
            raw: the raw outputs of the head in train mode.
            targets: (M, 6) image index, class, cx, cy, w, h normalized to the image size.

        Returns:
            Scalars by name, gains applied.
        """

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027  # most criteria are the same in all epochs
        """Prepare for an epoch; called before each one. Criteria that change in the course of a run extend it.

        Args:
            epoch: the epoch, from 0.
            epochs: length of the run.
        """

    @property
    @abstractmethod
    def box_gain(self) -> float:
        """The factor of the box loss; distillation losses are weighted relative to it."""


class DenseCriterion(Criterion):
    """A criterion whose losses are computed from the raw outputs of all levels at once.

    Args:
        gains: factor of each loss by name.
    """

    def __init__(self, gains: dict[str, float]):
        self.gains = gains

    @property
    def box_gain(self) -> float:
        """The factor of the box loss."""
        return self.gains["box"]

    def __call__(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the losses in float32; see `Criterion`."""
        with torch.autocast(raw[0].device.type, enabled=False):
            return self._losses([y.float() for y in raw], targets.to(raw[0].device, torch.float32))

    @abstractmethod
    def _losses(self, raw: list[torch.Tensor], targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the losses of float32 outputs, one tensor per level, and targets on the same device."""
