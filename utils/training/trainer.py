"""One epoch of training, and helpers around it. Takes objects: no model or dataset is defined here."""

import contextlib
import functools
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from graftdet.utils.device import device_memory
from graftdet.utils.distributed import Ranks, average_losses, unwrap
from graftdet.utils.errors import UserError
from graftdet.utils.progress import Progress
from graftdet.utils.text import counted
from graftdet.utils.threads import adapt_threads
from graftdet.utils.training.acceleration.batch_size import exceeded_memory
from graftdet.utils.training.acceleration.color_jitter import images_on_device
from graftdet.utils.training.acceleration.step_choice import StepChoice
from graftdet.utils.training.divergence.loss_meter import LossMeter, NonFiniteLoss, non_finite_rows_named
from graftdet.utils.training.optim import Stepper, warn_of_missing_gradients


@dataclass
class EpochResult:
    """Result of one epoch of training.

    Attributes:
        losses: Mean of each named loss over batches and processes.
        images_per_s: Images per second of wall time, waiting for data included.
        lr: Learning rate at the end of the epoch.
    """

    losses: dict[str, float]
    images_per_s: float
    lr: float


def train_one_epoch(
    model: nn.Module,
    criterion: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]],
    batches: Iterable[dict[str, Any]],
    stepper: Stepper,
    *,
    epoch: int,
    batches_per_epoch: int,
    device: torch.device,
    mixed: torch.dtype | None = None,
    layout: torch.memory_format = torch.contiguous_format,
    world_size: int = 1,
    progress: Progress | None = None,
    on_batch: Callable[[int, dict[str, Any]], None] | None = None,
    frozen: Sequence[nn.Module] = (),
) -> EpochResult:
    """Train `model` on every batch once.

    Args:
        model: Called with images float (B, 3, H, W) RGB 0..1.
        criterion: `(raw, targets (M, 6)) -> dict of named losses`, each a mean.
        batches: Batches of `graftdet.data.loader`: images uint8 (B, 3, H, W) RGB, targets (M, 6) image, class, cx, cy,
            w, h normalized, paths, and perhaps hsv_gains (B, 3).
        stepper: Optimizer, schedule, EMA, and what happens to steps that are not finite.
        epoch: Epoch number from 0; with `batches_per_epoch` it numbers the batches for the schedule.
        batches_per_epoch: Length of an epoch.
        device: The device of the model.
        mixed: Type of autocast (see `choose_steps`), None for float32 everywhere.
        layout: Memory format of the images.
        world_size: Number of processes whose gradients are averaged.
        progress: Shows losses while the epoch runs.
        on_batch: Called with the number of each batch in the epoch and the batch, before it is trained on.
        frozen: Batch norms that use their running statistics.

    Raises:
        NonFiniteLoss: If a loss is not finite (names images and rows) and its batch is not skipped.
        UserError: If no image can be read, or a batch of a single image is too small for batch norm.
    """
    model.train()
    set_frozen_layers_to_eval(model)
    for batch_norm in frozen:
        batch_norm.eval()
    meter, guard = LossMeter(epoch, stepper.guard.is_active), stepper.guard
    num_images = 0
    unchecked = epoch == 0  # whether each parameter receives a gradient, with the first batch that has objects
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        adapt_threads()
        if on_batch:
            on_batch(number, batch)
        stepper.begin(epoch * batches_per_epoch + number)
        images = images_on_device(batch, device).to(torch.float32, memory_format=layout).div_(255)  # (B, 3, H, W)
        guard.remember(model)
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None), _batch_norm_errors(model, images):
            raw = model(images)
        losses = criterion(raw, batch["targets"].to(device, non_blocking=True))
        on_gradients = warn_of_missing_gradients if unchecked and len(batch["targets"]) else None
        # the recipe's total loss is a sum over images; averaging gradients over processes divides by world_size
        total = sum(losses.values()) * (len(images) * world_size)
        try:
            with guard.agreed(), non_finite_rows_named(unwrap(model), images):
                meter.add(losses, batch["paths"], number)
            describe = functools.partial(meter.describe, batch["paths"], number)
            stepper.backward(total, on_gradients, describe)  # type: ignore[arg-type]
        except NonFiniteLoss as error:
            stepper.skip(error)
            continue
        guard.passed()
        unchecked = unchecked and not len(batch["targets"])
        num_images += len(images)
        if progress:
            means = " ".join(f"{name} {mean:.4f}" for name, mean in meter.means.items())
            size = f"{images.shape[3]}x{images.shape[2]}"
            speed = f"{num_images * world_size / (time.perf_counter() - start):.1f} images/s"
            progress.step(f"{means}, {speed}, {device_memory(device)}, {counted(len(batch['targets']), 'box')}, {size}")
    guard.check_epoch(num_images)
    meter.flush()
    seconds = time.perf_counter() - start
    return EpochResult(average_losses(meter.means, device), num_images * world_size / seconds, stepper.learning_rate)


