"""The numbers of a training recipe: names, types, ranges and defaults, read from YAML.

Names are those of the published YOLOv5 hyperparameter files, which load unchanged. The defaults are the published
recipe for training a small model from scratch; `configs/hyp/yolov5.yaml` spells them out.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from graftdet.utils.config import find_config, load_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean


def trains_in_place(recipe: dict) -> bool:
    """Whether augmentation by `recipe`, values by name, leaves every picture where it is, in a square with borders on the
    same sides each time. A network may learn these borders by heart, so it is measured on the same squares."""
    return not any(recipe.get(key, 1) for key in ("mosaic", "scale", "translate", "degrees", "shear", "perspective"))


def accumulation(batch_size: int, nominal_batch: int = 64) -> int:
    """Over how many batches gradients accumulate once the warm-up is over; 1 where `nominal_batch` is 0."""
    return max(round(nominal_batch / batch_size), 1)


def _number(default, low: float = 0.0, high: float = math.inf):
    """A field whose value lies in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high})


def _choice(default: str, *others: str):
    """A field that is one of some words."""
    return field(default=default, metadata={"choices": (default, *others)})


@dataclass(frozen=True)
class Hyperparameters:
    """A training recipe. Raises `UserError` when a value is outside its range."""

    # optimizer and schedule
    optimizer: str = _choice("SGD", "Adam", "AdamW", "Muon")
    schedule: str = _choice("linear", "cosine", "flat_cosine")  # how the rate falls; flat_cosine: in the second half
    rate_steps: str = _choice("epoch", "batch")  # how often it does
    lr0: float = _number(0.01)  # learning rate after the warm-up
    lr_batch: int = _number(
        0
    )  # pictures a step that lr0 is for; it follows theirs (Adam: the root); 0: lr0 for any number
    lrf: float = _number(0.01)  # the last epoch's learning rate as a share of lr0
    momentum: float = _number(0.937, 0, 0.9999)  # of SGD and Muon, Adam's beta1
    weight_decay: float = _number(0.0005)
    warmup_epochs: float = _number(3.0)
    warmup_share: float = _number(0.0, 0, 1)  # the warm-up as a share of the run; 0: warmup_epochs
    warmup_iterations: int = _number(
        100
    )  # the warm-up lasts at least as many batches as this; none with warmup_epochs 0
    warmup_momentum: float = _number(0.8, 0, 0.9999)
    warmup_bias_lr: float = _number(0.1)
    nominal_batch: int = _number(
        64
    )  # gradients accumulate over round(nominal_batch / batch) batches; 0: a step each batch
    clip_norm: float = _number(10.0)  # largest norm of the gradient, 0: no limit
    norm_momentum: float = _number(0.03, 0, 1)  # share of a batch in the running statistics of norms
    ema_decay: float = _number(0.9999, 0, 1)
    ema_tau: float = _number(2000.0, 1e-6)  # updates over which the averaging decay ramps up
    ema_share: float = _number(0.0, 0, 1)  # the average spans this share of the updates so far; 0: ema_tau
    # loss gains
    box: float = _number(0.05)
    cls: float = _number(0.5)
    cls_pw: float = _number(1.0)  # weight of positives in the class loss
    obj: float = _number(1.0)
    obj_pw: float = _number(1.0)  # weight of positives in the objectness loss
    fl_gamma: float = _number(0.0)  # focal loss gamma, 0: plain cross entropy
    label_smoothing: float = _number(0.0, 0, 1)
    # loss gains of heads without anchors (Detect has its own, above; PicoHead has its paper's)
    free_box: float = _number(7.5)
    free_cls: float = _number(0.5)
    free_dfl: float = _number(1.5)
    # losses of AnchorFreeDetect and OneToOneDetect (models/losses/overlap.py, focal.py)
    free_overlap: str = _choice("ciou", "giou", "siou", "iou")
    free_class: str = _choice("bce", "quality_focal", "varifocal")
    # loss gains of what a --teacher tells, as multiples of that of the head's boxes; 0: not asked
    distill_features: float = _number(1.0)  # the maps that the heads read
    distill_logits: float = _number(1.0)  # scores and boxes
    # matching
    iou_t: float = _number(0.2, 0, 1)  # in every published file, used by none of its code: read and kept
    anchor_t: float = _number(4.0, 1)  # largest ratio of a box's sides to its anchor's
    anchors: float = _number(0.0, 0, 20)  # anchors a level, found by k-means; 0: those of the model's YAML
    # augmentation
    hsv_h: float = _number(0.015, 0, 1)
    hsv_s: float = _number(0.7, 0, 1)
    hsv_v: float = _number(0.4, 0, 1)
    degrees: float = _number(0.0, 0, 180)
    translate: float = _number(0.1, 0, 1)
    scale: float = _number(0.5, 0, 1)
    shear: float = _number(0.0, 0, 89)
    perspective: float = _number(0.0, 0, 0.01)
    flipud: float = _number(0.0, 0, 1)
    fliplr: float = _number(0.5, 0, 1)
    mosaic: float = _number(1.0, 0, 1)
    mixup: float = _number(0.0, 0, 1)
    copy_paste: float = _number(0.0, 0, 1)  # needs masks: without effect here, where there are boxes only
    close_mosaic: float = _number(0)  # the last epochs, trained without mosaic and mixup; below 1: a share of all

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = to_number(getattr(self, item.name), item.type, item.name)
            object.__setattr__(self, item.name, value)
            if "choices" in item.metadata:
                self._choose(item.name, value, item.metadata["choices"])
                continue
            low, high = item.metadata["low"], item.metadata["high"]
            if not low <= value <= high or not math.isfinite(value):
                span = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
                raise UserError(f"{item.name}: expected a number {span}, got {value:g}")

    def _choose(self, name: str, value: str, choices: tuple[str, ...]):
        by_lower = {choice.lower(): choice for choice in choices}
        if value.lower() not in by_lower:
            raise UserError(
                f"{name}: expected one of {', '.join(choices)}, got '{value}'{did_you_mean(value, choices)}"
            )
        object.__setattr__(self, name, by_lower[value.lower()])

    def for_run(self, epochs: int, batches: int, batch_size: int) -> "Hyperparameters":
        """These values with shares of the run and of the batch worked out, for `epochs` of `batches` of `batch_size`."""
        pictures = batch_size * accumulation(batch_size, self.nominal_batch)
        changes = {"nominal_batch": self.nominal_batch or batch_size}
        if self.lr_batch:
            changes["lr0"] = self.lr0 * (pictures / self.lr_batch) ** (1 if self.optimizer == "SGD" else 0.5)
        if self.warmup_share:
            changes["warmup_epochs"] = self.warmup_share * epochs
            changes["warmup_iterations"] = min(self.warmup_iterations, round(0.1 * epochs * batches))
        return dataclasses.replace(
            self, lr_batch=0, warmup_share=0, close_mosaic=self.closing_epochs(epochs), **changes
        )

    def closing_epochs(self, epochs: int) -> int:
        """How many of the last of `epochs` go without mosaic and mixup."""
        return round(self.close_mosaic * epochs) if self.close_mosaic < 1 else round(self.close_mosaic)

    def as_dict(self) -> dict[str, float | int | str]:
        """All values by name: plain numbers, ready for a YAML or a checkpoint."""
        return dataclasses.asdict(self)

    def notices(self) -> list[str]:
        """What a user should know about these values, a line each."""
        if self.copy_paste > 0:
            return [
                f"copy_paste={self.copy_paste:g} has no effect: it pastes by masks, and boxes are all there is here"
            ]
        return []


