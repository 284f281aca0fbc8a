"""Holding what a source says against its pictures: sizes, EXIF frames, boxes that can't be."""

import os
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from graftdet.data.exif import SCALED, SIZE, Frame, fit_frame
from graftdet.data.formats.base import Format, Problems
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.parallel_io import Listings, map_threads
from graftdet.utils.errors import UserError
from graftdet.utils.images.header import ImageHeader
from graftdet.utils.images.io import UnreadableImage, image_header

ROUNDING = 0.5  # pixels that a box may lie over the edge before it counts as out of bounds: sources round

MISSING = "missing pictures"
UNREADABLE = "unreadable pictures"
NOT_FINITE = "boxes with values that are no finite numbers"
DEGENERATE = "degenerate boxes (no width or no height)"
OUTSIDE = "boxes outside the picture"
CLIPPED = "boxes over the edge, clipped"


def settle_all(source: Iterable[Sample], problems: Problems, where: str, every_header: bool = False) -> SampleTable:
    """Return the samples of a format held against their pictures; what is wrong is dropped and noted.

    A sample that declares its size, with every box inside it, is believed until its picture is loaded
    (`frames.loaded_frame`); of the others, or with `every_header` of all, the picture's header is read. No picture is
    decoded. Raises `UserError` when there is no picture, or more than half are missing or unreadable.
    """
    table = source.table() if isinstance(source, Format) else SampleTable.of(source)
    if not len(table):
        raise UserError(f"{where}: no pictures there" + "".join(f"; {line}" for line in problems.lines()[:3]))
    settled = settle(table, _headers(table, every_header), problems)
    _check_readable(len(table), problems, where)
    return settled


def settle(table: SampleTable, headers: dict[int, ImageHeader | UnreadableImage], problems: Problems) -> SampleTable:
    """Return the samples in the frames of their pictures, without those that have none, boxes that can't be dropped and
    the others clipped; what is wrong is noted. A sample without a header (by index) is believed."""
    frames, notes = _frames(table, headers)
    settled = _settled(table, frames, notes)
    for index in sorted(notes):
        for kind, place, count in notes[index]:
            problems.note(kind, place, count)
    return settled


def _headers(table: SampleTable, every: bool) -> dict[int, ImageHeader | UnreadableImage]:
    """The headers of `every` picture, or of those that are not simply believed, by index; all that are not there."""
    listings = Listings()
    asked = np.flatnonzero(np.ones(len(table), bool) if every else ~_plausible(table)).tolist()
    headers = dict(map_threads(lambda index: _header(table.paths[index]), asked))
    for index, path in enumerate(table.paths):
        if index not in headers and not listings.has(path):
            headers[index] = UnreadableImage(path, "no such file")
    return headers


def _frames(table: SampleTable, headers: dict) -> tuple[dict[int, Frame | None], dict[int, list]]:
    """(index -> frame of each sample with a header, None: no picture; index -> what to note)."""
    frames, notes = {}, {}
    for index, header in headers.items():
        if isinstance(header, UnreadableImage):
            frames[index] = None
            kind = UNREADABLE if os.path.lexists(table.paths[index]) else MISSING
            notes[index] = [(kind, str(header)[:300], 1)]
            continue
        if table.widths[index] <= 0 or table.heights[index] <= 0:  # nothing declared: the picture's own
            frames[index] = Frame(*header.upright_size)
            continue
        sample = table[index]
        frames[index] = _frame(sample, header)
        if frames[index].kind:
            notes[index] = [(frames[index].kind, _odd_place(sample, header), 1)]
    return frames, notes


def _header(path: str) -> ImageHeader | UnreadableImage:
    try:
        return image_header(path)
    except UnreadableImage as error:
        return error


def _plausible(table: SampleTable) -> np.ndarray:
    """Which samples declare a size with all their boxes inside: bool (n,)."""
    limits = np.stack((table.widths, table.heights), 1)[table.owners] + ROUNDING  # (N, 2)
    inside = (
        (table.boxes >= -ROUNDING).all(1)
        & (table.boxes[:, :2] <= limits).all(1)
        & (table.boxes[:, 2:] <= limits).all(1)
    )
    outside = np.bincount(table.owners[~inside], minlength=len(table)) > 0
    return ~table.fractions & (table.widths > 0) & (table.heights > 0) & ~outside


