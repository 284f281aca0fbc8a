"""Train a detector: `python train.py --cfg yolov5n.yaml --data shapes.yaml --img 320 --epochs 50`.

PROJECT/NAME receives weights/best.pt and weights/last.pt, results.csv, config.yaml, charts and the first batches.
"""

import logging
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any

from graftdet.data.caching.image_cache import CACHES
from graftdet.utils import cli, startup
from graftdet.utils.cli.options import OneSize, add_plots_flag, add_run_flags, image_size
from graftdet.utils.training.flags import (
    AUTO_RECIPE,
    add_recipe_flags,
    add_training_flags,
    check_flags,
    check_not_swapped,
    gentle_recipe,
    graft_epochs,
    read_hyperparameters,
)
from graftdet.utils.training.search.trials import add_search_flags, search, search_requested


def make_parser() -> cli.ArgumentParser:
    """Return the parser of the command line."""
    parser = cli.ArgumentParser(description="Train a detector.", script="train")
    add_recipe_flags(parser)
    flag = parser.add_argument
    about = "longer side of images [pixels]"
    flag("--img", "--imgsz", "--img-size", type=cli.at_least(32), nargs="+", action=OneSize, default=640, help=about)
    flag("--cache", nargs="?", const="ram", choices=CACHES, default="auto", help="where to cache decoded images")
    add_training_flags(parser)
    add_run_flags(parser, "runs/train")
    add_plots_flag(parser)
    add_search_flags(parser)
    return parser


if startup.is_script(__name__):  # --help and wrong flags end here, before torch is imported
    startup.parse_and_prepare(make_parser, follows_load=True)

import numpy as np
from torch import device as Device
from torch import memory_format

from graftdet.data.dataset import DetectionDataset
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.manifest import record_data
from graftdet.data.loader import Loader
from graftdet.data.tools.report_section import dataset_section
from graftdet.data.training_data import LoaderSettings, make_batches, make_validation, plain_images, sample_images
from graftdet.models import load_plugins
from graftdet.models.analysis.report_section import model_section
from graftdet.models.distillation.distiller import load_teacher, set_up_distillation
from graftdet.models.distillation.grafts import Original
from graftdet.models.distillation.imitation import start_grafts
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.inference.validation_losses import ValidationLosses
from graftdet.models.lint.targets.check import report_targets
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.initial_model import make_model, restore_model, restore_statistics
from graftdet.models.weights.transfer import TransferReport
from graftdet.utils.cli.keyword_flags import arguments_from_keywords
from graftdet.utils.device import default_workers
from graftdet.utils.distributed import Ranks, distribute, process_group
from graftdet.utils.errors import UserError
from graftdet.utils.files import new_run_folder
from graftdet.utils.hyperparameters import Hyperparameters, has_geometric_augmentation
from graftdet.utils.threads import sharing_cores
from graftdet.utils.training.acceleration.batch_size import automatic_batch_size
from graftdet.utils.training.acceleration.preparation import compile_model, prepare_for_training
from graftdet.utils.training.acceleration.step_choice import Work, choose_steps
from graftdet.utils.training.autoanchor import fit_head_anchors
from graftdet.utils.training.divergence.step_guard import StepGuard
from graftdet.utils.training.ema import EpochAverage, ModelEMA
from graftdet.utils.training.epochs import train_epochs
from graftdet.utils.training.fine_tuning import RecipeChoice, WeightsOverwritten, choose_recipe
from graftdet.utils.training.loggers.callback import Callback
from graftdet.utils.training.loggers.trackers import make_loggers
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.results import TrainResult
from graftdet.utils.training.resume import NOT_RECORDED, resolve_options
from graftdet.utils.training.run import Run
from graftdet.utils.training.run_state import EarlyStopping, RunState
from graftdet.utils.training.schedule import Schedule
from graftdet.utils.training.trainer import (
    Trainer,
    freeze_rows,
    seed_everything,
    set_bn_momentum,
    transferred_batch_norms,
)

logger = logging.getLogger("graftdet.train")


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, then train or search for hyperparameters."""
    cli.configure_logging()
    options, checkpoint = resolve_options(make_parser(), argv)
    if search_requested(options):
        check_inputs(options)
        search(options, argv)
    else:
        run_training(options, checkpoint)


def check_inputs(options: Namespace) -> None:
    """Open the dataset and read the model YAML before a search starts the first training.

    Raises:
        UserError: What each training would end with.
    """
    load_plugins(options.plugins)
    check_not_swapped(options.cfg, options.data)
    data = load_data_config(options.data)
    for split in ("train", "val"):
        open_split(data, split, single_class=options.single_cls)
    if options.cfg:
        ModelSpec.read(options.cfg)


def train_model(*, callbacks: Sequence[Callback] = (), **flags: Any) -> TrainResult | None:
    """Train a detector, as `train.py` does.

    Args:
        callbacks: Called after each epoch and at the end; see `graftdet.Callback`.
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
    options.callbacks = callbacks
    return run_training(options, checkpoint)