def load_hyperparameters(name_or_path: str | Path | dict, overrides: Iterable[str] = ()) -> Hyperparameters:
    """Read a recipe from a YAML (path, or bare name in `configs/hyp`) or a mapping; `overrides` are 'lr0=0.02' words.

    Keys that the file leaves out keep their defaults. Raises `UserError` for an unknown key (with the nearest known
    one), a value of another type or a value outside its range, naming the file or the override.
    """
    if isinstance(name_or_path, dict):
        where, values = "hyperparameters", name_or_path
    else:
        where = find_config(name_or_path, "hyp")
        values = load_yaml(where)
    values = {key: check_value(f"{where}: ", key, value) for key, value in values.items()}
    for word in overrides:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--set {word}: expected KEY=VALUE, for example lr0=0.02")
        values[key.strip()] = check_value("--set ", key.strip(), value.strip())
    return Hyperparameters(**values)


def check_value(where: str, key: str, value):
    """Return `value` as the type of hyperparameter `key`, in its range. Raises `UserError` that starts with `where`."""
    kind_of(where, key)
    try:
        return getattr(Hyperparameters(**{key: value}), key)
    except UserError as error:
        raise UserError(f"{where}{error}") from None


def kind_of(where: str, key: str) -> type:
    """The type of hyperparameter `key`: float, int or str. Raises `UserError` that starts with `where` for unknown ones."""
    kinds = {item.name: item.type for item in dataclasses.fields(Hyperparameters)}
    if key not in kinds:
        raise UserError(f"{where}unknown hyperparameter '{key}'{did_you_mean(str(key), kinds)}")
    return kinds[key]
