"""Holding what a source says against its pictures: sizes, EXIF frames, boxes that can't be."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np

from utils.errors import UserError
from utils.image_header import ImageHeader
from utils.images import UnreadableImage, image_header

from .base import Problems, Sample

ROUNDING = 0.5  # pixels that a box may lie over the edge before it counts as out of bounds: sources round
_THREADS = 8  # reading headers waits for the disk, not for the processor
_CHUNK = 4096

MISSING = "missing pictures"
UNREADABLE = "unreadable pictures"
NOT_FINITE = "boxes with values that are no finite numbers"
DEGENERATE = "degenerate boxes (no width or no height)"
OUTSIDE = "boxes outside the picture"
CLIPPED = "boxes over the edge, clipped"
SIZE = "pictures of another size than declared"
UNTURNED = "pictures annotated before their EXIF turn"


def settle_all(samples: Iterable[Sample], problems: Problems, where: str) -> list[Sample]:
    """Return the samples held against the headers of their pictures; what is wrong is dropped and noted.

    No picture is decoded. Raises `UserError` when there is no picture, or more than half cannot be read.
    """
    settled, total = [], 0
    for sample, header in with_headers(samples):
        total += 1
        if isinstance(header, ImageHeader):
            settled.append(settle(sample, header, problems))
        else:
            problems.note(UNREADABLE if sample.path.exists() else MISSING, header)
    if not total:
        raise UserError(f"{where}: no pictures there")
    check_readable(total, problems, where)
    return settled


def check_readable(total: int, problems: Problems, where: str) -> None:
    """Raise `UserError` when more than half of `total` pictures are missing or unreadable."""
    bad = problems[MISSING] + problems[UNREADABLE]
    if 2 * bad > total:
        first = next(problems.examples[kind][0] for kind in (MISSING, UNREADABLE) if problems[kind])
        raise UserError(f"{where}: {bad} of {total} pictures are missing or unreadable, more than half (first: {first})")


def with_headers(samples: Iterable[Sample]) -> Iterator[tuple[Sample, ImageHeader | UnreadableImage]]:
    """Pair each sample with the header of its picture, or with why it has none."""

    def header(sample: Sample):
        try:
            return image_header(sample.path)
        except UnreadableImage as error:
            return error

    samples = iter(samples)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(samples, _CHUNK)):
            yield from zip(chunk, pool.map(header, chunk, chunksize=64))


def settle(sample: Sample, header: ImageHeader, problems: Problems) -> Sample:
    """Return `sample` in the frame of its picture, with the boxes that can't be dropped and the others clipped."""
    width, height, apply_exif = frame(sample, header, problems)
    boxes = np.asarray(sample.boxes, np.float64).reshape(-1, 4)  # (n, 4) xyxy
    if sample.fractions:
        boxes = boxes * np.array([width, height, width, height], np.float64)
    source = sample.source_boxes
    if source is None:
        source = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    clipped, keep = check_boxes(boxes, width, height, sample.path, problems)
    areas = np.where(np.isfinite(sample.areas), sample.areas, source[:, 2] * source[:, 3])
    return replace(
        sample,
        boxes=clipped[keep],
        labels=sample.labels[keep],
        crowd=sample.crowd[keep],
        areas=areas[keep],
        annotation_ids=sample.annotation_ids[keep],
        source_boxes=source[keep],
        width=width,
        height=height,
        apply_exif=apply_exif,
        fractions=False,
    )


def frame(sample: Sample, header: ImageHeader, problems: Problems) -> tuple[int, int, bool]:
    """Return (width, height, apply_exif) of the frame that the boxes are in.

    A declared size that is the stored size and not the turned one says that the boxes were drawn on the unturned
    picture. Any other difference is noted, and the picture's own pixels are believed.
    """
    declared, stored, upright = (sample.width, sample.height), (header.width, header.height), header.upright
    if not all(declared) or declared == upright:
        return *upright, True
    if declared == stored:
        problems.note(UNTURNED, sample.path)
        return *stored, False
    problems.note(SIZE, f"{sample.path}: declared {declared[0]}x{declared[1]}, is {upright[0]}x{upright[1]}")
    return *upright, True


def check_boxes(boxes: np.ndarray, width: int, height: int, path, problems: Problems):
    """Return (boxes (n, 4) float32 xyxy clipped to the picture, (n,) bool which of them can be); note the rest."""
    finite = np.isfinite(boxes).all(1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    limit = np.array([width, height, width, height], np.float64)
    clipped = np.clip(boxes, 0, limit).astype(np.float32)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(1)
    over = (boxes < -ROUNDING).any(1) | (boxes > limit + ROUNDING).any(1)
    keep = finite & solid & inside
    if not keep.all() or over.any():
        problems.note(NOT_FINITE, path, int((~finite).sum()))
        problems.note(DEGENERATE, path, int((finite & ~solid).sum()))
        problems.note(OUTSIDE, path, int((finite & solid & ~inside).sum()))
        problems.note(CLIPPED, path, int((keep & over).sum()))
    return clipped, keep
