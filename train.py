"""Train a detector: `python train.py --cfg yolov5n.yaml --data shapes.yaml --img 320 --epochs 50`.

PROJECT/NAME receives weights/best.pt and weights/last.pt, results.csv, config.yaml and pictures of what was learnt from.
"""

import functools

from graftdet.utils.startup import import_before_torch

if __name__ == "__main__":
    import_before_torch("graftdet.data.dataset_config")

import numpy as np
from graftdet.data.caching.image_cache import CACHES
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.dataset import DetectionDataset
from graftdet.data.loader import train_loader, val_loader
from graftdet.models import ModelSpec, build_model, load_plugins
from graftdet.models.distillation.distiller import load_teacher, set_up_distillation
from graftdet.models.weights.new_row_init import NewRowInit, initialize_new_rows
from graftdet.models.weights.row_transfer import load_into_row
from graftdet.models.weights.transfer import load_into
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils import cli
from graftdet.utils.cli_options import add_run_flags, fraction, image_size
from graftdet.utils.device import default_workers
from graftdet.utils.distributed import distribute, process_group
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import evaluate
from graftdet.utils.files import new_run_folder
from graftdet.utils.hyperparameters import has_geometric_augmentation, load_hyperparameters
from graftdet.utils.progress import Progress
from graftdet.utils.training.acceleration import compiled, fastest_form, mixed_precision
from graftdet.utils.training.autoanchor import fit_head
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import OPTIMIZERS, Stepper, make_optimizer
from graftdet.utils.training.options import check_flags, chosen_values
from graftdet.utils.training.run import Run, absolute, resolve_options
from graftdet.utils.training.run_state import EarlyStopping, RunState
from graftdet.utils.training.schedule import Schedule
from graftdet.utils.training.search import add_search_flags, search, search_asked
from graftdet.utils.training.trainer import (
    freeze_rows,
    picture_weights,
    seed_everything,
    set_bn_momentum,
    train_one_epoch,
)


def main():
    options, checkpoint = resolve_options(make_parser(), free=("device", "workers"))
    if search_asked(options):
        return search(options)
    with process_group(options.device) as (ranks, device):  # one process, or one of those that torchrun started
        train(options, checkpoint, ranks, device)


def train(options, checkpoint, ranks, device):
    """Build the parts in order, then train, measure and save epoch by epoch; from `checkpoint` on when there is one."""
    seed_everything(options.seed)
    load_plugins(options.plugins)
    hyperparameters = load_hyperparameters(
        checkpoint["hyperparameters"] if checkpoint else options.hyp, chosen_values(options)
    )
    for notice in hyperparameters.notices():
        print(notice)
    data = load_data_config(options.data)
    splits = {name: open_split(data, name, single_class=options.single_cls) for name in ("train", "val")}
    model = make_model(options, checkpoint, hyperparameters, splits["train"].names)
    teacher = load_teacher(options.teacher, model) if options.teacher else None
    stride = max(one.size_multiple for one in (model, teacher) if one)
    options.img = image_size(options.img, stride)[0]
    train_set, batches, measure = make_loaders(options, hyperparameters, splits, stride, ranks, device)
    fitted = (
        None
        if checkpoint
        else fit_head(model.head, train_set.boxes, train_set.image_sizes, options.img, hyperparameters.anchor_t)
    )
    if fitted:
        print(fitted)

    # What learns: the model, by its head's loss (and a teacher's), in these steps. Its average is measured and kept.
    freeze_rows(model.model, options.freeze)
    layout = fastest_form(model.to(device), device, (model.channels, stride, stride))
    criterion = model.criterion(hyperparameters, options.img)
    learner, criterion = set_up_distillation(model, criterion, teacher, hyperparameters)
    recipe = hyperparameters.for_run(options.epochs, len(batches), options.batch_size)
    set_bn_momentum(model, recipe.bn_momentum)
    optimizer = make_optimizer(learner, recipe.optimizer, recipe, options.batch_size)
    schedule = Schedule(recipe, options.epochs, len(batches), options.batch_size)
    ema = ModelEMA(model, recipe.ema_decay, recipe.ema_tau, fraction=recipe.ema_fraction)
    mixed, scaler = mixed_precision(options.amp, device)
    parallel = distribute(compiled(learner, options.compile, device), ranks, device, options.sync_bn)
    stepper = Stepper(parallel, optimizer, schedule, ema, hyperparameters.clip_norm, scaler)
    state = RunState(model, ema, stepper, EarlyStopping(options.patience), class_ap=np.zeros(model.nc))
    if checkpoint:
        state.load_state_dict(checkpoint)
    run = start_run(options, hyperparameters, state, train_set) if ranks.is_main else None

    for epoch in range(state.epoch, state.epoch if state.stopping.stop else options.epochs):
        seed_everything(options.seed, epoch + 1, ranks.rank)
        often = picture_weights(train_set.labels, state.class_ap) if options.image_weights else None
        batches.set_epoch(epoch, often)
        with Progress(len(batches), f"epoch {epoch + 1}/{options.epochs}", quiet=not ranks.is_main) as progress:
            trained = train_one_epoch(
                parallel, criterion, batches, stepper, epoch=epoch, batches_per_epoch=len(batches), device=device,
                mixed=mixed, layout=layout, world_size=ranks.world_size, progress=progress,
                on_batch=run and run.draw_batch,
            )  # fmt: skip
        measured = measure(ema.model) if not options.noval or epoch + 1 == options.epochs else None
        if run:
            run.finish_epoch(trained, measured)
        state.class_ap, stop = ranks.share((state.class_ap, state.stopping.stop))
        if stop:
            break
    run.finish(measure) if run else measure(ema.model)  # each process its part


