"""One epoch of training, and what decides between epochs. Takes objects: models and data sets are not known here."""

import contextlib
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from graftdet.utils.device import device_memory
from graftdet.utils.distributed import mean_over_processes
from graftdet.utils.errors import UserError
from graftdet.utils.progress import Progress
from graftdet.utils.training.color_jitter import pictures_on
from graftdet.utils.training.optim import Stepper
from torch import nn

NAMED = 16  # pictures of a batch, at most, that an error names


@dataclass
class EpochResult:
    """`losses`: the mean over batches (and processes) of each named loss; pictures over wall seconds, waiting for them included."""

    losses: dict[str, float]
    images_per_s: float
    lr: float


def train_one_epoch(
    model: nn.Module,
    criterion: Callable,
    batches: Iterable[dict],
    stepper: Stepper,
    *,
    epoch: int,
    batches_per_epoch: int,
    device: torch.device,
    mixed: torch.dtype | None = None,
    layout: torch.memory_format = torch.contiguous_format,
    world_size: int = 1,
    progress: Progress | None = None,
    on_batch: Callable[[int, dict], None] | None = None,
) -> EpochResult:
    """Train `model` on every batch once.

    Args:
        criterion: `(raw, targets (M, 6)) -> dict of named losses`, each a mean.
        batches: dicts with images uint8 (B, 3, H, W) RGB, targets (M, 6) and paths, perhaps hsv_gains (`graftdet.data.loader`).
        epoch: counted from 0; with `batches_per_epoch` it numbers the batches for the schedule.
        mixed: the type to compute in where it is safe, None for float32 everywhere (see `mixed_precision`).
        world_size: of how many processes the gradients are averaged.
        on_batch: called with each batch and its number in the epoch before it is trained on.

    Raises `UserError` naming the pictures when a loss is not finite, and for a lone picture too small for the norms.
    """
    model.train()
    still_frozen(model)
    watch = LossWatch(epoch)
    pictures = 0
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        if on_batch:
            on_batch(number, batch)
        stepper.begin(epoch * batches_per_epoch + number)
        images = pictures_on(batch, device).to(torch.float32, memory_format=layout).div_(255)  # (B, 3, H, W)
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None), _norms_of_one(images):
            raw = model(images)
        losses = criterion(raw, batch["targets"].to(device, non_blocking=True))
        watch.add(losses, batch["paths"], number)
        # the recipe's total is a sum over pictures; processes average their gradients, which takes that away again
        stepper.backward(sum(losses.values()) * (len(images) * world_size))

        pictures += len(images)
        if progress:
            told = " ".join(f"{name} {mean:.4f}" for name, mean in watch.means.items())
            size = f"{images.shape[3]}x{images.shape[2]}"
            progress.step(f"{told} boxes {len(batch['targets'])} size {size} memory {device_memory(device)}")
    if not pictures:
        raise UserError("no picture of the training split can be read")
    watch.settle()
    seconds = time.perf_counter() - start
    return EpochResult(mean_over_processes(watch.means, device), pictures * world_size / seconds, stepper.learning_rate)


@contextlib.contextmanager
def _norms_of_one(images: torch.Tensor):
    """Tell in the user's words what batch norm says of a single picture (B, 3, H, W) whose last maps are single cells."""
    try:
        yield
    except ValueError as error:
        if len(images) > 1 or "more than 1 value per channel" not in str(error):
            raise
        size = f"{images.shape[3]}x{images.shape[2]}"
        raise UserError(
            f"a batch of one picture of {size} gives some norms a single value, which they can't learn from; "
            "choose a --batch-size that leaves no picture alone, or a larger --img"
        ) from None


class LossWatch:
    """The mean of each named loss over the batches of `epoch` so far, `means`; raises `UserError` naming the pictures
    when one is not finite. A CUDA device is not waited for: there a batch counts when the next one is under way, the
    last one at `settle()`."""

    def __init__(self, epoch: int):
        self.epoch, self.done = epoch, 0
        self._totals: dict[str, float] = {}
        self._waiting: tuple | None = None

    @property
    def means(self) -> dict[str, float]:
        return {name: total / self.done for name, total in self._totals.items()}

    def add(self, losses: dict[str, torch.Tensor], paths: list[str], number: int) -> None:
        """Take the losses of batch `number` of the epoch."""
        values, arrived = torch.stack([loss.detach().float() for loss in losses.values()]), None
        if values.is_cuda:
            values, arrived = values.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self.settle()
        self._waiting = list(losses), values, arrived, paths, number
        if arrived is None:
            self.settle()

    def settle(self) -> None:
        """Count what waits."""
        if self._waiting is None:
            return
        (names, values, arrived, paths, number), self._waiting = self._waiting, None
        if arrived is not None:
            arrived.synchronize()
        told = dict(zip(names, values.tolist(), strict=True))
        if not np.isfinite(list(told.values())).all():
            raise UserError(_not_finite(told, paths, self.epoch, number))
        self.done += 1
        for name, value in told.items():
            self._totals[name] = self._totals.get(name, 0.0) + value


def still_frozen(model: nn.Module) -> None:
    """Put layers whose own parameters are all frozen into eval mode, so that their batch statistics stay, too."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def set_bn_momentum(model: nn.Module, momentum: float) -> None:
    """Let the running statistics of batch norms take the share `momentum` of each batch."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


def freeze_rows(rows: nn.Sequential, which: list[int]) -> list[int]:
    """Freeze rows of a model: one number N means the first N, several mean these. Returns the rows frozen.

    Raises `UserError` for a row that does not exist.
    """
    if not which:
        return []
    chosen = list(range(which[0])) if len(which) == 1 else sorted(set(which))
    for row in chosen:
        if not 0 <= row < len(rows):
            raise UserError(f"--freeze {' '.join(map(str, which))}: the model has rows 0 to {len(rows) - 1}")
        rows[row].requires_grad_(False)
    return chosen


def seed_everything(seed: int, epoch: int = 0, rank: int = 0) -> None:
    """Start all random generators for an epoch. What is drawn depends on (seed, epoch, rank): nothing to restore later."""
    words = [int(word) for word in np.random.SeedSequence([seed, epoch, rank]).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


def picture_weights(labels: list[np.ndarray], class_ap: np.ndarray) -> np.ndarray:
    """How often to draw each picture: more where classes of low AP are, and rare ones (--image-weights).

    labels: class indices (n,) of each picture. class_ap (nc,) in 0..1. A class weighs (1 - AP)^2 / its count. Returns
    (pictures,), positive.
    """
    per_picture = np.stack([np.bincount(row, minlength=len(class_ap)) for row in labels]).astype(np.float64)  # (n, nc)
    class_weights = (1 - np.nan_to_num(class_ap)) ** 2 / np.maximum(per_picture.sum(0), 1)
    weights = per_picture @ class_weights
    return weights + max(weights.mean() * 1e-3, 1e-12)  # pictures without boxes are drawn now and then


def _not_finite(losses: dict[str, float], paths: list[str], epoch: int, number: int) -> str:
    """What to tell about a batch whose loss is not a number."""
    wrong = ", ".join(f"{name} {value}" for name, value in losses.items())
    files = ", ".join(map(str, paths[:NAMED])) + (f" and {len(paths) - NAMED} others" if len(paths) > NAMED else "")
    return f"epoch {epoch + 1}, batch {number + 1}: the loss is not finite ({wrong}); a lower lr0 may help; pictures: {files}"
