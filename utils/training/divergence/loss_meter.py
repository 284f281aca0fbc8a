"""Running means of the losses of an epoch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from graftdet.utils.distributed import as_single_process
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted
from graftdet.utils.training.acceleration.step_timing import random_states_restored

MAX_PATHS = 16  # images of a batch that an error names


class NonFiniteLoss(UserError):
    """A loss is NaN or infinite."""


@contextlib.contextmanager
def non_finite_rows_named(model: nn.Module, images: torch.Tensor) -> Iterator[None]:
    """Add to a `NonFiniteLoss` which rows of the model have outputs that are not finite.

    Args:
        model: The model that is trained, whose rows are its `model`; for any other nothing is added.
        images: The batch (B, 3, H, W).
    """
    try:
        yield
    except NonFiniteLoss as error:
        rows = _non_finite_rows(model, images)
        raise NonFiniteLoss(f"{error}{f'; rows with outputs that are not finite: {rows}' if rows else ''}") from None


@torch.no_grad()
def _non_finite_rows(model: nn.Module, images: torch.Tensor) -> str:
    """Indices of the rows, such as "3, 4, 5 and 10 others"."""
    rows, found = getattr(model, "model", None), []
    if not isinstance(rows, nn.Sequential):
        return ""

    def examine(index: int, output: Any) -> None:
        tensors = [output] if isinstance(output, torch.Tensor) else output if isinstance(output, (list, tuple)) else []
        if any(isinstance(tensor, torch.Tensor) and not tensor.isfinite().all() for tensor in tensors):
            found.append(str(index))

    hooks = [
        row.register_forward_hook(lambda _, __, output, index=index: examine(index, output))
        for index, row in enumerate(rows)
    ]
    synchronized = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm) and module.training]
    try:
        for module in synchronized:  # other processes may not wait for this one
            module.eval()
        with random_states_restored(), as_single_process():
            model(images)  # in training mode, as it was; running statistics change
    finally:
        for module in synchronized:
            module.train()
        for hook in hooks:
            hook.remove()
    return ", ".join(found[:3]) + (f" and {counted(len(found) - 3, 'other')}" if len(found) > 3 else "")


class LossMeter:
    """Means of the named losses of an epoch so far.

    On CUDA the losses are copied to the CPU without waiting for the device: a batch counts when the next one is added,
    the last one at `flush`.

    Args:
        epoch: Epoch number from 0, for messages.
        wait: Wait for the losses of each batch.
    """

    def __init__(self, epoch: int, wait: bool = False):
        self.epoch, self.count, self.wait = epoch, 0, wait
        self._totals: dict[str, float] = {}
        self._pending: tuple | None = None

    @property
    def means(self) -> dict[str, float]:
        """The mean of each loss over the batches counted so far."""
        return {name: total / self.count for name, total in self._totals.items()}

    def add(self, losses: dict[str, torch.Tensor], paths: list[str], number: int) -> None:
        """Add the losses of batch `number` of the epoch, which consists of the images `paths`.

        Raises:
            NonFiniteLoss: If a loss of a batch that is counted is not finite; names its images.
        """
        values, copied = torch.stack([loss.detach().float() for loss in losses.values()]), None
        if values.is_cuda:
            values, copied = values.to("cpu", non_blocking=True), torch.cuda.Event()
            copied.record()
        self.flush()
        self._pending = list(losses), values, copied, paths, number
        if copied is None or self.wait:
            self.flush()

    def flush(self) -> None:
        """Count the pending batch. Raises `NonFiniteLoss` as `add` does."""
        if self._pending is None:
            return
        (names, values, copied, paths, number), self._pending = self._pending, None
        if copied is not None:
            copied.synchronize()
        losses = dict(zip(names, values.tolist(), strict=True))
        if not np.isfinite(list(losses.values())).all():
            values = ", ".join(f"{name} {value}" for name, value in losses.items())
            raise NonFiniteLoss(self.describe(paths, number, f"the loss is not finite ({values}); try a lower lr0"))
        self.count += 1
        for name, value in losses.items():
            self._totals[name] = self._totals.get(name, 0.0) + value

    def describe(self, paths: list[str], number: int, problem: str) -> str:
        """Return the message about a problem with batch `number` of the epoch, which consists of the images `paths`."""
        files = ", ".join(map(str, paths[:MAX_PATHS]))
        if len(paths) > MAX_PATHS:
            files += f" and {counted(len(paths) - MAX_PATHS, 'other')}"
        return f"epoch {self.epoch + 1}, batch {number + 1}: {problem}; images: {files}"