def run_training(options: Namespace, checkpoint: dict[str, Any] | None) -> TrainResult | None:
    """Train in this process, or in this process of the group that torchrun started."""
    with process_group(options.device) as (ranks, device), sharing_cores(device.type):
        try:
            return train(options, checkpoint, ranks, device)
        except WeightsOverwritten as again:
            options.folder = again.folder
            return train(options, None, ranks, device, again.recipe)


def train(
    options: Namespace, checkpoint: dict[str, Any] | None, ranks: Ranks, device: Device, recipe: str = ""
) -> TrainResult | None:
    """Build the parts in order, then train, validate and save epoch by epoch; continue from `checkpoint` if given."""
    seed_everything(options.seed)
    load_plugins(options.plugins)
    check_not_swapped(options.cfg, options.data)
    graft_distill = graft_epochs(options.graft_distill, options.epochs, (checkpoint or {}).get("epoch", 0))
    check_flags(options.weights, options.teacher, options.into, options.min_transfer, graft_distill, options.set)
    chosen, recipe = recipe, (checkpoint or {}).get("recipe", options.hyp)
    hyperparameters = read_hyperparameters(options, checkpoint)
    data = load_data_config(options.data)
    splits = {name: open_split(data, name, single_class=options.single_cls) for name in ("train", "val")}
    origin = record_data(splits, checkpoint, options.allow_changed_data)
    model, transfer = start_model(options, checkpoint, list(splits["train"].names), round(hyperparameters.anchors))
    report_targets(model, options.target if ranks.is_main and not checkpoint else [])
    teacher = load_teacher(options.teacher, model) if options.teacher else None
    settings = loader_settings(options, model, teacher, ranks, device)
    new = not checkpoint
    start = {"imitate": new and options.imitation_init, "convert_head": new and options.head_init}
    images = partial(plain_images, splits["train"], settings)
    original = start_grafts(model.to(device), options.weights, transfer, images, epochs=graft_distill, **start)
    validate = make_validation(splits["val"], settings, has_geometric_augmentation(vars(hyperparameters)))
    initial = validate(model.to(device)) if not checkpoint and transfer.class_matches and not options.noval else None
    if options.hyp == AUTO_RECIPE and not checkpoint:
        initial_ap = ranks.broadcast(initial.metrics["AP50-95"] if initial else None)
        choice = RecipeChoice(chosen) if chosen else choose_recipe(transfer.fraction, initial_ap, transfer.recipe)
        if choice.reason:
            logger.info(choice)
        recipe, hyperparameters = choice.name, read_hyperparameters(options, None, choice.name)
    train_set, batches = make_batches(splits["train"], hyperparameters, settings, options.epochs, options.multi_scale)
    if not checkpoint and not options.noautoanchor:
        boxes, _, sizes = train_set.annotations()
        transferred = f"model.{len(model.model) - 1}.anchors" in transfer.loaded
        fit_head_anchors(model.head, boxes, sizes, options.img, hyperparameters.anchor_t, transferred)
    restore_statistics(model, transfer, sample_images(train_set, options.img))
    freeze_rows(model.model, options.freeze)
    shape, recorded = (model.channels, options.img, options.img), (checkpoint or {}).get("precision")
    layout = prepare_for_training(model.to(device), device, shape, model.model, model.block_error)
    parts = batches, ranks, layout, recorded
    trainer = make_trainer(model, hyperparameters, transfer, teacher or original, options, *parts)
    stepper, stopping = trainer.stepper, EarlyStopping(options.patience, hyperparameters.patience_smoothing)
    average = EpochAverage(hyperparameters.swa_epochs)
    state = RunState(model, stepper.ema, stepper, stopping, np.zeros(model.nc), transfer.loaded, average)
    if checkpoint:
        state.load_state_dict(checkpoint)
    origin |= {"initial_weights": transfer.weights, "recipe": recipe, "precision": trainer.choice.to_record()}
    origin["hyperparameters"] = hyperparameters
    run = open_run(options, model, state, train_set, origin) if ranks.is_main else None
    if run and initial:
        run.record_initial(initial)
    labels, each = train_set.labels if options.image_weights else None, not options.noval
    validate = partial(validate, losses=ValidationLosses(model.criterion(hyperparameters, options.img)))
    return train_epochs(trainer, state, run, validate, options.epochs, validate_each=each, labels=labels)


