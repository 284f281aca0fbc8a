"""Validation of samples against their images: sizes, EXIF orientation, invalid boxes."""

import os
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from graftdet.data.exif import OTHER_RESOLUTION, OTHER_SIZE, AnnotatedSize, resolve_annotated_size
from graftdet.data.formats.format import Format
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.parallel_io import DirectoryListings, map_threads
from graftdet.utils.boxes import xyxy_to_xywh
from graftdet.utils.errors import UserError
from graftdet.utils.images.header import ImageHeader
from graftdet.utils.images.io import UnreadableImage, image_header
from graftdet.utils.text import counted

ROUNDING = 0.5  # pixels that a box may exceed the image before it counts as out of bounds: sources round

MISSING = "missing images"
UNREADABLE = "unreadable images"
NOT_FINITE = "boxes with values that are not finite numbers"
DEGENERATE = "degenerate boxes (no width or no height)"
OUTSIDE = "boxes outside the image"
CLIPPED = "boxes clipped at the edge of the image"
MOST_CROWDS = "crowd regions, which are more than half of all objects"
CROWDS_HINT = "crowds: objects in the data YAML reads crowd regions as objects"


def validate_samples(
    source: Iterable[Sample], problems: ProblemCounts, where: str, every_header: bool = False
) -> SampleTable:
    """Validate the samples of a format against their images; invalid ones are dropped and counted.

    A sample that declares its size, with all boxes inside it, is trusted until its image is loaded
    (`exif.loaded_size`). For the others the header of the image is read. No image is decoded.

    Args:
        source: a `Format`, or any samples.
        problems: receives the problems that are found.
        where: YAML and split, for error messages.
        every_header: read the header of every image.

    Returns:
        The valid samples.

    Raises:
        UserError: if there is no image, or more than half are missing or unreadable.
    """
    table = source.table() if isinstance(source, Format) else SampleTable.from_samples(source)
    if not len(table):
        raise UserError(f"{where}: no images found" + "".join(f"; {line}" for line in problems.lines()[:3]))
    listings = (source.listings if isinstance(source, Format) else None) or DirectoryListings()
    validated = validate_table(table, _read_headers(table, listings, every_header), problems)
    count_crowds(validated, problems)
    _check_readable(len(table), problems, where)
    return validated


def validate_table(
    table: SampleTable, headers: dict[int, ImageHeader | UnreadableImage], problems: ProblemCounts
) -> SampleTable:
    """Resolve image sizes, drop samples without an image, drop or clip invalid boxes.

    Args:
        table: samples as the source states them.
        headers: sample index -> header of its image, or the reason why it cannot be read; a sample without an entry is
            trusted.
        problems: receives the problems that are found, in the order of the samples.

    Returns:
        The valid samples.
    """
    sizes, found = _resolve_sizes(table, headers)
    validated = _apply_sizes(table, sizes, found)
    for index in sorted(found):
        for kind, location, count in found[index]:
            problems.add(kind, location, count)
    return validated


def count_crowds(table: SampleTable, problems: ProblemCounts) -> None:
    """Count crowd regions if they are more than half of all objects but not all, as tools write masks of objects."""
    crowds = int(table.crowd.sum())
    if len(table.crowd) / 2 < crowds < len(table.crowd):
        problems.add(MOST_CROWDS, CROWDS_HINT, crowds)


