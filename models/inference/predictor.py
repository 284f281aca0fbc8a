"""From images to detections, in the same way for every backend. NumPy and OpenCV only, no torch."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from graftdet.models.inference.detections import Detections
from graftdet.models.inference.image_input import is_batch, open_images
from graftdet.models.inference.keyword_aliases import resolve_aliases
from graftdet.models.inference.predict_settings import PredictSettings, check_count, check_size
from graftdet.models.inference.predict_steps import PredictSteps
from graftdet.models.inference.slicing import SlicedSteps
from graftdet.utils.errors import UserError

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
        slice: int | tuple[int, int] | None = None,
        slice_overlap: float = 0.2,
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
            slice: side, or (height, width), of overlapping windows in pixels of the image, for small objects in large
                images; the model runs on each window and on the whole image (`graftdet.models.inference.slicing`).
            slice_overlap: fraction of a window that it shares with the next one.
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
        settings = PredictSettings(
            size=imgsz,
            conf=conf,
            iou=iou,
            max_det=max_det,
            classes=classes,
            agnostic=agnostic,
            nms=nms,
            augment=augment,
            batch_size=batch_size,
            depth=depth,
            slice=slice,
            slice_overlap=slice_overlap,
        )
        check_count("vid_stride", vid_stride)
        steps = self.steps(settings)  # checks the settings before the first image is read
        images, is_lazy = open_images(source, vid_stride, depth)
        detections = steps.run(images, batch_size if is_lazy else max(batch_size, IMAGES_AT_ONCE))
        return detections if is_lazy else list(detections)

    def steps(self, settings: PredictSettings) -> PredictSteps:
        """The three steps of `predict`, for a pipeline. Raises `UserError` for settings that do not fit the model."""
        return SlicedSteps(self, settings) if settings.slice else PredictSteps(self, settings)

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
