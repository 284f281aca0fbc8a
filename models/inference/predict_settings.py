"""The settings of a prediction, with checks of their values."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from graftdet.utils.cli.options import MAX_SIDE
from graftdet.utils.errors import UserError, did_you_mean

MAX_OVERLAP = 0.9  # of two windows: above it an image has hundreds of them


@dataclass(frozen=True)
class PredictSettings:
    """How images become detections.

    Attributes:
        size: longer side, or (height, width), that images are letterboxed into; None: the size the model was trained
            or exported for. A file exported for one size accepts no other.
        conf: lowest score of a detection.
        iou: of two boxes of a class that overlap by a larger IoU, only the better is returned.
        max_det: maximum number of detections per image.
        classes: indices or names of the classes to return; None: all.
        agnostic: boxes of different classes suppress each other, too.
        nms: a method of `graftdet.utils.nms.suppression.METHODS`; None: what the model needs.
        augment: test-time augmentation (`graftdet.models.inference.tta`); slower, needs torch.
        batch_size: maximum number of images per call of the model.
        depth: bits that 16-bit images use.
        slice: side, or (height, width), of overlapping windows of the image in pixels, each of which is one more input
            of the model; None: the whole image only.
        slice_overlap: fraction of a window that it shares with the next one, 0 to `MAX_OVERLAP`.
        multi_label: each class of a box with a score above `conf` is a detection, as validation counts them.

    Raises:
        UserError: a value of another type or out of range.
    """

    size: int | tuple[int, int] | None = None
    conf: float = 0.25
    iou: float = 0.45
    max_det: int = 300
    classes: int | str | Iterable[int | str] | None = None
    agnostic: bool = False
    nms: str | None = None
    augment: bool = False
    batch_size: int = 16
    depth: int = 16
    slice: int | tuple[int, int] | None = None
    slice_overlap: float = 0.2
    multi_label: bool = False

    def __post_init__(self) -> None:
        for name, value in (("conf", self.conf), ("iou", self.iou)):
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
                raise UserError(f"{name}: expected a number from 0 to 1, got {value!r}")
        check_count("max_det", self.max_det)
        check_count("batch_size", self.batch_size)
        if self.slice is not None:
            check_size(self.slice, "slice")
        overlap = self.slice_overlap
        if isinstance(overlap, bool) or not isinstance(overlap, Real) or not 0 <= overlap <= MAX_OVERLAP:
            raise UserError(f"slice_overlap: expected a number from 0 to {MAX_OVERLAP}, got {overlap!r}")
        for name, value in (("agnostic", self.agnostic), ("augment", self.augment)):
            if value not in (True, False):
                raise UserError(f"{name}: expected True or False, got {value!r}")


def check_count(name: str, value: Any) -> None:
    """Raise `UserError` unless a value is a whole number of at least 1."""
    if not is_whole(value) or value < 1:
        raise UserError(f"{name}: expected a whole number of at least 1, got {value!r}")


def check_size(size: Any, name: str = "size") -> tuple[int, int]:
    """Return one side, or height and width, as (height, width).

    Args:
        size: the value to check.
        name: of the value, for messages.

    Raises:
        UserError: `size` is not one or two whole numbers from 1 to `MAX_SIDE`.
    """
    sides = (size, size) if is_whole(size) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(sides) != 2 or not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in sides):
        raise UserError(f"{name} {size!r}: expected one or two whole numbers of at least 1 and at most {MAX_SIDE}")
    return int(sides[0]), int(sides[1])


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of Python or NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def class_indices(classes: int | str | Iterable[int | str] | None, names: list[str]) -> list[int] | None:
    """Class indices of numbers or names; None (all classes) for None.

    Raises:
        UserError: an unknown class; suggests the nearest name.
    """
    if classes is None:
        return None
    indices = []
    classes = classes.tolist() if hasattr(classes, "tolist") else classes  # arrays and tensors
    if not isinstance(classes, Iterable) and not is_whole(classes):
        raise UserError(f"classes: expected numbers or names of classes, got {classes!r}")
    for wanted in [classes] if isinstance(classes, str) or not isinstance(classes, Iterable) else classes:
        text = str(wanted).strip()
        if text in names:
            indices.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            indices.append(int(text))
        else:
            hint = did_you_mean(text, names) or f"; expected 0 to {len(names) - 1} or one of {', '.join(names[:10])}"
            raise UserError(f"class '{text}': the model has no such class{hint}")
    return indices