def check_boxes(boxes: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Clip boxes to their images and find the invalid ones.

    Args:
        boxes: boxes (n, 4) float64 xyxy in pixels.
        limits: width, height, width, height of the image, (4,) or (n, 4).

    Returns:
        (boxes (n, 4) float32 xyxy clipped, valid (n,) bool, kind of problem -> (n,) bool which boxes have it).
    """
    finite = np.isfinite(boxes).all(1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    inside = (clipped[:, 2:] > clipped[:, :2]).all(1)
    exceeds = (boxes < -ROUNDING).any(1) | (boxes > limits + ROUNDING).any(1)
    valid = finite & has_area & inside
    return (
        clipped,
        valid,
        {
            NOT_FINITE: ~finite,
            DEGENERATE: finite & ~has_area,
            OUTSIDE: finite & has_area & ~inside,
            CLIPPED: valid & exceeds,
        },
    )


def _read_headers(
    table: SampleTable, listings: DirectoryListings, every: bool
) -> dict[int, ImageHeader | UnreadableImage]:
    """Sample index -> header, for `every` image or for those that are not trusted; and all images that are missing."""
    needed = np.flatnonzero(np.ones(len(table), bool) if every else ~_trusted(table)).tolist()
    headers = dict(map_threads(lambda index: _read_header(table.paths[index]), needed))
    for index, path in enumerate(table.paths):
        if index not in headers and not listings.contains(path):
            headers[index] = UnreadableImage(path, "no such file")
    return headers


def _read_header(path: str) -> ImageHeader | UnreadableImage:
    try:
        return image_header(path)
    except UnreadableImage as error:
        return error


def _trusted(table: SampleTable) -> np.ndarray:
    """Which samples declare a size with all their boxes inside: bool (n,)."""
    limits = np.stack((table.widths, table.heights), 1)[table.image_indices] + ROUNDING  # (N, 2)
    inside = (
        (table.boxes >= -ROUNDING).all(1)
        & (table.boxes[:, :2] <= limits).all(1)
        & (table.boxes[:, 2:] <= limits).all(1)
    )
    has_outside = np.bincount(table.image_indices[~inside], minlength=len(table)) > 0
    return ~table.normalized & (table.widths > 0) & (table.heights > 0) & ~has_outside


def _resolve_sizes(table: SampleTable, headers: dict) -> tuple[dict[int, AnnotatedSize | None], dict[int, list]]:
    """(sample index -> resolved size, None without an image; sample index -> problems (kind, location, count))."""
    sizes: dict[int, AnnotatedSize | None] = {}
    found: dict[int, list] = {}
    for index, header in headers.items():
        if isinstance(header, UnreadableImage):
            sizes[index] = None
            kind = UNREADABLE if os.path.lexists(table.paths[index]) else MISSING
            found[index] = [(kind, str(header)[:300], 1)]
            continue
        if table.widths[index] <= 0 or table.heights[index] <= 0:  # nothing declared: the size of the image
            sizes[index] = AnnotatedSize(*header.upright_size)
            continue
        sample = table[index]
        size = sizes[index] = _resolve_sample_size(sample, header)
        if size.problem:
            location = f"{sample.path}: declared {sample.width}x{sample.height}, is {header.width}x{header.height}"
            found[index] = [(size.problem, location, 1)]
    return sizes, found


def _resolve_sample_size(sample: Sample, header: ImageHeader) -> AnnotatedSize:
    """`resolve_annotated_size`, unless boxes contradict the declared resolution: outside it, inside the image."""
    size = resolve_annotated_size((sample.width, sample.height), header)
    if size.problem == OTHER_RESOLUTION:
        width, height = header.upright_size
        pair = SampleTable.from_samples([sample, replace(sample, width=width, height=height)])
        fits_declared, fits_image = _trusted(pair)
        if fits_image and not fits_declared:
            return AnnotatedSize(width, height, True, OTHER_SIZE)
    return size


def _apply_sizes(table: SampleTable, sizes: dict[int, AnnotatedSize | None], found: dict[int, list]) -> SampleTable:
    """The table with these sizes, without samples that have no image and without invalid boxes; extends `found`."""
    widths, heights, apply_exif = table.widths.copy(), table.heights.copy(), np.ones(len(table), bool)
    usable = np.ones(len(table), bool)
    for index, size in sizes.items():
        if size is None:
            usable[index] = False
        else:
            widths[index], heights[index], apply_exif[index] = size[:3]
    image_indices = table.image_indices
    limits = np.stack((widths, heights, widths, heights), 1).astype(np.float64)[image_indices]  # (N, 4)
    boxes = np.asarray(table.boxes, np.float64)
    normalized = table.normalized[image_indices]
    if normalized.any():
        boxes = np.where(normalized[:, None], boxes * limits, boxes)
    with np.errstate(invalid="ignore"):  # infinite ones are dropped
        source_boxes = xyxy_to_xywh(boxes)
    if table.source_boxes is not None:
        source_boxes = np.where(np.isnan(table.source_boxes).all(1, keepdims=True), source_boxes, table.source_boxes)
    clipped, valid, problems = check_boxes(boxes, limits)
    for kind, affected in problems.items():
        if affected.any():
            counts = np.bincount(image_indices[affected], minlength=len(table))
            for index in np.flatnonzero(counts * usable).tolist():
                found.setdefault(index, []).append((kind, table.paths[index], int(counts[index])))
    valid &= usable[image_indices]
    usable_indices = np.flatnonzero(usable).tolist()
    return SampleTable(
        paths=[table.paths[index] for index in usable_indices],
        image_ids=[table.image_ids[index] for index in usable_indices],
        widths=widths[usable],
        heights=heights[usable],
        apply_exif=apply_exif[usable],
        normalized=np.zeros(len(usable_indices), bool),
        box_counts=np.bincount(image_indices[valid], minlength=len(table))[usable],
        boxes=clipped[valid],
        labels=table.labels[valid],
        crowd=table.crowd[valid],
        areas=np.where(np.isfinite(table.areas), table.areas, source_boxes[:, 2] * source_boxes[:, 3])[valid],
        annotation_ids=table.annotation_ids[valid],
        source_boxes=source_boxes[valid],
    )


def _check_readable(total: int, problems: ProblemCounts, where: str) -> None:
    """Raise `UserError` if more than half of `total` images are missing or unreadable."""
    bad = problems[MISSING] + problems[UNREADABLE]
    if 2 * bad > total:
        first = next(problems.examples[kind][0] for kind in (MISSING, UNREADABLE) if problems[kind])
        raise UserError(
            f"{where}: {bad} of {counted(total, 'image')} missing or unreadable, more than half (first: {first})"
        )
