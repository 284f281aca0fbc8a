"""Train a detector: `python train.py --cfg yolov5n.yaml --data shapes.yaml --img 320 --epochs 50`.

PROJECT/NAME receives weights/best.pt and weights/last.pt, results.csv, config.yaml, charts and the first batches.
"""

import functools
import logging
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graftdet.utils.startup import import_before_torch

if __name__ == "__main__":
    import_before_torch("graftdet.data.dataset_config")

import numpy as np
from torch import device as Device
from torch import nn

from graftdet.data.caching.image_cache import CACHES
from graftdet.data.dataset import DetectionDataset
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.dataset_split import Split
from graftdet.data.loader import Loader, train_loader, val_loader
from graftdet.data.synthetic_dataset import open_dataset
from graftdet.models import load_plugins
from graftdet.models.distillation.distiller import load_teacher, set_up_distillation
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.weights.initial_model import make_model, restore_model
from graftdet.utils import cli
from graftdet.utils.cli.keyword_flags import arguments_from_keywords
from graftdet.utils.cli.options import add_run_flags, image_size
from graftdet.utils.device import default_workers
from graftdet.utils.distributed import Ranks, distribute, process_group
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import Evaluation, evaluate
from graftdet.utils.files import new_run_folder
from graftdet.utils.hyperparameters import Hyperparameters, has_geometric_augmentation, load_hyperparameters
from graftdet.utils.progress import Progress
from graftdet.utils.training.acceleration import compile_model, mixed_precision, prepare_for_training
from graftdet.utils.training.autoanchor import fit_head_anchors
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.flags import add_recipe_flags, add_training_flags, check_flags, hyperparameter_overrides
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.resume import resolve_options
from graftdet.utils.training.run import Run, TrainResult
from graftdet.utils.training.run_state import EarlyStopping, RunState
from graftdet.utils.training.schedule import Schedule
from graftdet.utils.training.search.trials import add_search_flags, search, search_requested
from graftdet.utils.training.trainer import (
    freeze_rows,
    sampling_weights,
    seed_everything,
    set_bn_momentum,
    train_one_epoch,
)

