"""From images to detections, in the same way for every backend. NumPy and OpenCV only, no torch."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.models.inference.image_input import (
    LetterboxedImage,
    group_by_shape,
    in_batches,
    is_batch,
    letterbox_image,
    open_images,
)
from graftdet.models.inference.keyword_aliases import resolve_aliases
from graftdet.models.inference.predict_settings import PredictSettings, check_count, check_size, is_whole
from graftdet.models.inference.tta import AugmentedModel
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.letterbox import to_chw, unletterbox
from graftdet.utils.nms.suppression import default_method, select_detections

IMAGES_AT_ONCE = 64  # images that are read before the model runs, so that those of one shape form batches


class Predictor(ABC):
    """A model ready for inference, whatever runs it. A subclass sets the attributes and defines `forward`.

    Attributes:
        names: class names.
        names_known: False where the file has no class names and `names` are placeholders.
        stride: largest stride in pixels; sides of the input are multiples of it.
        backend: what runs the model, for messages.
        device: where input images are expected.
        half: whether it computes in float16 or bfloat16.
        fixed_size: (height, width) of the only input it takes; None: any multiple of `stride`.
        needs_nms: whether it outputs several boxes per object.
        train_size: longer side of the images it was trained on.
        square_letterbox: whether it was trained with square letterboxing and no geometric augmentation; images are then
            validated with square letterboxing, too.
    """

    names: list[str]
    names_known: bool = True
    stride: int
    backend: str = "torch"
    device: Any = "cpu"
    half: bool = False
    fixed_size: tuple[int, int] | None = None
    needs_nms: bool = True
    train_size: int = 640
    square_letterbox: bool = False

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.names)

    @abstractmethod
    def forward(self, images: Any) -> tuple[Any, Any]:
        """Run the model on a batch.

        Args:
            images: RGB (B, 3, H, W), uint8 0..255 or float 0..1, a NumPy array or a tensor.

        Returns:
            Boxes (B, N, 4) xyxy in pixels of the input, and scores (B, N, nc), both NumPy arrays or both tensors.
        """

    def __call__(self, images: Any, **settings: Any) -> Any:
        """Run the model: `forward` for a batch (B, 3, H, W), `predict` for images of any other kind."""
        return self.forward(images) if is_batch(images) and not settings else self.predict(images, **settings)

    def candidates(self, images: Any, conf: float) -> list[tuple[Any, Any]]:
        """The output of `forward(images)` per image, as boxes (n, 4) and scores (n, nc).

        A subclass may omit boxes whose scores it knows to be at most `conf` without computing them.
        """
        return list(zip(*self.forward(images), strict=True))

    def predict(
        self,
        source: Any = None,
        *,
        conf: float = 0.25,
        iou: float = 0.45,
        imgsz: int | tuple[int, int] | None = None,
        max_det: int = 300,
        classes: int | str | Iterable[int | str] | None = None,
        agnostic: bool = False,
        nms: str | None = None,
        augment: bool = False,
        batch_size: int = 16,
        vid_stride: int = 1,
        depth: int = 16,
        **aliases: Any,
    ) -> list[Detections] | Iterator[Detections]:
        """Detect objects in images, videos and streams.

        Args:
            source: everything that `detect.py --source` takes (a path, a folder, a pattern, a list, a video, an
                address, a camera number, 'screen'), an array (H, W, 3) uint8 BGR, a PIL image, a tensor (3, H, W) RGB,
                uint8 or float in 0..1, a batch of arrays or tensors, or a list or an iterator of these.
            conf: lowest score of a detection.
            iou: of two boxes of a class that overlap by a larger IoU, only the better is returned.
            imgsz: longer side, or (height, width), of the input in pixels; None: as trained or exported.
            max_det: maximum number of detections per image.
            classes: indices or names of the classes to return; None: all.
            agnostic: boxes of different classes suppress each other, too.
            nms: a method of `graftdet.utils.nms.suppression.METHODS`; None: what the model needs.
            augment: test-time augmentation.
            batch_size: maximum number of images per call of the model.
            vid_stride: of videos and streams, every N-th frame is used.
            depth: bits that 16-bit images use, 8 to 16, such as 12 for many sensors; arrays uint16 need it.
            aliases: other names of these arguments, such as `img` and `conf_thres`; each is reported in a warning.

        Returns:
            One `Detections` per image, in order: a list, or, where the source contains videos or streams or is an
            iterator, an iterator that reads and detects while it is used.

        Raises:
            UserError: an unknown argument or class, an argument given under two names, a source that does not exist, an
                unreadable image, an array of another kind, or a size that the model does not take. Unreadable files of
                a folder are skipped.

        Example:
            >>> for detections in model.predict("street.mp4", conf=0.4):
            ...     print(detections.frame, detections.class_names)
        """
        if aliases:
            values = dict(locals())
            defaults = {
                name: parameter.default
                for name, parameter in inspect.signature(self.predict).parameters.items()
                if name != "aliases"
            }
            given = {name: values[name] for name, default in defaults.items() if values[name] is not default}
            return self.predict(**{**given, **resolve_aliases(aliases, defaults, "predict", given)})
        settings = PredictSettings(imgsz, conf, iou, max_det, classes, agnostic, nms, augment, batch_size, depth)
        check_count("vid_stride", vid_stride)
        steps = self.steps(settings)  # checks the settings before the first image is read
        images, is_lazy = open_images(source, vid_stride, depth)
        detections = steps.run(images, batch_size if is_lazy else max(batch_size, IMAGES_AT_ONCE))
        return detections if is_lazy else list(detections)

    def steps(self, settings: PredictSettings) -> "PredictSteps":
        """The three steps of `predict`, for a pipeline. Raises `UserError` for settings that do not fit the model."""
        return PredictSteps(self, settings)

    def input_size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        """The (height, width) that images are letterboxed into for a requested `size`: multiples of the stride.

        Raises:
            UserError: `size` is not one or two positive whole numbers, or the model was exported for another size.
        """
        if size is None:
            size = self.fixed_size or self.train_size
        height, width = (-(-side // self.stride) * self.stride for side in check_size(size))
        if self.fixed_size and (height, width) != tuple(self.fixed_size):
            fixed = "x".join(map(str, self.fixed_size))
            raise UserError(
                f"size {height}x{width}: this model was exported for {fixed} only; export it with --dynamic"
            )
        return height, width


class PredictSteps:
    """The steps of `Predictor.predict`, each called with the result of the one before.

    They share no mutable state, so that each may run in its own thread, on different images at the same time.
    """

    def __init__(self, predictor: Predictor, settings: PredictSettings):
        self._predictor, self._settings = predictor, settings
        self._size = predictor.input_size(settings.size)
        self._augmented = AugmentedModel(predictor) if settings.augment else None
        self._selection: dict[str, Any] = {
            "conf": settings.conf,
            "iou": settings.iou,
            "max_det": settings.max_det,
            "agnostic": settings.agnostic,
            "classes": class_indices(settings.classes, predictor.names),
            "method": settings.nms or default_method(self._augmented or predictor),
        }

    def run(self, images: Iterable[Any], batch_size: int) -> Iterator[Detections]:
        """All steps on `batch_size` images at a time."""
        for batch in in_batches(images, batch_size):
            yield from self.postprocess(self.infer(self.preprocess(batch)))

    def preprocess(self, images: Iterable[Any]) -> tuple[list[LetterboxedImage], list[tuple[list[int], np.ndarray]]]:
        """Read and letterbox images; RGB batches (B, 3, H, W) uint8 with the indices of their images."""
        model = self._predictor
        auto, depth = model.fixed_size is None, self._settings.depth
        fitted = [letterbox_image(image, self._size, model.stride, auto, depth) for image in images]
        groups = group_by_shape([one.letterboxed.shape for one in fitted], self._settings.batch_size)
        return fitted, [(group, np.stack([to_chw(fitted[i].letterboxed) for i in group])) for group in groups]

    def infer(
        self, preprocessed: tuple[list[LetterboxedImage], list[tuple[list[int], np.ndarray]]]
    ) -> tuple[list[LetterboxedImage], dict[int, tuple]]:
        """Run the model on what `preprocess` returned; candidate boxes and scores by image index."""
        fitted, groups = preprocessed
        candidates: dict[int, tuple] = {}
        for indices, batch in groups:
            if self._augmented:
                output = zip(*self._augmented(batch.astype(np.float32) / 255), strict=True)
            else:
                output = self._predictor.candidates(batch, self._settings.conf)
            candidates.update(zip(indices, output, strict=True))
        return fitted, candidates

    def postprocess(self, inferred: tuple[list[LetterboxedImage], dict[int, Any]]) -> list[Detections]:
        """Suppress overlapping candidates and map boxes back to the images."""
        fitted, candidates = inferred
        return [self._detections(one, *candidates[index]) for index, one in enumerate(fitted)]

    def _detections(self, fitted: LetterboxedImage, boxes, scores) -> Detections:
        (left, top), gain, (height, width) = fitted.pad, fitted.gain, fitted.source.image.shape[:2]
        inside = (left, top, left + width * gain, top + height * gain)
        rows = select_detections(boxes, scores, inside=inside, **self._selection)
        rows = unletterbox(rows, gain, fitted.pad, (height, width))  # (n, 6): box, score, class
        return Detections(
            boxes=rows[:, :4].astype(np.float32),
            scores=rows[:, 4].astype(np.float32),
            labels=rows[:, 5].astype(np.int64),
            names=self._predictor.names,
            image=fitted.source.image,
            path=fitted.source.path,
            frame=fitted.source.frame,
        )


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
