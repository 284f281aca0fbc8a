"""The report of `python -m data check`: contents of a dataset and all its problems. Every image is decoded."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.data.dataset_config import DataConfig, open_annotations
from graftdet.data.formats.format import Format
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.formats.validation import CROWDS_HINT, MISSING, UNREADABLE, count_crowds, validate_table
from graftdet.utils.boxes import MEDIUM_AREA, SMALL_AREA
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.images.bit_depth import depth_problem
from graftdet.utils.images.header import ImageHeader, parse_header
from graftdet.utils.images.io import (
    UnreadableImage,
    decode_image,
    image_header,
    is_truncated,
    read_bytes,
    sixteen_bit_range,
)
from graftdet.utils.progress import track
from graftdet.utils.text import counted

TRUNCATED = "truncated images"
DUPLICATE_BOX = "duplicate boxes"
DUPLICATE_IMAGE = "duplicate images"
EXIF_ROTATED = "images rotated by EXIF"
GRAYSCALE, ALPHA = "grayscale images", "images with alpha (RGBA)"
CMYK, SIXTEEN_BIT = "CMYK images", "16-bit images"
NO_BOXES = "splits without a box to train or evaluate on"
LEAKAGE = "images of one split that are in another"
EMPTY_CLASSES = "classes without any box"
_QUANTILES = (0, 0.25, 0.5, 0.75, 1)


@dataclass(slots=True)
class ImageScan:
    """The result of reading one image."""

    digest: str  # of the content of the file; empty if it cannot be read
    header: ImageHeader | None  # None if the image cannot be used
    value_range: tuple[int, int] | None = None  # of a 16-bit image
    problem: str = ""  # MISSING, UNREADABLE or TRUNCATED
    reason: str = ""


def audit(config: DataConfig) -> dict:
    """Read and decode everything that a data YAML names.

    Args:
        config: the data YAML.

    Returns:
        A report of plain data (JSON): `splits` -> name -> images, usable, empty, boxes, crowds, classes, sizes,
        quantiles, problems (kind -> count), examples (kind -> first locations) and notes; `leakage` -> 'train-val' ->
        count and examples; `empty_classes`: names without a box in any split; `left_out`: test -> why it cannot be
        opened, which training does not need.

    Raises:
        UserError: for what cannot be opened at all; anything else is counted.
    """
    report: dict[str, Any] = {"data": str(config.path), "format": config.format, "root": str(config.root), "splits": {}}
    report["left_out"] = {}
    contents: dict[str, dict[str, str]] = {}
    for split in config.splits:
        try:
            source = open_annotations(config, split)
        except UserError as error:
            if split != "test" or len(config.splits) == 1:
                raise
            report["left_out"][split] = first_line(error)
            continue
        if source.drawing:
            report["splits"][split], contents[split] = _audit_drawn_split(source, split), {}
        else:
            report["splits"][split], contents[split] = _audit_split(source, split, config.reading.depth)
        report["splits"][split]["notes"] = list(source.notes)
    report["names"] = config.names
    splits = report["splits"].values()
    names = config.names_with_boxes or config.names or ()
    if not any(contents.values()):  # drawn images: other epochs have other objects
        names = ()
    empty = [name for name in names if not any(split["classes"].get(name) for split in splits)]
    report["empty_classes"] = empty if len(empty) < len(names) else []  # all: splits without a box are reported
    report["leakage"] = {}
    for first, second in combinations(contents, 2):
        common = [digest for digest in contents[second] if digest in contents[first]]
        examples = [
            f"{contents[second][digest]} is {contents[first][digest]}"
            for digest in common[: ProblemCounts.MAX_EXAMPLES]
        ]
        report["leakage"][f"{first}-{second}"] = {"count": len(common), "examples": examples}
    return report


def scan_image(path: str | Path) -> ImageScan:
    """Read and decode one image."""
    try:
        data = read_bytes(path)
    except UnreadableImage as error:
        return ImageScan("", None, None, UNREADABLE if os.path.lexists(path) else MISSING, str(error))
    digest = _digest(data)
    try:
        decode_image(data, path)
        header = parse_header(io.BytesIO(data))
        value_range = sixteen_bit_range(data) if header is None or header.bits == 16 else None
        return ImageScan(digest, header or image_header(path), value_range)
    except UnreadableImage as error:
        return ImageScan(digest, None, None, TRUNCATED if is_truncated(path) else UNREADABLE, str(error))


def file_digest(path: str | Path) -> str:
    """Return a hash of the content of a file.

    Raises:
        UnreadableImage: if it cannot be read.
    """
    return _digest(read_bytes(path))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def scan_images(samples: Iterable[Sample]) -> Iterator[tuple[Sample, ImageScan]]:
    """Yield each sample with the scan of its image, read by several threads."""
    samples = iter(samples)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        while chunk := list(islice(samples, 1024)):
            yield from zip(chunk, pool.map(scan_image, [sample.path for sample in chunk]), strict=True)


def _audit_split(source: Format, split: str, depth: int) -> tuple[dict, dict[str, str]]:
    """(report of a split, digest -> path of its images)."""
    problems = source.problems
    samples = list(source)
    readable, headers, contents, ranges = [], [], {}, {}
    for sample, scan in track(scan_images(samples), len(samples), split):
        if scan.digest in contents:
            problems.add(DUPLICATE_IMAGE, f"{sample.path} is {contents[scan.digest]}")
        elif scan.digest:
            contents[scan.digest] = str(sample.path)
        if scan.header is None:
            problems.add(scan.problem, scan.reason)
            continue
        _count_image_kind(scan.header, sample, problems)
        if scan.value_range:
            ranges[sample.path] = scan.value_range
        readable.append(sample)
        headers.append(scan.header)
    validated = validate_table(SampleTable.from_samples(readable), dict(enumerate(headers)), problems)
    count_crowds(validated, problems)
    if problem := depth_problem(ranges.values(), depth):
        problems.add(problem[0], f"{next(iter(ranges))}: {problem[1]}", len(ranges))
    if validated.crowd.all():
        hint = f"; {CROWDS_HINT}" if len(validated.crowd) else ""
        problems.add(NO_BOXES, f"{counted(len(validated), 'image')}, {counted(len(validated.crowd), 'crowd')}{hint}")
    for sample in validated:
        problems.add(DUPLICATE_BOX, sample.path, _count_duplicates(sample))
    return _summarize(validated, len(samples), source.names, problems), contents


def _audit_drawn_split(source: Format, split: str) -> dict:
    """The report of a split whose images have no files: statistics of the objects in the images of the first epoch."""
    count = source.drawing.count if source.drawing else 0
    samples = SampleTable.from_samples(track(source, count, split))
    return _summarize(samples, len(samples), source.names, source.problems)


def _count_image_kind(header: ImageHeader, sample: Sample, problems: ProblemCounts) -> None:
    kinds = {
        EXIF_ROTATED: header.orientation != 1,
        GRAYSCALE: header.channels in (1, 2),
        ALPHA: header.channels in (2, 4) and header.format != "jpeg",
        CMYK: header.channels == 4 and header.format == "jpeg",
        SIXTEEN_BIT: header.bits == 16,
    }
    for kind, applies in kinds.items():
        problems.add(kind, sample.path, int(applies))


def _count_duplicates(sample: Sample) -> int:
    """Number of boxes with the class and the edges (to a hundredth of a pixel) of an earlier one."""
    rows = np.column_stack([sample.labels, np.round(sample.boxes, 2)])
    return len(rows) - len(np.unique(rows, axis=0)) if len(rows) else 0


def _summarize(samples: SampleTable, total: int, names: list[str], problems: ProblemCounts) -> dict:
    is_object = ~samples.crowd
    boxes, areas = samples.boxes[is_object], samples.areas[is_object]
    counts = np.bincount(samples.labels[is_object], minlength=len(names))
    return {
        "images": total,
        "usable": len(samples),
        "empty": int((samples.box_counts == 0).sum()),
        "boxes": len(boxes),
        "crowds": int(samples.crowd.sum()),
        "classes": {name: int(count) for name, count in zip(names, counts, strict=True)},
        "sizes": {
            "small": int((areas < SMALL_AREA).sum()),
            "medium": int(((areas >= SMALL_AREA) & (areas <= MEDIUM_AREA)).sum()),
            "large": int((areas > MEDIUM_AREA).sum()),
        },
        "quantiles": {
            "box width": _quantiles(boxes[:, 2] - boxes[:, 0]),
            "box height": _quantiles(boxes[:, 3] - boxes[:, 1]),
            "boxes per image": _quantiles(np.bincount(samples.image_indices[is_object], minlength=len(samples))),
            "image width": _quantiles(samples.widths),
            "image height": _quantiles(samples.heights),
        },
        "problems": dict(problems.most_common()),
        "examples": {kind: list(examples) for kind, examples in problems.examples.items()},
    }


def _quantiles(values: np.ndarray) -> list[float]:
    """Minimum, quartiles and maximum, to a tenth; empty without values."""
    return [round(float(value), 1) for value in np.quantile(values, _QUANTILES)] if len(values) else []
