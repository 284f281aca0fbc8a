"""The images of a training run: batches for training, and validation of a model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import device as Device
from torch import nn

from graftdet.data.dataset import DetectionDataset
from graftdet.data.formats.dataset_split import Split
from graftdet.data.loader import Loader, train_loader, val_loader
from graftdet.data.synthetic_dataset import open_dataset
from graftdet.utils.distributed import Ranks
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import Evaluation, evaluate
from graftdet.utils.hyperparameters import Hyperparameters, has_geometric_augmentation


def make_loaders(
    splits: Mapping[str, Split],
    hyperparameters: Hyperparameters,
    *,
    size: int,
    stride: int,
    epochs: int,
    batch_size: int,
    workers: int,
    seed: int,
    cache: str,
    rect: bool,
    multi_scale: bool,
    ranks: Ranks,
    device: Device,
) -> tuple[DetectionDataset, Loader, Callable[[nn.Module], Evaluation | None]]:
    """Open the training and validation images.

    Args:
        splits: The splits "train" and "val".
        hyperparameters: The training recipe, for augmentation.
        size: Longer side of the images [pixels].
        stride: Divisor of the sides of all batches.
        epochs, batch_size: Length of the run; images per batch, over all processes.
        workers: Processes that load images.
        seed, cache: Seed of augmentation and order; where decoded images are cached.
        rect: Train on batches of one aspect ratio instead of mosaics.
        multi_scale: Change the size in each batch.
        ranks, device: Rank and device of this process.

    Returns:
        The training set, its batches, and `validate(model)`, which evaluates a model on the validation split.
    """
    if batch_size % ranks.world_size:
        raise UserError(
            f"--batch-size {batch_size}: counts all {ranks.world_size} processes and must be divisible by their number"
        )
    on_cuda = device.type == "cuda"
    part: dict[str, Any] = {"rank": ranks.rank, "world_size": ranks.world_size}
    common: dict[str, Any] = {"size": size, "stride": stride, "seed": seed, "cache": cache}
    train_set = open_dataset(
        splits["train"], recipe=hyperparameters, augment=True, rect=rect, label="train", defer_hsv=on_cuda, **common
    )
    batches = train_loader(
        train_set,
        batch_size // ranks.world_size,
        workers,
        epochs=epochs,
        multi_scale=multi_scale,
        pin_memory=on_cuda,
        **part,
    )
    val_set = open_dataset(
        splits["val"], rect=rect or has_geometric_augmentation(vars(hyperparameters)), label="val", **common
    )
    validate = functools.partial(
        evaluate,
        loader=val_loader(val_set, 2 * batch_size, workers, **part),
        ground_truth=splits["val"].ground_truth(),
        category_ids=splits["val"].category_ids,
        ranks=ranks,
        device=device,
        half=on_cuda,
    )
    return train_set, batches, validate
