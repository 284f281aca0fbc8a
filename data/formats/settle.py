"""Holding what a source says against its pictures: sizes, EXIF frames, boxes that can't be."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from utils.errors import UserError
from utils.image_header import ImageHeader
from utils.images import UnreadableImage, image_header

from ..frames import SCALED, SIZE, Frame, fit_frame
from ..threads import Listings, map_threads
from .base import Problems, Sample

ROUNDING = 0.5  # pixels that a box may lie over the edge before it counts as out of bounds: sources round

MISSING = "missing pictures"
UNREADABLE = "unreadable pictures"
NOT_FINITE = "boxes with values that are no finite numbers"
DEGENERATE = "degenerate boxes (no width or no height)"
OUTSIDE = "boxes outside the picture"
CLIPPED = "boxes over the edge, clipped"


def settle_all(samples: Iterable[Sample], problems: Problems, where: str, every_header: bool = False) -> list[Sample]:
    """Return the samples held against their pictures; what is wrong is dropped and noted.

    A sample that declares its size, with every box inside it, is believed until its picture is loaded
    (`frames.loaded_frame`); of the others, or with `every_header` of all, the picture's header is read. No picture is
    decoded. Raises `UserError` when there is no picture, or more than half are missing or unreadable.
    """
    settled, total = [], 0
    for sample, header in _with_headers(samples, every_header):
        total += 1
        if isinstance(header, UnreadableImage):
            problems.note(UNREADABLE if os.path.lexists(sample.path) else MISSING, str(header)[:300])
        else:
            settled.append(settle(sample, header, problems))
    if not total:
        raise UserError(f"{where}: no pictures there" + "".join(f"; {line}" for line in problems.lines()[:3]))
    _check_readable(total, problems, where)
    return settled


def _check_readable(total: int, problems: Problems, where: str) -> None:
    """Raise `UserError` when more than half of `total` pictures are missing or unreadable."""
    bad = problems[MISSING] + problems[UNREADABLE]
    if 2 * bad > total:
        first = next(problems.examples[kind][0] for kind in (MISSING, UNREADABLE) if problems[kind])
        raise UserError(f"{where}: {bad} of {total} pictures are missing or unreadable, more than half (first: {first})")


def _with_headers(samples: Iterable[Sample], every: bool) -> Iterator[tuple[Sample, ImageHeader | UnreadableImage]]:
    """Pair each sample with the header of its picture, one made of its declared size, or why it has none."""
    listings = Listings()

    def header(sample: Sample):
        if not every and _plausible(sample):
            if listings.has(sample.path):
                return ImageHeader(sample.width, sample.height)
            return UnreadableImage(sample.path, "no such file")
        try:
            return image_header(sample.path)
        except UnreadableImage as error:
            return error

    yield from map_threads(header, samples)


def _plausible(sample: Sample) -> bool:
    """Whether the sample declares a size and all its boxes lie inside."""
    if sample.fractions or sample.width <= 0 or sample.height <= 0:
        return False
    if not len(sample.boxes):
        return True
    limit = np.array([sample.width, sample.height] * 2) + ROUNDING
    return bool((sample.boxes >= -ROUNDING).all() and (sample.boxes <= limit).all())


def settle(sample: Sample, header: ImageHeader, problems: Problems) -> Sample:
    """Return `sample` in the frame of its picture, with the boxes that can't be dropped and the others clipped."""
    width, height, apply_exif, odd = _frame(sample, header)
    if odd:
        declared, is_ = f"{sample.width}x{sample.height}", f"{header.width}x{header.height}"
        problems.note(odd, f"{sample.path}: declared {declared}, is {is_}")
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


def _frame(sample: Sample, header: ImageHeader) -> Frame:
    """`fit_frame`, unless the boxes contradict a declared resolution: they don't fit into it, but into the picture."""
    frame = fit_frame((sample.width, sample.height), header)
    if frame.kind == SCALED and not _plausible(sample):
        width, height = header.upright
        if _plausible(replace(sample, width=width, height=height)):
            return Frame(width, height, True, SIZE)
    return frame


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
