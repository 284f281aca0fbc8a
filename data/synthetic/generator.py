"""The interface of a generator of synthetic images."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np


class Annotations(NamedTuple):
    """The visible parts of the objects of an image."""

    labels: list[int]  # class of each object
    boxes: list[list[int]]  # xywh in pixels, around the visible pixels of each object
    areas: list[int]  # visible pixels of each object


class SyntheticImage(NamedTuple):
    """A drawn image and the visible parts of its objects."""

    image: np.ndarray  # (H, W, 3) uint8 BGR
    labels: list[int]  # class of each object
    boxes: list[list[int]]  # xywh in pixels, around the visible pixels of each object
    areas: list[int]  # visible pixels of each object


class Generator(ABC):
    """Draws images of objects. The image depends on the random generator alone.

    Attributes:
        names: class index -> name.
    """

    names: tuple[str, ...]

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> SyntheticImage:
        """Draw one image."""

    def annotate(self, rng: np.random.Generator) -> Annotations:
        """Return the objects of the image that `draw` would draw."""
        return Annotations(*self.draw(rng)[1:])