def _settled(table: SampleTable, frames: dict[int, Frame | None], notes: dict[int, list]) -> SampleTable:
    """The table in these frames, without what cannot be; what was wrong with boxes goes into `notes`."""
    widths, heights, apply_exif = table.widths.copy(), table.heights.copy(), np.ones(len(table), bool)
    there = np.ones(len(table), bool)
    for index, frame in frames.items():
        if frame is None:
            there[index] = False
        else:
            widths[index], heights[index], apply_exif[index] = frame[:3]
    owners = table.owners
    limits = np.stack((widths, heights, widths, heights), 1).astype(np.float64)[owners]  # (N, 4)
    boxes = np.asarray(table.boxes, np.float64)
    fractions = table.fractions[owners]
    if fractions.any():
        boxes = np.where(fractions[:, None], boxes * limits, boxes)
    source = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    if table.source_boxes is not None:
        source = np.where(np.isnan(table.source_boxes).all(1, keepdims=True), source, table.source_boxes)
    clipped, keep, defects = judge_boxes(boxes, limits)
    for kind, found in defects.items():
        numbers = np.bincount(owners[found], minlength=len(table)) if found.any() else np.zeros(len(table), int)
        for index in np.flatnonzero(numbers * there).tolist():
            notes.setdefault(index, []).append((kind, table.paths[index], int(numbers[index])))
    keep &= there[owners]
    kept = np.flatnonzero(there).tolist()
    return SampleTable(
        paths=[table.paths[index] for index in kept],
        image_ids=[table.image_ids[index] for index in kept],
        widths=widths[there],
        heights=heights[there],
        apply_exif=apply_exif[there],
        fractions=np.zeros(len(kept), bool),
        counts=np.bincount(owners[keep], minlength=len(table))[there],
        boxes=clipped[keep],
        labels=table.labels[keep],
        crowd=table.crowd[keep],
        areas=np.where(np.isfinite(table.areas), table.areas, source[:, 2] * source[:, 3])[keep],
        annotation_ids=table.annotation_ids[keep],
        source_boxes=source[keep],
    )


def _check_readable(total: int, problems: Problems, where: str) -> None:
    """Raise `UserError` when more than half of `total` pictures are missing or unreadable."""
    bad = problems[MISSING] + problems[UNREADABLE]
    if 2 * bad > total:
        first = next(problems.examples[kind][0] for kind in (MISSING, UNREADABLE) if problems[kind])
        raise UserError(
            f"{where}: {bad} of {total} pictures are missing or unreadable, more than half (first: {first})"
        )


def _frame(sample: Sample, header: ImageHeader) -> Frame:
    """`fit_frame`, unless the boxes contradict a declared resolution: they don't fit into it, but into the picture."""
    frame = fit_frame((sample.width, sample.height), header)
    if frame.kind == SCALED:
        width, height = header.upright_size
        declared, real = _plausible(SampleTable.of([sample, replace(sample, width=width, height=height)]))
        if real and not declared:
            return Frame(width, height, True, SIZE)
    return frame


def _odd_place(sample: Sample, header: ImageHeader) -> str:
    return f"{sample.path}: declared {sample.width}x{sample.height}, is {header.width}x{header.height}"


def judge_boxes(boxes: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(boxes (n, 4) float32 xyxy clipped, (n,) bool which of them can be, kind of defect -> (n,) bool which have it).

    `limits` (4,) or (n, 4): width, height, width, height of the picture.
    """
    finite = np.isfinite(boxes).all(1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(1)
    over = (boxes < -ROUNDING).any(1) | (boxes > limits + ROUNDING).any(1)
    keep = finite & solid & inside
    defects = {
        NOT_FINITE: ~finite,
        DEGENERATE: finite & ~solid,
        OUTSIDE: finite & solid & ~inside,
        CLIPPED: keep & over,
    }
    return clipped, keep, defects
