"""Flags of train.py: what and how to train, hyperparameters given as flags, flags that depend on others."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graftdet.utils import cli
from graftdet.utils.cli.options import TARGETS, fraction
from graftdet.utils.cli.yolov5_flags import published_hyperparameters
from graftdet.utils.config import load_yaml
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters, load_hyperparameters
from graftdet.utils.training.fine_tuning import DEFAULT_RECIPE, GENTLE

AUTO_WEIGHTS, NO_WEIGHTS = "auto", "none"  # values of --weights beside files and names
LOGGERS = ("csv", "tensorboard", "mlflow", "wandb", "trackio")
OPTIMIZERS = ("SGD", "Adam", "AdamW", "Muon")
ON_NAN = ("stop", "skip", "rollback")
AUTO_RECIPE = "auto"  # value of --hyp beside files and names
_MODEL_KEYS, _DATASET_KEYS = {"backbone", "head"}, {"train", "val", "test", "path", "names"}


class _InitialWeights(argparse.Action):
    """--weights; given again behind a pair of --weights and --into, it waits in `into` for its own --into."""

    def __call__(self, parser, namespace, values, option_string=None):
        if namespace.into and namespace.weights != AUTO_WEIGHTS:
            namespace.into += f",={values}"
        else:
            namespace.weights = values


class _Into(argparse.Action):
    """--into: rows for --weights, or `rows=file` behind a comma for further files."""

    def __call__(self, parser, namespace, values, option_string=None):
        pairs, _, waiting = namespace.into.rpartition(",")
        namespace.into = f"{pairs},{values}{waiting}" if waiting.startswith("=") else values


def rows_and_files(into: str, weights: str) -> list[tuple[str, str]]:
    """Split the value of --into, such as `0-9` or `0-9,12=attention.pth`.

    Args:
        into: Rows, then pairs of rows and the file that is for them.
        weights: The file for rows without one.

    Returns:
        Rows and file of each part.

    Raises:
        UserError: If rows or a file are missing.
    """
    pairs = []
    for part in into.split(",") if into else ():
        rows, equals, file = part.partition("=")
        if not rows:
            raise UserError(f"--weights {file}: no --into follows; each file but one of a whole model needs its rows")
        if equals and not file:
            raise UserError(f"--into {part}: expected a file behind '=', such as {rows}=backbone.pth")
        pairs.append((rows, file or weights))
    return pairs


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what to train: model, initial weights, teacher, dataset, hyperparameters."""
    flag = parser.add_argument
    flag("--cfg", type=path_or_name, default="", help="model YAML (default: that of --weights, else yolov5n.yaml)")
    flag(
        "--weights",
        type=initial_weights,
        action=_InitialWeights,
        default=AUTO_WEIGHTS,
        help="initial weights: a file, a name that `graftdet weights` lists, none (train from scratch), or auto (those "
        "listed that fit the model, else none)",
    )
    flag(
        "--into",
        action=_Into,
        default="",
        metavar="ROW",
        help="row, by index or name, or rows (0-9), that --weights are for: those of a backbone; pairs of --weights "
        "and --into may be repeated",
    )
    flag(
        "--min-transfer",
        type=fraction,
        default=0.0,
        help="minimum fraction of the parameters, 0 to 1, that --weights must provide",
    )
    flag(
        "--identity-init",
        action=cli.Switch,
        default=True,
        help="initialize rows inserted into the model of --weights to pass their input through",
    )
    flag(
        "--imitation-init",
        action=cli.Switch,
        default=True,
        help="initialize rows that replace rows of the model of --weights to imitate them on training images",
    )
    flag(
        "--head-init",
        action=cli.Switch,
        default=False,
        help="initialize a head of another kind than that of --weights to imitate it on training images",
    )
    flag(
        "--graft-distill",
        type=cli.at_least(0.0, float),
        nargs="?",
        const=0.1,
        default=0.0,
        metavar="EPOCHS",
        help="let rows that replace rows of the model of --weights learn from them in the first epochs; below 1: a "
        "fraction of the run (without a value: 0.1)",
    )
    flag("--teacher", type=path_or_name, default="", help="weights of a larger model for distillation")
    flag("--data", type=path_or_name, default="shapes.yaml", help="data YAML: a path or a name in configs/data")
    flag(
        "--hyp",
        type=hyperparameters_name,
        default=AUTO_RECIPE,
        help="hyperparameters YAML; auto: one for fine-tuning if --weights bring half of the model, else default.yaml",
    )
    flag("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="hyperparameters to override")


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to train: length, optimizer, sampling, validation, precision, resuming."""
    flag = parser.add_argument
    flag("--epochs", type=cli.at_least(1), default=100, help="number of epochs")
    about = "images per batch, over all processes; -1: what fits into the memory of a CUDA device"
    flag("--batch-size", "--batch", type=batch_size, default=16, help=about)
    flag("--workers", type=cli.at_least(0), help="processes that load images (default: depends on the CPU cores)")
    flag(
        "--resume",
        nargs="?",
        const="",
        help="resume a run: its folder or its last.pt (without a value: the newest run below --project)",
    )
    about = "resume although images or labels were added, removed or changed since the run was started"
    flag("--allow-changed-data", action="store_true", help=about)
    about = (
        "what to do where the loss or gradients are not finite: end the run, skip the batch (at most 10 in a row), or "
        "return to the last good checkpoint and halve the learning rate (at most 3 times); can change with --resume"
    )
    flag("--on-nan", choices=ON_NAN, default="stop", help=about)
    flag("--seed", type=cli.at_least(0), default=0, help="seed of all random generators")
    flag("--optimizer", choices=OPTIMIZERS, help="optimizer (default: that of --hyp)")
    flag(
        "--patience",
        type=cli.at_least(0),
        default=100,
        help="stop after this number of epochs without improvement; 0: never",
    )
    flag(
        "--freeze",
        type=cli.at_least(0),
        nargs="+",
        default=[],
        help="rows to freeze: one number for the first N, several for these rows",
    )
    flag("--multi-scale", action="store_true", help="change the image size in each batch, 0.5 to 1.5 times --img")
    flag("--single-cls", action="store_true", help="treat all classes as one")
    flag("--image-weights", action="store_true", help="sample images with classes of low AP more often")
    flag("--rect", action="store_true", help="train on batches of one aspect ratio instead of mosaics")
    flag("--cos-lr", action="store_true", help="cosine instead of linear learning rate decay")
    flag("--sync-bn", action=cli.Switch, default=True, help="synchronize batch norm over all processes")
    flag(
        "--save-period",
        type=save_period,
        default=0,
        help="save the weights every N epochs, too; 0: only the best and the last",
    )
    flag("--noautoanchor", action="store_true", help="leave the anchors as they are, even if they do not fit the data")
    flag("--noval", action="store_true", help="validate after the last epoch only")
    flag(
        "--amp",
        choices=("auto", "on", "off"),
        default="auto",
        help="mixed precision: float16 on CUDA, bfloat16 on CPUs; auto: on CPUs what is fastest in a few timed steps",
    )
    about = "experiment trackers beside results.csv (offline unless their own settings say otherwise): "
    flag("--logger", nargs="+", choices=LOGGERS, default=[], metavar="NAME", help=about + ", ".join(LOGGERS))
    about = "warn before the first epoch about rows that these targets of deployment cannot take: "
    flag("--target", nargs="+", choices=TARGETS, default=[], metavar="NAME", help=about + ", ".join(TARGETS))
    flag("--compile", action="store_true", help="compile the model before training: takes minutes, for long runs")
    parser.set_defaults(callbacks=())  # of train_model, which has no flag for them


def hyperparameters_name(name: str) -> str:
    """Return the value of --hyp as `path_or_name`; published names of files that are not here stand for ours."""
    return path_or_name(name) if Path(name).is_file() else published_hyperparameters(name)


def batch_size(text: str) -> int:
    """Return a number of images of at least 1, or -1; the `type` of an argument of argparse."""
    return -1 if text.strip() == "-1" else int(cli.at_least(1)(text))


def save_period(text: str) -> int:
    """Return a number of epochs; -1 means 0. The `type` of an argument of argparse."""
    return 0 if text.strip() == "-1" else int(cli.at_least(0)(text))


def path_or_name(name: str) -> str:
    """Return `name` as an absolute path if it is an existing file, else unchanged (the name of a file in configs/)."""
    return str(Path(name).resolve()) if Path(name).is_file() else name


def initial_weights(name: str) -> str:
    """Return the value of --weights: as `path_or_name` does, "none" for an empty text."""
    return path_or_name(name) if name else NO_WEIGHTS


def hyperparameter_overrides(optimizer: str | None, cos_lr: bool, values: Sequence[str]) -> list[str]:
    """Return hyperparameters given as flags (--optimizer, --cos-lr, --set) as KEY=VALUE."""
    overrides = [f"optimizer={optimizer}"] if optimizer else []
    return [*overrides, *["schedule=cosine"] * cos_lr, *values]


def read_hyperparameters(
    options: argparse.Namespace, checkpoint: Mapping[str, Any] | None, recipe: str = DEFAULT_RECIPE
) -> Hyperparameters:
    """Return the recipe of the checkpoint, or of `--hyp` (auto: `recipe`), with the values of the command line."""
    overrides = hyperparameter_overrides(options.optimizer, options.cos_lr, options.set)
    name = recipe if options.hyp == AUTO_RECIPE else options.hyp
    return load_hyperparameters(checkpoint["hyperparameters"] if checkpoint else name, overrides)


def gentle_recipe(options: argparse.Namespace, recipe: str, hyperparameters: Hyperparameters) -> str:
    """Return the recipe to start again with where `recipe` overwrites what the initial weights know; "": none."""
    gentle = GENTLE.get(recipe, "") if options.hyp == AUTO_RECIPE else ""
    if gentle and read_hyperparameters(options, None, gentle).transferred_lr >= hyperparameters.transferred_lr:
        return ""  # --set decides
    return gentle


def check_not_swapped(cfg: str, data: str) -> None:
    """Raise `UserError` if --cfg is the YAML of a dataset, or --data that of a model."""
    model, dataset = (set(load_yaml(name)) if name and Path(name).is_file() else set() for name in (cfg, data))
    wrong = [
        f"--cfg {cfg}: is a dataset YAML" if not model & _MODEL_KEYS and model & _DATASET_KEYS else "",
        f"--data {data}: is a model YAML" if dataset & _MODEL_KEYS else "",
    ]
    if any(wrong):
        found = ", ".join(filter(None, wrong))
        raise UserError(f"{found}; --cfg takes the model and --data the dataset" + "; swap them" * all(wrong))


def graft_epochs(value: float, epochs: int, completed: int = 0) -> int:
    """The number of first epochs that a value of --graft-distill stands for; 0 where they are over.

    Args:
        value: The value: a number of epochs, below 1 a fraction of the run; 0: none.
        epochs: Length of the run.
        completed: Epochs of a resumed run.
    """
    count = round(value) if value >= 1 else max(round(value * epochs), value > 0)
    return min(count, epochs) if completed < count else 0


def check_flags(
    weights: str, teacher: str, into: str, min_transfer: float, graft_distill: float, values: Sequence[str]
) -> None:
    """Check flags that depend on others.

    Raises:
        UserError: If --into, --min-transfer or --graft-distill is given without --weights, two flags exclude each
            other, or distill_... is given with --set, but no --teacher or --graft-distill.
    """
    if graft_distill and (weights == NO_WEIGHTS or into):
        raise UserError("--graft-distill: needs --weights of a whole model, whose rows are the teachers")
    if graft_distill and teacher:
        raise UserError("--graft-distill: cannot be combined with --teacher; remove one of them")
    if (into or min_transfer) and weights in (AUTO_WEIGHTS, NO_WEIGHTS):
        raise UserError(f"--{'into' if into else 'min-transfer'}: needs --weights, which are not given")
    rows_and_files(into, weights)
    if into and min_transfer:
        raise UserError("--min-transfer: applies to a whole model, --into to one row; remove one of them")
    for value in values:
        if value.startswith("distill_grafts"):
            if not graft_distill:
                raise UserError(f"--set {value}: needs --graft-distill, which is not given")
        elif value.startswith("distill_") and not teacher:
            raise UserError(f"--set {value}: needs a --teacher, which is not given")
