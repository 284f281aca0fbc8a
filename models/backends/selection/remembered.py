"""Choices of earlier starts, in the user's cache folder: `choices/NAME-KEY.json`, one entry per size and batch.

KEY has a hash of the weights with the code that builds them, and one of the machine with the versions of its runtimes.
A file that is missing or malformed is made again.
"""

import hashlib
from pathlib import Path
from typing import Any

from graftdet.models.backends.selection.agreement import Agreement
from graftdet.models.backends.selection.choice import Choice
from graftdet.models.backends.selection.ways import Way
from graftdet.utils.files import cache_folder, read_cached_json, write_cached_json


class Choices:
    """The choices for one model on one machine.

    Args:
        model: name and hash of the model.
        machine: the machine and the versions of its runtimes.

    Attributes:
        path: the file.
        images: number of images that were run without timing, see `count`.
    """

    def __init__(self, model: str, machine: str):
        name = f"{model}-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"
        self.path, self._machine = cache_folder() / "choices" / name, machine
        content = _read(self.path)
        self._entries: dict[str, Any] = content.get("choices", {})
        self.images: int = content.get("images", 0)

    def get(self, work: str) -> Choice | None:
        """The choice for this work, such as '640x640, batch 1'; None where there is none that can be read."""
        return _parse(self._entries.get(work))

    def any(self) -> Choice | None:
        """A choice for any work, whose boxes are those of float32."""
        choices = map(_parse, self._entries.values())
        return next((choice for choice in choices if choice is not None and choice.is_exact), None)

    def add(self, work: str, choice: Choice) -> None:
        """Remember a choice. Where the cache folder cannot be written, it is made again the next time."""
        entry = {
            "way": str(choice.way),
            "milliseconds": {str(way): taken for way, taken in choice.milliseconds.items()},
            "agreements": {
                str(way): [found.boxes, found.iou, found.score_difference] for way, found in choice.agreements.items()
            },
            "images": choice.images,
            "load": round(choice.load, 3),
        }
        self._entries[work] = entry
        self._write()

    def count(self, images: int) -> None:
        """Remember that a start ran this number of images without timing."""
        self.images += images
        self._write()

    def _write(self) -> None:
        write_cached_json(self.path, {"machine": self._machine, "images": self.images, "choices": self._entries})


def _read(path: Path) -> dict[str, Any]:
    content = read_cached_json(path)
    is_valid = isinstance(content, dict) and isinstance(content.get("choices", {}), dict)
    return content if is_valid and type(content.get("images", 0)) is int else {}


def _parse(entry: Any) -> Choice | None:
    """A remembered choice; None for anything else."""
    try:
        milliseconds = {_way(name): float(taken) for name, taken in entry["milliseconds"].items()}
        agreements = {
            _way(name): Agreement(int(boxes), float(iou), float(difference))
            for name, (boxes, iou, difference) in entry["agreements"].items()
        }
        load = float(entry.get("load", 0))
        return Choice(_way(entry["way"]), milliseconds, agreements, str(entry["images"]), load)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _way(text: str) -> Way:
    way = Way.parse(text)
    if way is None:
        raise ValueError(text)
    return way