def start_model(
    options: Namespace, checkpoint: dict[str, Any] | None, names: list[str], anchors: int
) -> tuple[DetectionModel, TransferReport]:
    """Return the model of the checkpoint, or a new one with its initial weights, and what came over from them."""
    if checkpoint:
        model = restore_model(checkpoint, options.resume, options.data, names)
        return model, TransferReport(checkpoint.get("transferred", []), weights=checkpoint.get("initial_weights", ""))
    flags = {key: getattr(options, key) for key in ("into", "min_transfer", "identity_init")}
    return make_model(options.cfg, options.weights, names, anchors=anchors, **flags)


def loader_settings(
    options: Namespace, model: DetectionModel, teacher: DetectionModel | None, ranks: Ranks, device: Device
) -> LoaderSettings:
    """Complete size and batch size in `options`; return how images are loaded."""
    stride = max(one.size_multiple for one in (model, teacher) if one)
    options.img = image_size(options.img, stride)[0]
    if options.batch_size == -1:
        per_process = automatic_batch_size(model, options.img, device) if ranks.is_main else None
        options.batch_size = ranks.broadcast(per_process) * ranks.world_size
    return LoaderSettings(
        size=options.img,
        stride=stride,
        batch_size=options.batch_size,
        workers=default_workers(device.type) if options.workers is None else options.workers,
        seed=options.seed,
        cache=options.cache,
        rect=options.rect,
        ranks=ranks,
        device=device,
    )


def make_trainer(
    model: DetectionModel,
    hyperparameters: Hyperparameters,
    transfer: TransferReport,
    teacher: DetectionModel | Original | None,
    options: Namespace,
    batches: Loader,
    ranks: Ranks,
    layout: memory_format,
    recorded: Any,
) -> Trainer:
    """Return what trains `model` epoch by epoch: criterion, optimizer, schedule, EMA, precision."""
    device = next(model.parameters()).device
    criterion = model.criterion(hyperparameters, options.img)
    trained, criterion = set_up_distillation(model, criterion, teacher, hyperparameters)
    recipe = hyperparameters.for_run(options.epochs, len(batches), options.batch_size)
    set_bn_momentum(model, recipe.bn_momentum)
    transferred = transfer.loaded_parameters(model)
    optimizer = make_optimizer(trained, recipe.optimizer, recipe, options.batch_size, transferred)
    schedule = Schedule(recipe, options.epochs, len(batches), options.batch_size)
    shape = (options.batch_size // ranks.world_size, model.channels, options.img, options.img)
    work = Work(model, trained, criterion, optimizer, shape, options.epochs * len(batches), device)
    choice = ranks.broadcast(choose_steps(options.amp, work, layout, recorded) if ranks.is_main else None)
    choice.apply(work)
    ema = ModelEMA(model, recipe.ema_decay, recipe.ema_tau, fraction=recipe.ema_fraction)
    parallel = distribute(compile_model(trained, options.compile, device), ranks, device, options.sync_bn)
    guard = StepGuard(options.on_nan, ranks)
    stepper = Stepper(parallel, optimizer, schedule, ema, recipe.clip_norm, choice.scaler(), guard)
    frozen = transferred_batch_norms(model, transfer.loaded) if recipe.freeze_bn else []
    return Trainer(parallel, criterion, batches, stepper, options.seed, ranks, device, choice, frozen)


def open_run(
    options: Namespace, model: DetectionModel, state: RunState, train_set: DetectionDataset, origin: dict[str, Any]
) -> Run:
    """Open the folder of the run, a new one unless it is resumed, and plot the labels of the training set."""
    again, callbacks = options.folder is not None, [*make_loggers(options.logger), *options.callbacks]
    for notice in origin["hyperparameters"].notices():
        logger.warning(notice)
    folder = options.folder or new_run_folder(options.project, options.name, options.exist_ok)
    recorded = {key: value for key, value in vars(options).items() if key not in NOT_RECORDED}
    info = {"yaml": model.yaml_text, "names": model.names, "nc": model.nc, "options": recorded}
    info |= {**origin, "train_images": len(train_set)}
    gentle = gentle_recipe(options, origin["recipe"], origin["hyperparameters"])
    parts = [partial(model_section, model, (options.img, options.img)), partial(dataset_section, options.data)]
    run = Run(folder, info, state, options.epochs, options.save_period, again, gentle, options.plots, parts, callbacks)
    run.plot_labels(*train_set.annotations())
    return run


if __name__ == "__main__":
    cli.run(main)
