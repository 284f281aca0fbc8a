"""Hyperparameters: every key of a training recipe with its default, range and meaning; read from YAML.

The defaults of the dataclass are the published YOLOv5 recipe; `configs/hyp/yolov5.yaml` spells them out.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftdet.utils.config import find_config, load_yaml, to_number
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.hyperparameter_names import COMMON_NAMES, current_keys, with_current_keys

_STRENGTHS = ("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective")
_GEOMETRIC = ("mosaic", "scale", "translate", "degrees", "shear", "perspective")


def has_geometric_augmentation(recipe: Mapping[str, object]) -> bool:
    """Whether augmentation with `recipe` (values by key; a missing key counts as on) moves or scales image content.

    Without it every image is letterboxed to the same square with the same borders each epoch. A network may overfit to
    these borders, so it is validated with square letterboxing, too.
    """
    return any(recipe.get(key, 1) for key in _GEOMETRIC)


def accumulation(batch_size: int, nominal_batch: int = 64) -> int:
    """The number of batches over which gradients accumulate after the warm-up; 1 where `nominal_batch` is 0."""
    return max(round(nominal_batch / batch_size), 1)


def _number(default: float, low: float = 0.0, high: float = math.inf, *, about: str):
    """A field whose value lies in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high, "about": about})


def _choice(default: str, *others: str, about: str):
    """A field with one of several names as its value."""
    return field(default=default, metadata={"choices": (default, *others), "about": about})


