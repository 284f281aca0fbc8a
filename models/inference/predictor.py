"""From pictures to detections, the same way whatever runs the model. NumPy and OpenCV only, no torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
from graftdet.models.inference.detections import Detections
from graftdet.models.inference.tta import Augmented
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.io import read_image
from graftdet.utils.images.letterbox import letterbox, to_chw, unletterbox
from graftdet.utils.nms.suppression import default_method, select_detections


class Predictor(ABC):
    """Anything that maps images (B, 3, H, W) to decoded boxes and scores, with what belongs to it.

    A subclass sets `names`, `stride` (the largest, pixels), `fixed_size` ((h, w) or None where any multiple of the
    stride is taken) and `needs_nms` (False where it gives each object one box), and defines `__call__(images)`: RGB,
    uint8 0..255 or float 0..1, numpy or torch, to boxes (B, N, 4) xyxy in pixels of the input and scores (B, N, nc).
    """

    names: list[str]
    names_known: bool = True  # False where the file has none and they were made up
    stride: int
    half: bool = False  # whether it computes in float16 or bfloat16
    backend: str = "torch"  # what runs it
    fixed_size: tuple[int, int] | None = None
    needs_nms: bool = True
    train_size: int = 640
    square_letterbox: bool = (
        False  # whether it was trained on square_letterbox alone (`graftdet.models.weights.weights_file.WeightsFile`)
    )

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    @abstractmethod
    def __call__(self, images):
        """RGB (B, 3, H, W) -> boxes (B, N, 4) xyxy in pixels of the input, scores (B, N, nc)."""

    def likely(self, images, conf: float) -> list[tuple]:
        """`self(images)` as a pair (boxes (n, 4), scores (n, nc)) a picture. A subclass may leave out boxes of which it
        knows cheaply that no score is above `conf`."""
        return list(zip(*self(images), strict=True))

    def predict(self, images, **asked) -> list[Detections]:
        """Detect in a picture or a list of them; each is a path or an array (H, W, 3) uint8 BGR, as OpenCV has it.

        `asked` is what `steps` takes. Returns one `Detections` a picture, in order. Raises `UserError` for an unreadable
        picture, an array of another kind, or an unknown class.
        """
        prepare, infer, finish = self.steps(**asked)
        return finish(infer(prepare(images)))

    def steps(
        self,
        size: int | tuple[int, int] | None = None,
        conf: float = 0.25,
        iou: float = 0.45,
        max_det: int = 300,
        classes: Iterable[int | str] | None = None,
        agnostic: bool = False,
        nms: str | None = None,
        augment: bool = False,
        batch_size: int = 16,
    ) -> tuple[Callable, Callable, Callable]:
        """The three steps of `predict`, each called with what the one before returns: pictures are prepared, the model
        looks at them, and what it says becomes `Detections`. They share nothing that changes, so each may work on
        other pictures at the same time, in a thread of its own.

        Args:
            size: the longer side, or (height, width), that pictures are fitted into; None is the size the model was
                made for. A file exported for one size takes no other.
            conf: least score. iou: above this overlap the weaker of two boxes of a class goes.
            max_det: most detections a picture. classes: indices or names to keep. agnostic: boxes of different
            classes compete too. nms: a word of `graftdet.utils.nms.suppression.METHODS` instead of what the model needs.
            augment: test-time augmentation (`graftdet.models.inference.tta`), slower and needs torch. batch_size: pictures at once.
        """
        frame = self.input_size(size)
        looks = Augmented(self) if augment else self
        how = {"conf": conf, "iou": iou, "max_det": max_det, "agnostic": agnostic}
        how |= {"classes": class_indices(classes, self.names), "method": nms or default_method(looks)}

        def prepare(images) -> tuple[list[_Fitted], list[tuple[list[int], np.ndarray]]]:
            fitted = [_fit(image, frame, self.stride, auto=self.fixed_size is None) for image in _as_list(images)]
            groups = _groups([one.picture.shape for one in fitted], batch_size)
            return fitted, [(group, np.stack([to_chw(fitted[i].picture) for i in group])) for group in groups]

        def infer(prepared) -> tuple[list[_Fitted], list[tuple[int, tuple]]]:
            fitted, groups = prepared
            decoded = []
            for group, pictures in groups:
                if augment:
                    found = zip(*looks(pictures.astype(np.float32) / 255), strict=True)
                else:
                    found = self.likely(pictures, conf)
                decoded += zip(group, found, strict=True)
            return fitted, decoded

        def finish(inferred) -> list[Detections]:
            fitted, decoded = inferred
            by_index = dict(decoded)
            return [self._detections(one, *by_index[index], how) for index, one in enumerate(fitted)]

        return prepare, infer, finish

    def _detections(self, fitted: "_Fitted", boxes, scores, how: dict) -> Detections:
        """What is found in a picture, from the decoded boxes (n, 4) and scores (n, nc) of its letterboxed form."""
        (left, top), gain, (height, width) = fitted.pad, fitted.gain, fitted.image.shape[:2]
        inside = (left, top, left + width * gain, top + height * gain)
        found = select_detections(boxes, scores, inside=inside, **how)
        found = unletterbox(found, gain, fitted.pad, (height, width))
        boxes, scores, labels = (
            found[:, :4].astype(np.float32),
            found[:, 4].astype(np.float32),
            found[:, 5].astype(np.int64),
        )
        return Detections(boxes, scores, labels, self.names, fitted.image, fitted.path)

    def input_size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        """The (height, width) that pictures are fitted into when the user asks for `size`, in multiples of the stride.

        Raises `UserError` when the model was exported for another size.
        """
        if size is None:
            size = self.fixed_size or self.train_size
        sides = (size, size) if isinstance(size, Integral) else tuple(size)
        if len(sides) != 2 or min(sides) < 1:
            raise UserError(f"size {size}: expected one or two whole numbers of at least 1")
        height, width = (-(-int(side) // self.stride) * self.stride for side in sides)
        if self.fixed_size and (height, width) != tuple(self.fixed_size):
            fixed = "x".join(map(str, self.fixed_size))
            raise UserError(
                f"size {height}x{width}: this model was exported for {fixed} alone; export it with --dynamic"
            )
        return height, width


def class_indices(classes: Iterable[int | str] | None, names: list[str]) -> list[int] | None:
    """Class indices of numbers or names (None: all). Raises `UserError` with the nearest name for an unknown one."""
    if classes is None:
        return None
    indices = []
    for wanted in [classes] if isinstance(classes, (int, str)) else classes:
        text = str(wanted).strip()
        if text in names:
            indices.append(names.index(text))
        elif text.isdecimal() and int(text) < len(names):
            indices.append(int(text))
        else:
            hint = did_you_mean(text, names) or f"; expected 0 to {len(names) - 1} or one of {', '.join(names[:10])}"
            raise UserError(f"class '{text}': the model has no such class{hint}")
    return indices


def _as_list(images) -> list:
    one = isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim < 4)
    return [images] if one else list(images)


def _load(image) -> tuple[np.ndarray, Path | None]:
    """A path or an array -> picture (H, W, 3) uint8 BGR and its path."""
    if isinstance(image, (str, Path)):
        return read_image(image), Path(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"expected a path or a picture (H, W, 3) uint8 BGR, got {kind}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise UserError(f"expected a picture (H, W, 3) uint8 BGR, got {image.shape}")
    return image[..., :3], None


class _Fitted(NamedTuple):
    """A picture beside its letterboxed form and the way back from there."""

    image: np.ndarray
    path: Path | None
    picture: np.ndarray
    gain: float
    pad: tuple[float, float]


def _fit(image, frame: tuple[int, int], stride: int, auto: bool) -> _Fitted:
    image, path = _load(image)
    return _Fitted(image, path, *letterbox(image, frame, stride, auto))


def _groups(shapes: list[tuple], batch_size: int) -> list[list[int]]:
    """Indices of pictures of one shape, at most `batch_size` together."""
    by_shape: dict[tuple, list[int]] = {}
    for index, shape in enumerate(shapes):
        by_shape.setdefault(shape, []).append(index)
    return [same[i : i + batch_size] for same in by_shape.values() for i in range(0, len(same), batch_size)]
