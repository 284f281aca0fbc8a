"""The report of `python -m data check` as text, and its exit status."""

from collections.abc import Iterable

from graftdet.data.dataset_config import DROP_EMPTY_HINT
from graftdet.data.formats.format import OTHER_CLASS
from graftdet.data.formats.validation import MISSING, UNREADABLE
from graftdet.data.tools.audit import (
    ALPHA,
    CMYK,
    EMPTY_CLASSES,
    EXIF_ROTATED,
    GRAYSCALE,
    LEAKAGE,
    NO_BOXES,
    SIXTEEN_BIT,
    TRUNCATED,
)
from graftdet.utils.tables import text_table

CLEAN, WARNINGS, ERRORS = 0, 1, 2
"""Exit statuses of `python -m data check`."""

PROPERTIES = frozenset((EXIF_ROTATED, GRAYSCALE, ALPHA, CMYK, SIXTEEN_BIT, OTHER_CLASS))
"""What is counted beside problems: images and classes that are read as intended."""


def report_status(report: dict) -> int:
    """Return `ERRORS` if training or evaluation would be refused, `WARNINGS` for other problems, else `CLEAN`.

    Args:
        report: the result of `audit`.
    """
    splits = report["splits"]
    for name, split in splits.items():
        lost = sum(split["problems"].get(kind, 0) for kind in (MISSING, UNREADABLE, TRUNCATED))
        if 2 * lost > split["images"] or not split["images"] or (name == "train" and NO_BOXES in split["problems"]):
            return ERRORS
    has_problems = any(kind not in PROPERTIES for split in splits.values() for kind in split["problems"])
    has_problems = has_problems or bool(report["left_out"])
    has_leakage = any(leak["count"] for leak in report["leakage"].values())
    return WARNINGS if has_problems or has_leakage or report["empty_classes"] else CLEAN


def format_report(report: dict) -> str:
    """Return the report of `audit` as text for a terminal."""
    splits = report["splits"]
    rows = [
        [key, *(split[key] for split in splits.values())] for key in ("images", "usable", "empty", "boxes", "crowds")
    ]
    rows += [
        [f"{size} boxes", *(split["sizes"][size] for split in splits.values())] for size in ("small", "medium", "large")
    ]
    for key in next(iter(splits.values()))["quantiles"]:
        rows.append([f"{key} *", *(" ".join(f"{n:g}" for n in split["quantiles"][key]) for split in splits.values())])
    names = dict.fromkeys(name for split in splits.values() for name in split["classes"])
    classes = [[name, *(split["classes"].get(name, 0) for split in splits.values())] for name in names]
    parts = [
        f"{report['data']}: {report['format']}, {report['root']}",
        _split_table("", splits, rows),
        "* minimum, quartiles, maximum",
        "",
        _split_table("class", splits, classes),
        "",
    ]
    notes = [f"{name}: {note}" for name, split in splits.items() for note in split["notes"]]
    return "\n".join(parts + notes + (_problem_lines(report) or ["no problems found"]))


def _problem_lines(report: dict) -> list[str]:
    splits = report["splits"]
    kinds = dict.fromkeys(kind for split in splits.values() for kind in split["problems"])
    rows = [[kind, *(split["problems"].get(kind, 0) for split in splits.values())] for kind in kinds]
    lines = [_split_table("problem", splits, rows)] if rows else []
    for name, split in splits.items():
        for kind, examples in split["examples"].items():
            lines.append(f"  {name}: {kind}: {examples[0]}" + (" ..." if split["problems"][kind] > 1 else ""))
    if empty := report["empty_classes"]:
        names = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        lines.append(f"{EMPTY_CLASSES}: {len(empty)} ({names}); {DROP_EMPTY_HINT}")
    lines += [f"{split} is left out: {reason}" for split, reason in report["left_out"].items()]
    for pair, leak in report["leakage"].items():
        if leak["count"]:
            lines.append(f"{LEAKAGE}: {leak['count']} ({pair}; first: {leak['examples'][0]})")
    return lines


def _split_table(title: str, splits: Iterable[str], rows: list[list]) -> str:
    """A table with one right-aligned column per split."""
    header = [title, *splits]
    return text_table(header, rows, right=range(1, len(header)))