@dataclass(frozen=True)
class Hyperparameters:
    """A training recipe. Raises `UserError` when a value is outside its range.

    Each field's metadata holds "about", its meaning in one line, and "low" and "high" or "choices".
    """

    optimizer: str = _choice("SGD", "Adam", "AdamW", "Muon", about="optimizer")
    schedule: str = _choice(
        "linear",
        "cosine",
        "flat_cosine",
        about="learning rate decay; flat_cosine: cosine over the second half of the run",
    )
    lr_update: str = _choice("epoch", "batch", about="how often the decay updates the learning rate")
    lr0: float = _number(0.01, about="learning rate after the warm-up")
    transferred_lr: float = _number(
        1.0, 0, 1, about="learning rate of parameters that come from --weights, as a fraction of lr0"
    )
    lr_batch: int = _number(
        0,
        about="images per step that lr0 is for; lr0 is scaled linearly for SGD, by the square root for the others; "
        "0: lr0 is never scaled",
    )
    lrf: float = _number(0.01, about="final learning rate as a fraction of lr0")
    momentum: float = _number(0.937, 0, 0.9999, about="momentum of SGD and Muon, beta1 of Adam and AdamW")
    weight_decay: float = _number(0.0005, about="weight decay of weights (not of biases and normalization layers)")
    warmup_epochs: float = _number(3.0, about="length of the warm-up [epochs]; 0: no warm-up")
    warmup_fraction: float = _number(
        0.0, 0, 1, about="length of the warm-up as a fraction of the run; 0: warmup_epochs"
    )
    warmup_iterations: int = _number(100, about="minimum length of the warm-up [batches]")
    warmup_momentum: float = _number(0.8, 0, 0.9999, about="momentum of SGD at the start of the warm-up")
    warmup_bias_lr: float = _number(0.1, about="learning rate of biases at the start of the warm-up (SGD only)")
    nominal_batch: int = _number(
        64, about="gradients accumulate over round(nominal_batch / batch size) batches; 0: one step per batch"
    )
    clip_norm: float = _number(10.0, about="maximum norm of the gradient; 0: no clipping")
    bn_momentum: float = _number(0.03, 0, 1, about="momentum of the running statistics of batch norm")
    freeze_bn: int = _number(
        0, 0, 1, about="1: batch norms that come from --weights use their running statistics, which do not change"
    )
    ema_decay: float = _number(0.9999, 0, 1, about="decay of the exponential moving average (EMA) of the weights")
    ema_tau: float = _number(2000.0, 1e-6, about="time constant of the ramp-up of the EMA decay [steps]")
    ema_fraction: float = _number(
        0.0, 0, 1, about="the EMA spans this fraction of all steps so far, at most ema_decay; 0: ramp-up by ema_tau"
    )
    swa_epochs: int = _number(
        0,
        about="consecutive epochs of the highest mean AP whose weights are averaged at the end; they become best.pt "
        "if they are the best; 0: off",
    )
    patience_smoothing: int = _number(
        0,
        about="epochs whose mean AP --patience waits for to improve; the best weights then become last.pt, too; "
        "0: the AP of single epochs",
    )
    box: float = _number(0.05, about="gain of the box loss (Detect)")
    cls: float = _number(0.5, about="gain of the class loss (Detect)")
    cls_pw: float = _number(1.0, about="weight of positives in the class loss (Detect)")
    obj: float = _number(1.0, about="gain of the objectness loss (Detect)")
    obj_pw: float = _number(1.0, about="weight of positives in the objectness loss (Detect)")
    fl_gamma: float = _number(0.0, about="gamma of the focal loss; 0: binary cross entropy (Detect)")
    label_smoothing: float = _number(0.0, 0, 1, about="label smoothing of the class loss (Detect)")
    af_box: float = _number(7.5, about="gain of the box loss (AnchorFreeDetect, OneToOneDetect)")
    af_cls: float = _number(0.5, about="gain of the class loss (AnchorFreeDetect, OneToOneDetect)")
    af_dfl: float = _number(1.5, about="gain of the distribution focal loss (AnchorFreeDetect, OneToOneDetect)")
    af_foreground: float = _number(0.5, about="gain of the foreground loss (OneToOneDetect with foreground)")
    o2o_shift: float = _number(
        0.0,
        0,
        1,
        about="weight that moves from one-to-many to one-to-one losses: 1 + o2o_shift to 1 - o2o_shift in the course "
        "of the run, and the reverse (OneToOneDetect, for detach: False)",
    )
    af_iou_loss: str = _choice("ciou", "giou", "siou", "iou", about="box loss (AnchorFreeDetect, OneToOneDetect)")
    af_cls_loss: str = _choice(
        "bce", "quality_focal", "varifocal", about="class loss (AnchorFreeDetect, OneToOneDetect)"
    )
    distill_features: float = _number(
        1.0, about="gain of feature distillation with --teacher, relative to the gain of the box loss; 0: off"
    )
    distill_logits: float = _number(
        1.0, about="gain of score and box distillation with --teacher, relative to the gain of the box loss; 0: off"
    )
    distill_grafts: float = _number(
        1.0, about="gain of the errors of grafted rows with --graft-distill, relative to the gain of the box loss"
    )
    iou_t: float = _number(0.2, 0, 1, about="read from published files, without effect")
    anchor_t: float = _number(4.0, 1, about="maximum ratio between the sides of a target and of a matching anchor")
    anchors: float = _number(
        0.0, 0, 20, about="anchors per level, computed by k-means; 0: the anchors of the model YAML"
    )
    hsv_h: float = _number(0.015, 0, 1, about="maximum change of hue, as a fraction of the color circle")
    hsv_s: float = _number(0.7, 0, 1, about="maximum relative change of saturation")
    hsv_v: float = _number(0.4, 0, 1, about="maximum relative change of brightness")
    degrees: float = _number(0.0, 0, 180, about="maximum rotation [degrees]")
    translate: float = _number(0.1, 0, 1, about="maximum translation, as a fraction of the image size")
    scale: float = _number(0.5, 0, 1, about="maximum relative change of scale")
    shear: float = _number(0.0, 0, 89, about="maximum shear [degrees]")
    perspective: float = _number(0.0, 0, 0.01, about="maximum perspective coefficient")
    flipud: float = _number(0.0, 0, 1, about="probability of a vertical flip")
    fliplr: float = _number(0.5, 0, 1, about="probability of a horizontal flip")
    mosaic: float = _number(1.0, 0, 1, about="probability of a mosaic of four images")
    mixup: float = _number(0.0, 0, 1, about="probability of mixup, among mosaics")
    cutmix: float = _number(0.0, 0, 1, about="probability of a rectangle of another image, with its boxes")
    copy_blend: float = _number(0.0, 0, 1, about="probability of copies of up to five objects of another image")
    box_crop: float = _number(0.0, 0, 1, about="probability of a crop around objects, of images without mosaic")
    blur: float = _number(0.0, 0, 1, about="probability of a blur, out of focus or by motion")
    noise: float = _number(0.0, 0, 1, about="probability of noise")
    jpeg: float = _number(0.0, 0, 1, about="probability of a JPEG compression of low quality")
    copy_paste: float = _number(0.0, 0, 1, about="without effect: needs segmentation masks (copy_blend does not)")
    late_augmentation: float = _number(
        0.0,
        about="increase of the strength of hue, saturation, brightness, geometry and translation in the second "
        "half of the run, linear up to this fraction at its end; 0: constant",
    )
    close_mosaic: float = _number(
        0, about="last epochs without mosaic, mixup, cutmix, copy_blend [epochs]; below 1: a fraction of the run"
    )

    def __post_init__(self):
        for item in dataclasses.fields(self):
            value = to_number(getattr(self, item.name), item.type, item.name)
            if "choices" in item.metadata:
                value = _one_of(item.name, value, item.metadata["choices"])
            elif not item.metadata["low"] <= value <= item.metadata["high"] or not math.isfinite(value):
                low, high = item.metadata["low"], item.metadata["high"]
                span = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
                raise UserError(f"{item.name}: expected a number {span}, got {value:g}")
            object.__setattr__(self, item.name, value)

    def for_run(self, epochs: int, batches: int, batch_size: int) -> "Hyperparameters":
        """Resolve fractions of the run and values per batch.

        Args:
            epochs: length of the run.
            batches: batches per epoch.
            batch_size: images per batch, over all processes.

        Returns:
            Equal values with `lr0`, `nominal_batch`, the warm-up and `close_mosaic` of this run.
        """
        images = batch_size * accumulation(batch_size, self.nominal_batch)  # per step
        changes: dict[str, Any] = {"nominal_batch": self.nominal_batch or batch_size}
        if self.lr_batch:
            changes["lr0"] = self.lr0 * (images / self.lr_batch) ** (1 if self.optimizer == "SGD" else 0.5)
        if self.warmup_fraction:
            changes["warmup_epochs"] = self.warmup_fraction * epochs
            changes["warmup_iterations"] = min(self.warmup_iterations, round(0.1 * epochs * batches))
        return dataclasses.replace(
            self, lr_batch=0, warmup_fraction=0, close_mosaic=self.closing_epochs(epochs), **changes
        )

    def closing_epochs(self, epochs: int) -> int:
        """The number of last epochs, out of `epochs`, without mosaic and mixup."""
        return round(self.close_mosaic * epochs) if self.close_mosaic < 1 else round(self.close_mosaic)

    @functools.lru_cache(maxsize=8)  # noqa: B019  # asked for each image
    def at(self, progress: float) -> "Hyperparameters":
        """Values with the strength of the augmentation at a time of the run (`late_augmentation`).

        Args:
            progress: completed fraction of the run, 0..1.
        """
        factor = 1 + self.late_augmentation * max(2 * progress - 1, 0)
        if factor == 1:
            return self
        highest = {item.name: item.metadata["high"] for item in dataclasses.fields(self) if item.name in _STRENGTHS}
        changes = {name: min(getattr(self, name) * factor, high) for name, high in highest.items()}
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, float | int | str]:
        """All values by key: plain numbers and strings, ready for a YAML file or a checkpoint."""
        return dataclasses.asdict(self)

    def notices(self) -> list[str]:
        """What a user should know about these values, one line each."""
        if self.copy_paste > 0:
            return [
                f"copy_paste={self.copy_paste:g} has no effect: it needs segmentation masks, datasets here have boxes; "
                "copy_blend copies objects by their boxes"
            ]
        return []


