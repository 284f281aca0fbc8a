"""Running means of the losses of an epoch."""

import numpy as np
import torch

from graftdet.utils.errors import UserError

MAX_PATHS = 16  # images of a batch that an error names


class LossMeter:
    """Means of the named losses of an epoch so far.

    On CUDA the losses are copied to the CPU without waiting for the device: a batch counts when the next one is added,
    the last one at `flush`.

    Args:
        epoch: Epoch number from 0, for messages.
    """

    def __init__(self, epoch: int):
        self.epoch, self.count = epoch, 0
        self._totals: dict[str, float] = {}
        self._pending: tuple | None = None

    @property
    def means(self) -> dict[str, float]:
        """The mean of each loss over the batches counted so far."""
        return {name: total / self.count for name, total in self._totals.items()}

    def add(self, losses: dict[str, torch.Tensor], paths: list[str], number: int) -> None:
        """Add the losses of batch `number` of the epoch, which consists of the images `paths`.

        Raises:
            UserError: If a loss of a batch that is counted is not finite; names its images.
        """
        values, copied = torch.stack([loss.detach().float() for loss in losses.values()]), None
        if values.is_cuda:
            values, copied = values.to("cpu", non_blocking=True), torch.cuda.Event()
            copied.record()
        self.flush()
        self._pending = list(losses), values, copied, paths, number
        if copied is None:
            self.flush()

    def flush(self) -> None:
        """Count the pending batch. Raises `UserError` as `add` does."""
        if self._pending is None:
            return
        (names, values, copied, paths, number), self._pending = self._pending, None
        if copied is not None:
            copied.synchronize()
        losses = dict(zip(names, values.tolist(), strict=True))
        if not np.isfinite(list(losses.values())).all():
            raise UserError(_not_finite(losses, paths, self.epoch, number))
        self.count += 1
        for name, value in losses.items():
            self._totals[name] = self._totals.get(name, 0.0) + value


def _not_finite(losses: dict[str, float], paths: list[str], epoch: int, number: int) -> str:
    """The message about a batch whose loss is not finite."""
    values = ", ".join(f"{name} {value}" for name, value in losses.items())
    files = ", ".join(map(str, paths[:MAX_PATHS]))
    if len(paths) > MAX_PATHS:
        files += f" and {len(paths) - MAX_PATHS} others"
    return f"epoch {epoch + 1}, batch {number + 1}: the loss is not finite ({values}); try a lower lr0; images: {files}"
