"""A target of deployment, and what it cannot take of a model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graftdet.utils.registry import Registry

if TYPE_CHECKING:
    from graftdet.models.graph.detection_model import DetectionModel

TARGETS = Registry("target")
"""Name -> `Target`."""


@dataclass(frozen=True)
class Finding:
    """Something that a target cannot take.

    Attributes:
        row: index of the row; None where it cannot be attributed to one.
        message: what, and from which versions this is known.
        hint: what can be done; empty where nothing is known.
    """

    row: int | None
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Target:
    """A target.

    Attributes:
        title: its name in messages.
        find: finds what it cannot take of an untrained `DetectionModel` in eval mode, at (height, width) of the images.
    """

    title: str
    find: "Callable[[DetectionModel, tuple[int, int]], Iterable[Finding]]"
