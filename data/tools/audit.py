"""One audit of a data set: what is in it, and everything that is wrong with it. Every picture is read and decoded."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from graftdet.data.config import DataConfig, open_source
from graftdet.data.formats.base import Problems
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.formats.validation import MISSING, UNREADABLE, settle
from graftdet.utils.boxes import MEDIUM_AREA, SMALL_AREA
from graftdet.utils.images.header import ImageHeader, parse_header
from graftdet.utils.images.io import UnreadableImage, decode_image, image_header, is_truncated, read_bytes
from graftdet.utils.progress import track

TRUNCATED = "truncated pictures"
DUPLICATE_BOX = "duplicate boxes"
DUPLICATE_PICTURE = "duplicate pictures"
EXIF_TURNED = "pictures turned by EXIF"
GREY, ALPHA, CMYK, DEEP = "grey pictures", "pictures with alpha (RGBA)", "CMYK pictures", "16-bit pictures"
NO_BOXES = "splits without a box to learn from or to measure with"
LEAKAGE = "pictures of one split that are in another"
_QUANTILES = (0, 0.25, 0.5, 0.75, 1)


@dataclass(slots=True)
class Look:
    """What reading one picture told."""

    digest: str  # of the file's content; empty when there is none
    header: ImageHeader | None  # None: not to be used
    problem: str = ""  # MISSING, UNREADABLE or TRUNCATED
    reason: str = ""


def audit(config: DataConfig) -> dict:
    """Read everything that the YAML names and return the report, which is plain data (JSON can hold it).

    `splits` -> name -> pictures, boxes, crowds, empty, classes, sizes, quantiles, problems (kind -> count) and examples
    (kind -> first places); `leakage` -> 'train-val' -> count and examples. Raises `UserError` for what cannot be
    opened at all; anything else is counted.
    """
    report = {"data": str(config.path), "format": config.format, "root": str(config.root), "splits": {}}
    contents: dict[str, dict[str, str]] = {}
    for split in config.splits:
        source = open_source(config, split)
        report["splits"][split], contents[split] = _audit_split(source, split)
    report["names"] = config.names
    report["leakage"] = {}
    for first, second in combinations(contents, 2):
        both = [digest for digest in contents[second] if digest in contents[first]]
        examples = [f"{contents[second][digest]} is {contents[first][digest]}" for digest in both[: Problems.EXAMPLES]]
        report["leakage"][f"{first}-{second}"] = {"count": len(both), "examples": examples}
    return report


def look(path) -> Look:
    """Read and decode one picture."""
    try:
        data = read_bytes(path)
    except UnreadableImage as error:
        return Look("", None, UNREADABLE if os.path.lexists(path) else MISSING, str(error))
    name = _digest(data)
    try:
        decode_image(data, path)
        return Look(name, parse_header(io.BytesIO(data)) or image_header(path))
    except UnreadableImage as error:
        return Look(name, None, TRUNCATED if is_truncated(path) else UNREADABLE, str(error))


def digest(path) -> str:
    """A name of a file's content, equal for equal files. Raises `UnreadableImage`."""
    return _digest(read_bytes(path))


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def looks(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Look]]:
    """Pair each sample with the look at its picture, read by a few threads."""
    samples = iter(samples)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        while chunk := list(islice(samples, 1024)):
            yield from zip(chunk, pool.map(look, [sample.path for sample in chunk]))


def _audit_split(source, split: str) -> tuple[dict, dict[str, str]]:
    """Return (report of a split, content of each picture -> its path)."""
    problems = source.problems
    raw = list(source)
    readable, headers, contents = [], [], {}
    for sample, seen in track(looks(raw), len(raw), split):
        if seen.digest in contents:
            problems.note(DUPLICATE_PICTURE, f"{sample.path} is {contents[seen.digest]}")
        elif seen.digest:
            contents[seen.digest] = str(sample.path)
        if seen.header is None:
            problems.note(seen.problem, seen.reason)
            continue
        _note_kind(seen.header, sample, problems)
        readable.append(sample)
        headers.append(seen.header)
    settled = settle(SampleTable.of(readable), dict(enumerate(headers)), problems)
    if settled.crowd.all():
        problems.note(NO_BOXES, f"{len(settled)} pictures, {len(settled.crowd)} crowds")
    for sample in settled:
        problems.note(DUPLICATE_BOX, sample.path, _count_duplicates(sample))
    return _summary(settled, len(raw), source.names, problems), contents


