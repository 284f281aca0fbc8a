"""The steps from images to detections. NumPy and OpenCV only, no torch."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.models.inference.image_input import (
    LetterboxedImage,
    LoadedImage,
    group_by_shape,
    in_batches,
    letterbox_image,
)
from graftdet.models.inference.predict_settings import PredictSettings, class_indices
from graftdet.models.inference.tta import AugmentedModel
from graftdet.utils.images.letterbox import to_chw, unletterbox
from graftdet.utils.nms.suppression import default_method, select_detections

if TYPE_CHECKING:
    from graftdet.models.inference.predictor import Predictor


class PredictSteps:
    """The steps of `Predictor.predict`, each called with the result of the one before.

    They share no mutable state, so that each may run in its own thread, on different images at the same time.
    """

    def __init__(self, predictor: "Predictor", settings: PredictSettings):
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
            "multi_label": settings.multi_label,
        }

    def run(self, images: Iterable[Any], batch_size: int) -> Iterator[Detections]:
        """All steps on `batch_size` images at a time."""
        for batch in in_batches(images, batch_size):
            yield from self.postprocess(self.infer(self.preprocess(batch)))

    def preprocess(self, images: Iterable[Any]) -> tuple[list[LetterboxedImage], list[tuple[list[int], np.ndarray]]]:
        """Read and letterbox images; RGB batches (B, 3, H, W) uint8 with the indices of their images."""
        fitted = [self._letterbox(image) for image in images]
        groups = group_by_shape([one.letterboxed.shape for one in fitted], self._settings.batch_size)
        return fitted, [(group, np.stack([to_chw(fitted[i].letterboxed) for i in group])) for group in groups]

    def infer(
        self, preprocessed: tuple[list[LetterboxedImage], list[tuple[list[int], np.ndarray]]]
    ) -> tuple[list[LetterboxedImage], dict[int, tuple]]:
        """Run the model on what `preprocess` returned; candidate boxes and scores by image index."""
        fitted, groups = preprocessed
        candidates: dict[int, tuple] = {}
        for indices, batch in groups:
            candidates.update(zip(indices, self._candidates(batch), strict=True))
        return fitted, candidates

    def postprocess(self, inferred: tuple[list[LetterboxedImage], dict[int, Any]]) -> list[Detections]:
        """Suppress overlapping candidates and map boxes back to the images."""
        fitted, candidates = inferred
        return [self._detections(one, *candidates[index]) for index, one in enumerate(fitted)]

    def _letterbox(self, image: Any) -> LetterboxedImage:
        """An image, of any kind, read and fitted into the input of the model."""
        auto = self._predictor.fixed_size is None
        return letterbox_image(image, self._size, self._predictor.stride, auto, self._settings.depth)

    def _candidates(self, batch: np.ndarray) -> list[tuple[Any, Any]]:
        """Run the model: RGB (B, 3, H, W) uint8 -> boxes (n, 4) xyxy pixels and scores (n, nc) of each image."""
        if self._augmented:
            return list(zip(*self._augmented(batch.astype(np.float32) / 255), strict=True))
        return self._predictor.candidates(batch, self._settings.conf)

    def _detections(self, fitted: LetterboxedImage, boxes: Any, scores: Any) -> Detections:
        rows = select_detections(boxes, scores, inside=visible_rectangle(fitted), **self._selection)
        rows = unletterbox(rows, fitted.gain, fitted.pad, fitted.source.image.shape[:2])
        return self._as_detections(fitted.source, rows)

    def _as_detections(self, source: LoadedImage, rows: np.ndarray) -> Detections:
        """Detections from rows (n, 6): box xyxy in pixels of the image, score, class."""
        return Detections(
            boxes=rows[:, :4].astype(np.float32),
            scores=rows[:, 4].astype(np.float32),
            labels=rows[:, 5].astype(np.int64),
            names=self._predictor.names,
            image=source.image,
            path=source.path,
            frame=source.frame,
        )


def visible_rectangle(fitted: LetterboxedImage) -> tuple[float, float, float, float]:
    """Where the image is on its letterboxed form: xyxy in pixels."""
    (left, top), gain, (height, width) = fitted.pad, fitted.gain, fitted.source.image.shape[:2]
    return left, top, left + width * gain, top + height * gain