logger = logging.getLogger("graftdet.train")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, then train or search for hyperparameters."""
    cli.configure_logging()
    options, checkpoint = resolve_options(make_parser(), argv)
    if search_requested(options):
        search(options, argv)
    else:
        run_training(options, checkpoint)


def train_model(**flags: Any) -> TrainResult | None:
    """Train a detector, as `train.py` does.

    Args:
        **flags: Flags of train.py with underscores instead of hyphens, such as `cfg`, `data`, `epochs`, `batch_size`
            or `set={"lr0": 0.01}`; see `python train.py --help`. All have the defaults of the script.

    Returns:
        Folder of the run, paths of the weights, epochs, and metrics of the best weights; None in processes of torchrun
        other than the main one.

    Raises:
        UserError: For unknown arguments and invalid values, where the script would end with exit status 2.

    Example:
        >>> from graftdet import train_model
        >>> result = train_model(cfg="yolov5n.yaml", data="shapes.yaml", img=320, epochs=50)
        >>> result.metrics["AP50-95"], result.best_weights
    """
    parser = make_parser()
    options, checkpoint = resolve_options(parser, arguments_from_keywords(parser, flags, "train_model"))
    if search_requested(options):
        raise UserError("train_model: search starts train.py many times; run the command train.py --search RANGES.yaml")
    return run_training(options, checkpoint)


def run_training(options: Namespace, checkpoint: dict[str, Any] | None) -> TrainResult | None:
    """Train in this process, or in this process of the group that torchrun started."""
    with process_group(options.device) as (ranks, device):
        return train(options, checkpoint, ranks, device)


def train(options: Namespace, checkpoint: dict[str, Any] | None, ranks: Ranks, device: Device) -> TrainResult | None:
    """Build the parts in order, then train, validate and save epoch by epoch; continue from `checkpoint` if given."""
    seed_everything(options.seed)
    load_plugins(options.plugins)
    check_flags(options.weights, options.teacher, options.into, options.min_transfer, options.set)
    hyperparameters = read_hyperparameters(options, checkpoint)
    data = load_data_config(options.data)
    splits = {name: open_split(data, name, single_class=options.single_cls) for name in ("train", "val")}
    names = list(splits["train"].names)
    if checkpoint:
        model = restore_model(checkpoint, options.resume, options.data, names)
    else:
        model = make_model(
            options.cfg,
            options.weights,
            names,
            anchors=round(hyperparameters.anchors),
            into=options.into,
            min_transfer=options.min_transfer,
            identity_init=options.identity_init,
        )
    teacher = load_teacher(options.teacher, model) if options.teacher else None
    stride = max(one.size_multiple for one in (model, teacher) if one)
    options.img = image_size(options.img, stride)[0]
    train_set, batches, validate = make_loaders(
        splits,
        hyperparameters,
        size=options.img,
        stride=stride,
        epochs=options.epochs,
        batch_size=options.batch_size,
        workers=default_workers(device.type) if options.workers is None else options.workers,
        seed=options.seed,
        cache=options.cache,
        rect=options.rect,
        multi_scale=options.multi_scale,
        ranks=ranks,
        device=device,
    )
    if not checkpoint:
        boxes, _, sizes = train_set.annotations()
        if fit := fit_head_anchors(model.head, boxes, sizes, options.img, hyperparameters.anchor_t):
            logger.info(fit)
    freeze_rows(model.model, options.freeze)
    layout = prepare_for_training(model.to(device), device, (model.channels, stride, stride))
    criterion = model.criterion(hyperparameters, options.img)
    trained, criterion = set_up_distillation(model, criterion, teacher, hyperparameters)
    recipe = hyperparameters.for_run(options.epochs, len(batches), options.batch_size)
    set_bn_momentum(model, recipe.bn_momentum)
    optimizer = make_optimizer(trained, recipe.optimizer, recipe, options.batch_size)
    schedule = Schedule(recipe, options.epochs, len(batches), options.batch_size)
    ema = ModelEMA(model, recipe.ema_decay, recipe.ema_tau, fraction=recipe.ema_fraction)
    mixed, scaler = mixed_precision(options.amp, device)
    parallel = distribute(compile_model(trained, options.compile, device), ranks, device, options.sync_bn)
    stepper = Stepper(parallel, optimizer, schedule, ema, recipe.clip_norm, scaler)
    state = RunState(model, ema, stepper, EarlyStopping(options.patience), class_ap=np.zeros(model.nc))
    if checkpoint:
        state.load_state_dict(checkpoint)

    run = open_run(options, model, hyperparameters, state, train_set) if ranks.is_main else None
    for epoch in range(state.epoch, state.epoch if state.stopping.stop else options.epochs):
        seed_everything(options.seed, epoch + 1, ranks.rank)
        batches.set_epoch(epoch, sampling_weights(train_set.labels, state.class_ap) if options.image_weights else None)
        with Progress(len(batches), f"epoch {epoch + 1}/{options.epochs}", quiet=not ranks.is_main) as progress:
            result = train_one_epoch(
                parallel,
                criterion,
                batches,
                stepper,
                epoch=epoch,
                batches_per_epoch=len(batches),
                device=device,
                mixed=mixed,
                layout=layout,
                world_size=ranks.world_size,
                progress=progress,
                on_batch=run.plot_batch if run else None,
            )
        evaluation = validate(ema.model) if not options.noval or epoch + 1 == options.epochs else None
        if run:
            run.finish_epoch(result, evaluation)
        state.class_ap, stop = ranks.broadcast((state.class_ap, state.stopping.stop))
        if stop:
            break
    if run:
        return run.finish(validate)
    validate(ema.model)  # every process validates its part of the images
    return None


def read_hyperparameters(options: Namespace, checkpoint: dict[str, Any] | None) -> Hyperparameters:
    """Return the recipe of the checkpoint or of `--hyp`, with the values of the command line; log its notices."""
    overrides = hyperparameter_overrides(options.optimizer, options.cos_lr, options.set)
    hyperparameters = load_hyperparameters(checkpoint["hyperparameters"] if checkpoint else options.hyp, overrides)
    for notice in hyperparameters.notices():
        logger.warning(notice)
    return hyperparameters


def open_run(
    options: Namespace,
    model: DetectionModel,
    hyperparameters: Hyperparameters,
    state: RunState,
    train_set: DetectionDataset,
) -> Run:
    """Open the folder of the run, a new one unless it is resumed, and plot the labels of the training set."""
    folder = options.folder or new_run_folder(options.project, options.name, options.exist_ok)
    recorded = {key: value for key, value in vars(options).items() if key not in ("resume", "folder")}
    info = {"yaml": model.yaml_text, "names": model.names, "nc": model.nc, "options": recorded}
    run = Run(folder, {**info, "hyperparameters": hyperparameters}, state, options.epochs, options.save_period)
    run.plot_labels(*train_set.annotations())
    return run


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


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ArgumentParser(description="Train a detector.", script="train")
    add_recipe_flags(parser)
    flag = parser.add_argument
    flag(
        "--img", "--imgsz", "--img-size", type=cli.at_least(32), default=640, help="longer side of the images [pixels]"
    )
    flag("--cache", nargs="?", const="ram", choices=CACHES, default="auto", help="where to cache decoded images")
    add_training_flags(parser)
    add_run_flags(parser, "runs/train")
    add_search_flags(parser)
    return parser


if __name__ == "__main__":
    cli.run(main)