def make_model(options, checkpoint, hyperparameters, names):
    """The model of --cfg for these classes, with --weights in it; or the checkpoint's, when a run goes on."""
    weights = load_weights(options.weights) if options.weights and not checkpoint else None
    check_flags(options)
    if checkpoint:
        spec = ModelSpec.from_text(checkpoint["yaml"], options.resume)
        if list(names) != checkpoint["names"]:
            raise UserError(f"--resume: the classes of {options.data} are no longer those the run was started with")
    elif weights and weights.yaml and not options.cfg:
        spec = ModelSpec.from_text(weights.yaml, options.weights) if isinstance(weights.yaml, str) else weights.yaml
    else:
        spec = options.cfg or "yolov5n.yaml"
    if hyperparameters.anchors and not checkpoint:
        spec = ModelSpec.read(spec).with_anchors(round(hyperparameters.anchors))
    model = build_model(spec, nc=len(names))
    if model.channels != 3:
        raise UserError(
            f"{model.spec.label}: ch is {model.channels}, but pictures are read with 3 channels; leave ch away"
        )
    model.names = list(names)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"model: {model.spec.label}, {len(model.model)} rows, {parameters:,} parameters, {model.nc} classes")
    if weights and options.into:  # of a backbone, as its publishers name them
        print(f"weights: {options.weights} into row {options.into}, {load_into_row(model, options.into, weights)}")
    elif weights:
        report = load_into(model, weights, options.min_transfer)
        print(f"weights: {options.weights}, {report}")
        if report.inserted_rows:
            rows = report.inserted_rows
            print(initialize_new_rows(model, rows) if options.identity_init else NewRowInit(rows))
    return model


def make_loaders(options, hyperparameters, splits, stride, ranks, device):
    """The training set, its batches, and `measure(model)`, which evaluates a model on the validation split."""
    batch_size = options.batch_size // ranks.world_size
    if batch_size * ranks.world_size != options.batch_size:
        raise UserError(
            f"--batch-size {options.batch_size}: counts all {ranks.world_size} processes, which must divide it"
        )
    shares = {"rank": ranks.rank, "world_size": ranks.world_size}
    workers = default_workers(device.type) if options.workers is None else options.workers
    common = {"size": options.img, "stride": stride, "seed": options.seed, "cache": options.cache}
    train_set = DetectionDataset(splits["train"], recipe=hyperparameters, augment=True, rect=options.rect, label="train",
                                 defer_hsv=device.type == "cuda", **common)  # fmt: skip
    batches = train_loader(train_set, batch_size, workers, epochs=options.epochs, multi_scale=options.multi_scale,
                           pin_memory=device.type == "cuda", **shares)  # fmt: skip
    val_set = DetectionDataset(
        splits["val"], rect=options.rect or has_geometric_augmentation(vars(hyperparameters)), label="val", **common
    )
    measure = functools.partial(
        evaluate, loader=val_loader(val_set, 2 * options.batch_size, workers, **shares), ranks=ranks, device=device,
        ground_truth=splits["val"].ground_truth(), category_ids=splits["val"].category_ids, half=device.type == "cuda",
    )  # fmt: skip
    return train_set, batches, measure