def load_hyperparameters(name_or_path: str | Path | dict, overrides: Iterable[str] = ()) -> Hyperparameters:
    """Read a recipe. Keys that are not given have the defaults of `Hyperparameters`.

    Args:
        name_or_path: a YAML file, the name of one in `configs/hyp`, or the values of a checkpoint by key.
        overrides: further values such as "lr0=0.02", which win.

    Raises:
        UserError: an unknown key (with the nearest known one), a value of another type or outside its range; the
            message names the file or the override.
    """
    if isinstance(name_or_path, dict):
        values = _converted("hyperparameters: ", with_current_keys(name_or_path))
    else:
        path = find_config(name_or_path, "hyp")
        values = _converted(f"{path}: ", current_keys(load_yaml(path), f"{path}: "))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: expected KEY=VALUE, for example lr0=0.02")
        values |= _converted("--set ", current_keys({key.strip(): value.strip()}, "--set "))
    return Hyperparameters(**values)


def check_hyperparameter(location: str, key: str, value: object) -> Any:
    """Convert `value` to the type of hyperparameter `key` and check its range.

    Raises:
        UserError: unknown key or invalid value; the message starts with `location`.
    """
    type_of(location, key)
    try:
        values: dict[str, Any] = {key: value}
        return getattr(Hyperparameters(**values), key)
    except UserError as error:
        raise UserError(f"{location}{error}") from None


def type_of(location: str, key: str) -> type:
    """The type of hyperparameter `key`: float, int or str.

    Raises:
        UserError: unknown key; the message starts with `location` and names the nearest known key.
    """
    types: dict[str, Any] = {item.name: item.type for item in dataclasses.fields(Hyperparameters)}
    if key not in types:
        hint = f"; did you mean '{COMMON_NAMES[key]}'?" if key in COMMON_NAMES else did_you_mean(str(key), types)
        raise UserError(f"{location}unknown hyperparameter '{key}'{hint}")
    return types[key]


def _converted(location: str, values: dict) -> dict:
    return {key: check_hyperparameter(location, key, value) for key, value in values.items()}


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The one of `choices` that `value` is, whatever the case."""
    by_lower = {choice.lower(): choice for choice in choices}
    if value.lower() not in by_lower:
        raise UserError(f"{name}: expected one of {', '.join(choices)}, got '{value}'{did_you_mean(value, choices)}")
    return by_lower[value.lower()]
