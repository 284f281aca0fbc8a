"""Sliced inference: a model runs on overlapping windows of an image and on the whole image; NMS merges the boxes.

Small objects of a large image are many times larger on the input of the model when only a window of the image is
scaled to it (Akyon et al., Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection, 2022).
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.models.inference.image_input import LetterboxedImage, LoadedImage, group_by_shape, load_image
from graftdet.models.inference.predict_settings import PredictSettings, check_size
from graftdet.models.inference.predict_steps import PredictSteps, visible_rectangle
from graftdet.utils.images.letterbox import clip_to, to_chw, unletterbox
from graftdet.utils.nms.candidates import best_candidates, best_first
from graftdet.utils.nms.suppression import MAX_CANDIDATES, METHODS

if TYPE_CHECKING:
    from graftdet.models.inference.predictor import Predictor

CUT_MARGIN = 0.01  # of the side of a window: a box that ends so close to its edge is of an object that the edge cuts


class Window(NamedTuple):
    """A part of an image: number of the image, and its rectangle in pixels."""

    number: int
    left: int
    top: int
    right: int
    bottom: int


class SlicedSteps(PredictSteps):
    """The steps of `PredictSteps` on windows of each image.

    Each window is letterboxed into the same input size as the whole image. The boxes of all windows and of the whole
    image are merged by one non-maximum suppression. A box that ends at an edge of a window inside the image is dropped:
    its object is complete in another window, or in the whole image if it is larger than the overlap.
    """

    def __init__(self, predictor: "Predictor", settings: PredictSettings):
        super().__init__(predictor, settings)
        self._slice = check_size(settings.slice)
        selection = {**self._selection, "method": settings.nms or "standard"}  # windows find the same objects
        self._filter = {name: selection[name] for name in ("conf", "multi_label", "classes")}
        self._merge = {name: selection[name] for name in ("iou", "max_det", "agnostic", "method")}

    def preprocess(self, images: Iterable[Any]) -> tuple[list[LoadedImage], list[Window]]:  # type: ignore[override]
        """Read images and divide them into windows, which are letterboxed later: an image may have hundreds."""
        loaded = [load_image(image, self._settings.depth) for image in images]
        overlap = self._settings.slice_overlap
        return loaded, [
            Window(index, *rectangle)
            for index, one in enumerate(loaded)
            for rectangle in window_rectangles(one.image.shape[:2], self._slice, overlap)
        ]

    def infer(  # type: ignore[override]
        self, preprocessed: tuple[list[LoadedImage], list[Window]]
    ) -> tuple[list[LoadedImage], list[np.ndarray]]:
        """Run the model on what `preprocess` returned; rows (n, 6) of each image: box in its pixels, score, class."""
        loaded, windows = preprocessed
        rows: list[list[np.ndarray]] = [[np.zeros((0, 6), np.float32)] for _ in loaded]
        for batch in self._batches(loaded, windows):
            images = np.stack([to_chw(fitted.letterboxed) for _, fitted in batch])
            for (window, fitted), candidates in zip(batch, self._candidates(images), strict=True):
                shape = loaded[window.number].image.shape[:2]
                rows[window.number].append(self._rows(window, fitted, shape, *candidates))
        return loaded, [np.concatenate(parts) for parts in rows]

    def postprocess(self, inferred: tuple[list[LoadedImage], list[np.ndarray]]) -> list[Detections]:  # type: ignore[override]
        """Merge the boxes of all windows of each image."""
        loaded, rows = inferred
        return [
            self._as_detections(one, clip_to(merge(candidates, **self._merge), one.image.shape[:2]))
            for one, candidates in zip(loaded, rows, strict=True)
        ]

    def detect_batch(self, batch: dict[str, Any]) -> list[np.ndarray]:
        """Detect in a batch of whole images, for `graftdet.utils.evaluation.evaluator.evaluate`.

        Args:
            batch: "images", arrays (H, W, 3) BGR, and "shapes", the (height, width) that boxes of each image refer to.

        Returns:
            Rows (n, 6) of each image: box xyxy in pixels of its shape, score, class.
        """
        rows, images = [], batch["images"]
        for found, (height, width) in zip(self.run(images, len(images)), batch["shapes"], strict=True):
            scale = np.array([width / found.image.shape[1], height / found.image.shape[0]] * 2, np.float32)
            rows.append(np.column_stack((found.boxes * scale, found.scores, found.labels)).astype(np.float32))
        return rows

    def _batches(
        self, loaded: list[LoadedImage], windows: list[Window]
    ) -> Iterator[list[tuple[Window, LetterboxedImage]]]:
        """Windows of one shape, with their letterboxed pixels, one batch at a time."""
        shapes: list[tuple[int, ...]] = [(window.bottom - window.top, window.right - window.left) for window in windows]
        for group in group_by_shape(shapes, self._settings.batch_size):
            batch = []
            for window in (windows[index] for index in group):
                part = loaded[window.number].image[window.top : window.bottom, window.left : window.right]
                batch.append((window, self._letterbox(LoadedImage(part))))
            yield batch

    def _rows(
        self, window: Window, fitted: LetterboxedImage, shape: tuple[int, int], boxes: Any, scores: Any
    ) -> np.ndarray:
        """The candidates (n, 6) of one window, in pixels of its image of `shape`, without those of cut objects."""
        inside = visible_rectangle(fitted)
        rows = best_candidates(boxes, scores, inside=inside, limit=MAX_CANDIDATES, **self._filter)
        rows = unletterbox(rows, fitted.gain, fitted.pad, fitted.source.image.shape[:2], clip=False)
        rows[:, [0, 2]] += window.left
        rows[:, [1, 3]] += window.top
        return rows[~cut_by(rows, window, shape)]


def window_rectangles(shape: tuple[int, int], size: tuple[int, int], overlap: float) -> list[tuple[int, int, int, int]]:
    """Divide an image into overlapping windows of one size; the last ones end at the border of the image.

    Args:
        shape: (height, width) of the image.
        size: (height, width) of a window.
        overlap: fraction of a window that it shares with the next one.

    Returns:
        (left, top, right, bottom) of the whole image and, unless it fits into one, of all windows.
    """
    height, width = shape
    rows, columns = (_spans(length, side, overlap) for length, side in zip(shape, size, strict=True))
    windows = [(left, top, right, bottom) for top, bottom in rows for left, right in columns]
    return [(0, 0, width, height), *(windows if len(windows) > 1 else [])]


def _spans(length: int, side: int, overlap: float) -> list[tuple[int, int]]:
    """(start, end) of windows along one axis."""
    if length <= side:
        return [(0, length)]
    step = max(round(side * (1 - overlap)), 1)
    starts = [*range(0, length - side, step), length - side]
    return [(start, start + side) for start in starts]


def cut_by(rows: np.ndarray, window: Window, shape: tuple[int, int]) -> np.ndarray:
    """Which boxes end at an edge of a window that is not a border of the image.

    Args:
        rows: (n, 4 or more) xyxy in pixels of the image.
        window: the window.
        shape: (height, width) of the image.

    Returns:
        (n,) bool.
    """
    height, width = shape
    margin_x, margin_y = (CUT_MARGIN * side for side in (window.right - window.left, window.bottom - window.top))
    cut = np.zeros(len(rows), bool)
    if window.left > 0:
        cut |= rows[:, 0] < window.left + margin_x
    if window.top > 0:
        cut |= rows[:, 1] < window.top + margin_y
    if window.right < width:
        cut |= rows[:, 2] > window.right - margin_x
    if window.bottom < height:
        cut |= rows[:, 3] > window.bottom - margin_y
    return cut


def merge(rows: np.ndarray, iou: float, max_det: int, agnostic: bool, method: str) -> np.ndarray:
    """Suppress overlapping rows (n, 6) of all windows; the arguments are those of `select_detections`."""
    rows = np.ascontiguousarray(rows[best_first(rows[:, 4])[:MAX_CANDIDATES]], np.float32)
    groups = np.zeros(len(rows), np.int32) if agnostic else rows[:, 5].astype(np.int32)
    return METHODS[method](rows, groups, iou, max_det)
