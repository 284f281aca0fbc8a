"""The settings of a prediction, with checks of their values."""

from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from graftdet.utils.cli.options import MAX_SIDE
from graftdet.utils.errors import UserError


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

    def __post_init__(self) -> None:
        for name, value in (("conf", self.conf), ("iou", self.iou)):
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:
                raise UserError(f"{name}: expected a number from 0 to 1, got {value!r}")
        check_count("max_det", self.max_det)
        check_count("batch_size", self.batch_size)
        for name, value in (("agnostic", self.agnostic), ("augment", self.augment)):
            if value not in (True, False):
                raise UserError(f"{name}: expected True or False, got {value!r}")


def check_count(name: str, value: Any) -> None:
    """Raise `UserError` unless a value is a whole number of at least 1."""
    if not is_whole(value) or value < 1:
        raise UserError(f"{name}: expected a whole number of at least 1, got {value!r}")


def check_size(size: Any) -> tuple[int, int]:
    """Return one side, or height and width, as (height, width).

    Raises:
        UserError: `size` is not one or two whole numbers from 1 to `MAX_SIDE`.
    """
    sides = (size, size) if is_whole(size) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(sides) != 2 or not all(is_whole(side) and 1 <= side <= MAX_SIDE for side in sides):
        raise UserError(f"size {size!r}: expected one or two whole numbers of at least 1 and at most {MAX_SIDE}")
    return int(sides[0]), int(sides[1])


def is_whole(value: Any) -> bool:
    """Whether this is a whole number, of Python or NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)