def _note_kind(header: ImageHeader, sample: Sample, problems: Problems) -> None:
    kinds = {
        EXIF_TURNED: header.orientation != 1,
        GREY: header.channels in (1, 2),
        ALPHA: header.channels in (2, 4) and header.format != "jpeg",
        CMYK: header.channels == 4 and header.format == "jpeg",
        DEEP: header.bits == 16,
    }
    for kind, found in kinds.items():
        problems.note(kind, sample.path, int(found))


def _count_duplicates(sample: Sample) -> int:
    """How many boxes have the class and the edges (to a hundredth of a pixel) of one before."""
    rows = np.column_stack([sample.labels, np.round(sample.boxes, 2)])
    return len(rows) - len(np.unique(rows, axis=0)) if len(rows) else 0


def _summary(samples: SampleTable, total: int, names: list[str], problems: Problems) -> dict:
    kept = ~samples.crowd
    boxes, areas = samples.boxes[kept], samples.areas[kept]
    counts = np.bincount(samples.labels[kept], minlength=len(names))
    return {
        "pictures": total,
        "usable": len(samples),
        "empty": int((samples.counts == 0).sum()),
        "boxes": len(boxes),
        "crowds": int(samples.crowd.sum()),
        "classes": {name: int(count) for name, count in zip(names, counts)},
        "sizes": {
            "small": int((areas < SMALL_AREA).sum()),
            "medium": int(((areas >= SMALL_AREA) & (areas <= MEDIUM_AREA)).sum()),
            "large": int((areas > MEDIUM_AREA).sum()),
        },
        "quantiles": {
            "box width": _quantiles(boxes[:, 2] - boxes[:, 0]),
            "box height": _quantiles(boxes[:, 3] - boxes[:, 1]),
            "boxes a picture": _quantiles(np.bincount(samples.owners[kept], minlength=len(samples))),
            "picture width": _quantiles(samples.widths),
            "picture height": _quantiles(samples.heights),
        },
        "problems": dict(problems.most_common()),
        "examples": {kind: list(places) for kind, places in problems.examples.items()},
    }


def _quantiles(values: np.ndarray) -> list[float]:
    """Minimum, quartiles and maximum, to a tenth; empty when there are no values."""
    return [round(float(value), 1) for value in np.quantile(values, _QUANTILES)] if len(values) else []


def table(report: dict) -> str:
    """The report as text for a terminal."""
    splits = report["splits"]
    rows = [["", *splits]]
    for key in ("pictures", "usable", "empty", "boxes", "crowds"):
        rows.append([key, *(str(split[key]) for split in splits.values())])
    rows += [
        [f"{size} boxes", *(str(split["sizes"][size]) for split in splits.values())]
        for size in ("small", "medium", "large")
    ]
    for key in next(iter(splits.values()))["quantiles"]:
        rows.append([f"{key} *", *(" ".join(f"{n:g}" for n in split["quantiles"][key]) for split in splits.values())])
    classes = [["class", *splits]]
    for name in dict.fromkeys(name for split in splits.values() for name in split["classes"]):
        classes.append([name, *(str(split["classes"].get(name, 0)) for split in splits.values())])
    parts = [f"{report['data']}: {report['format']}, {report['root']}", _align(rows)]
    parts += ["* minimum, quartiles, maximum", "", _align(classes), ""]
    return "\n".join(parts + (_problem_lines(report) or ["no problems found"]))


def _problem_lines(report: dict) -> list[str]:
    splits = report["splits"]
    kinds = dict.fromkeys(kind for split in splits.values() for kind in split["problems"])
    rows = [[kind, *(str(split["problems"].get(kind, 0)) for split in splits.values())] for kind in kinds]
    lines = [_align([["problem", *splits], *rows])] if rows else []
    for name, split in splits.items():
        for kind, places in split["examples"].items():
            lines.append(f"  {name}: {kind}: {places[0]}" + (" ..." if split["problems"][kind] > 1 else ""))
    for pair, leak in report["leakage"].items():
        if leak["count"]:
            lines.append(f"{LEAKAGE}: {leak['count']} ({pair}; first: {leak['examples'][0]})")
    return lines


def _align(rows: list[list[str]]) -> str:
    """Rows of text as columns: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        lines.append("  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:]))]))
    return "\n".join(line.rstrip() for line in lines)
