"""The images of a split that are drawn when they are needed: no file, no cache, the same in every process."""

from dataclasses import dataclass, replace

import numpy as np

from graftdet.data.synthetic.generator import Annotations, Generator, SyntheticImage

SAMPLE_IMAGES = 256  # images that represent a split with new images in every epoch


@dataclass(frozen=True)
class DrawnImages:
    """Image i depends on the generator, the seed, the stream and i alone. May be pickled.

    Epoch e of a split with new images in every epoch has the images e * `count` to (e + 1) * `count` - 1.
    """

    generator: Generator
    seed: int
    stream: int  # another one for each split
    count: int  # images per epoch
    new_every_epoch: bool
    side: int  # of the square images, in pixels
    label_of_class: tuple[int, ...]  # class of the generator -> label of the split; -1: is drawn, but is no object

    @property
    def sample_size(self) -> int:
        """Number of images, from the first one, that represent the split in evaluation and statistics."""
        return min(self.count, SAMPLE_IMAGES) if self.new_every_epoch else self.count

    def draw(self, index: int, epoch: int = 0) -> SyntheticImage:
        """Draw image `index` of an epoch."""
        drawn = self.generator.draw(self._rng(index, epoch))
        return SyntheticImage(drawn.image, *self._relabel(Annotations(*drawn[1:])))

    def annotate(self, index: int, epoch: int = 0) -> Annotations:
        """Return the objects of image `index` of an epoch."""
        return self._relabel(self.generator.annotate(self._rng(index, epoch)))

    def map_labels(self, new_labels: list[int]) -> "DrawnImages":
        """Return the same images with other labels.

        Args:
            new_labels: label -> new label.
        """
        mapped = tuple(new_labels[label] if label >= 0 else -1 for label in self.label_of_class)
        return replace(self, label_of_class=mapped)

    def _rng(self, index: int, epoch: int) -> np.random.Generator:
        number = epoch * self.count + index if self.new_every_epoch else index
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, self.stream, number))))

    def _relabel(self, objects: Annotations) -> Annotations:
        labels = [self.label_of_class[label] for label in objects.labels]
        rows = [row for row in zip(labels, objects.boxes, objects.areas, strict=True) if row[0] >= 0]
        return Annotations([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