@dataclass
class Trainer:
    """Trains a model epoch by epoch.

    Attributes:
        model: The model to train, perhaps in a DistributedDataParallel wrapper.
        criterion: See `train_one_epoch`; `begin_epoch(epoch, epochs)` is called where it has one.
        batches: Batches of `graftdet.data.loader`.
        stepper: Optimizer, schedule and EMA.
        seed: Seed of all random generators.
        ranks: This process among all.
        device: The device of the model.
        choice: Precision and memory format.
        frozen: Batch norms that use their running statistics.
    """

    model: nn.Module
    criterion: Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]
    batches: Any
    stepper: Stepper
    seed: int
    ranks: Ranks
    device: torch.device
    choice: StepChoice
    frozen: Sequence[nn.Module] = ()

    def train_epoch(
        self,
        epoch: int,
        epochs: int,
        *,
        weights: np.ndarray | None = None,
        on_batch: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> EpochResult:
        """Train one epoch, counted from 0, of `epochs`; its random numbers depend on the seed and the epoch alone.

        Args:
            epoch, epochs: The epoch, and how many there are.
            weights: How often to sample each image (images,); None: once each.
            on_batch: See `train_one_epoch`.
        """
        seed_everything(self.seed, epoch + 1, self.ranks.rank)
        if begin := getattr(self.criterion, "begin_epoch", None):  # a plugin's criterion may be a plain function
            begin(epoch, epochs)
        self.batches.set_epoch(epoch, weights)
        count = len(self.batches)
        try:
            with Progress(count, f"epoch {epoch + 1}/{epochs}", quiet=not self.ranks.is_main) as progress:
                result = train_one_epoch(
                    self.model,
                    self.criterion,
                    self.batches,
                    self.stepper,
                    epoch=epoch,
                    batches_per_epoch=count,
                    device=self.device,
                    mixed=self.choice.training.autocast_type,
                    layout=self.choice.training.layout,
                    world_size=self.ranks.world_size,
                    progress=progress,
                    on_batch=on_batch,
                    frozen=self.frozen,
                )
            if epoch + 1 < epochs and weights is None:
                self.batches.load_ahead(epoch + 1)  # while the model is validated and saved
            return result
        except torch.OutOfMemoryError:
            pass  # its traceback holds the tensors of the batch: they are free after this block
        size, batch_size = self.batches.dataset.size, self.batches.batch_size * self.ranks.world_size
        raise exceeded_memory(unwrap(self.model), batch_size, size, self.device, self.ranks.world_size)


@contextlib.contextmanager
def _batch_norm_errors(model: nn.Module, images: torch.Tensor) -> Iterator[None]:
    """Explain batch norm's error about a single image (B, 3, H, W) whose last feature maps have one cell.

    It is the one that does not occur in eval mode, where batch norm uses its running statistics.
    """
    try:
        yield
    except ValueError as error:
        if len(images) > 1:
            raise
        try:
            with torch.no_grad():
                model.eval()(images)
        except ValueError:
            raise error from None
        size = f"{images.shape[3]}x{images.shape[2]}"
        raise UserError(
            f"a batch of one image of {size} is too small for batch norm, which needs several values per channel; "
            "choose a --batch-size that leaves no single image in the last batch, or a larger --img"
        ) from None


def set_frozen_layers_to_eval(model: nn.Module) -> None:
    """Set layers whose own parameters are all frozen to eval mode, so that their running statistics stay, too."""
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def transferred_batch_norms(model: nn.Module, names: Collection[str]) -> list[nn.Module]:
    """Return the batch norms of `model` whose running statistics are among the tensors `names`."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{name}.running_mean" in names
    ]


def set_bn_momentum(model: nn.Module, momentum: float) -> None:
    """Set the momentum of the running statistics of all batch norms."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


def freeze_rows(rows: nn.Sequential, which: list[int]) -> list[int]:
    """Freeze rows of a model.

    Args:
        rows: The rows.
        which: One number N for the first N rows, or several row numbers.

    Returns:
        The frozen rows.

    Raises:
        UserError: If a row does not exist.
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
    """Seed all random generators for an epoch from (seed, epoch, rank), so that a resumed run restores nothing."""
    seeds = [int(value) for value in np.random.SeedSequence([seed, epoch, rank]).generate_state(3)]
    random.seed(seeds[0])
    np.random.seed(seeds[1])
    torch.manual_seed(seeds[2])


def sampling_weights(labels: list[np.ndarray], class_ap: np.ndarray) -> np.ndarray:
    """Return how often to sample each image: more often with classes that are rare or have a low AP (--image-weights).

    A class weighs (1 - AP)^2 / its number of boxes.

    Args:
        labels: Class indices (n,) of each image.
        class_ap: AP (nc,) of each class, 0..1.

    Returns:
        Positive weights (images,).
    """
    counts = np.stack([np.bincount(row, minlength=len(class_ap)) for row in labels]).astype(np.float64)  # (images, nc)
    class_weights = (1 - np.nan_to_num(class_ap)) ** 2 / np.maximum(counts.sum(0), 1)
    weights = counts @ class_weights
    return weights + max(weights.mean() * 1e-3, 1e-12)  # images without boxes are sampled rarely