def start_run(options, hyperparameters, state, train_set):
    """Make the run's folder and write there what is known before the first epoch."""
    folder = options.folder or new_run_folder(options.project, options.name, options.exist_ok)
    chosen = {key: value for key, value in vars(options).items() if key not in ("resume", "folder")}
    model = state.model
    about = {
        "yaml": model.yaml_text,
        "names": model.names,
        "nc": model.nc,
        "options": chosen,
        "hyperparameters": hyperparameters,
    }
    run = Run(folder, about, state, options.epochs, options.save_period)
    run.draw_labels(train_set.boxes, train_set.labels, train_set.image_sizes)
    return run


def make_parser():
    parser = cli.ArgumentParser(description="Train a detector.")
    flag = parser.add_argument
    flag("--cfg", type=absolute, default="", help="model YAML (that of --weights, else yolov5n.yaml)")
    flag("--weights", type=absolute, default="", help="weights to start from; from scratch without")
    flag(
        "--into",
        default="",
        metavar="ROW",
        help="the row, by index or name, that --weights are of: a backbone's own weights",
    )
    flag("--min-transfer", type=fraction, default=0.0, help="least share of parameters, 0 to 1, they must bring")
    flag(
        "--identity-init",
        action=cli.Switch,
        default=True,
        help="initialize rows inserted into the model of --weights to pass their input through",
    )
    flag("--teacher", type=absolute, default="", help="a .pt file of a better model to learn from, too")
    flag("--data", type=absolute, default="shapes.yaml", help="data set YAML")
    flag("--hyp", type=absolute, default="default.yaml", help="hyperparameters YAML")
    flag("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="hyperparameters that differ")
    flag("--img", "--imgsz", "--img-size", type=cli.at_least(32), default=640, help="longer side of the pictures")
    flag("--epochs", type=cli.at_least(1), default=100)
    flag("--batch-size", "--batch", type=cli.at_least(1), default=16, help="pictures a batch, over all processes")
    flag("--workers", type=cli.at_least(0), help="processes that load pictures (default: by cores)")
    flag(
        "--resume",
        nargs="?",
        const="",
        help="go on with a run: its folder, its last.pt; the newest below --project without",
    )
    flag("--seed", type=cli.at_least(0), default=0)
    flag("--optimizer", choices=OPTIMIZERS, help="instead of that of --hyp")
    flag(
        "--patience", type=cli.at_least(0), default=100, help="stop after so many epochs without a better one; 0: never"
    )
    flag(
        "--freeze",
        type=cli.at_least(0),
        nargs="+",
        default=[],
        help="rows that do not learn: the first N, or those named",
    )
    flag("--cache", nargs="?", const="ram", choices=CACHES, default="auto", help="where to keep decoded pictures")
    flag("--multi-scale", action="store_true", help="another size each batch, 0.5 to 1.5 of --img")
    flag("--single-cls", action="store_true", help="take all classes for one")
    flag("--image-weights", action="store_true", help="draw pictures of badly found classes more often")
    flag("--rect", action="store_true", help="batches of one aspect instead of mosaics")
    flag("--cos-lr", action="store_true", help="let the learning rate fall along a cosine, not a line")
    flag("--sync-bn", action=cli.Switch, default=True, help="batch norm over all processes")
    flag(
        "--save-period",
        type=cli.at_least(0),
        default=0,
        help="keep the weights of every so many epochs; 0: best and last",
    )
    flag("--noval", action="store_true", help="measure after the last epoch only")
    flag("--amp", choices=("auto", "on", "off"), default="auto", help="mixed precision; auto: where it is faster")
    flag("--compile", action="store_true", help="translate the model first: takes minutes, makes long runs shorter")
    add_run_flags(parser, "runs/train")
    add_search_flags(parser)
    return parser


if __name__ == "__main__":
    cli.run(main)
