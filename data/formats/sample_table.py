"""The samples of a split as a few long columns: a hundred thousand pictures need no million small arrays."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graftdet.data.formats.sample import Sample


@dataclass(slots=True)
class SampleTable(Sequence):
    """n samples with N boxes in all. `table[i]` is a `Sample` whose arrays are views; a slice is a list of them."""

    paths: list[str]
    image_ids: list[int | str]
    widths: np.ndarray  # (n,) int64
    heights: np.ndarray  # (n,) int64
    apply_exif: np.ndarray  # (n,) bool
    fractions: np.ndarray  # (n,) bool
    counts: np.ndarray  # (n,) int64, boxes of each sample; theirs lie together, in the order of the samples
    boxes: np.ndarray  # (N, 4) xyxy
    labels: np.ndarray  # (N,) int64
    crowd: np.ndarray  # (N,) bool
    areas: np.ndarray  # (N,) float64
    annotation_ids: np.ndarray  # (N,) int64
    source_boxes: np.ndarray | None = None  # (N, 4) float64 xywh; NaN where a sample has none
    ends: np.ndarray = None  # (n + 1,) int64: boxes[ends[i] : ends[i + 1]] are those of sample i

    def __post_init__(self):
        self.ends = np.concatenate(([0], np.cumsum(self.counts)))

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "SampleTable":
        """The table of any samples; of a table itself."""
        if isinstance(samples, cls):
            return samples
        samples = list(samples)
        boxes = [np.asarray(sample.boxes).reshape(-1, 4) for sample in samples]

        def column(name: str, kind) -> np.ndarray:
            values = [np.asarray(getattr(sample, name)).reshape(-1) for sample in samples]
            return np.concatenate([np.zeros(0, kind), *values]).astype(kind)

        source = None
        if any(sample.source_boxes is not None for sample in samples):
            source = [
                np.full((len(b), 4), np.nan) if s.source_boxes is None else s.source_boxes
                for s, b in zip(samples, boxes)
            ]
            source = np.concatenate([np.asarray(rows, np.float64).reshape(-1, 4) for rows in source])
        return cls(
            paths=[str(sample.path) for sample in samples],
            image_ids=[sample.image_id for sample in samples],
            widths=np.array([sample.width for sample in samples], np.int64),
            heights=np.array([sample.height for sample in samples], np.int64),
            apply_exif=np.array([sample.apply_exif for sample in samples], bool),
            fractions=np.array([sample.fractions for sample in samples], bool),
            counts=np.array([len(rows) for rows in boxes], np.int64),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            labels=column("labels", np.int64),
            crowd=column("crowd", bool),
            areas=column("areas", np.float64),
            annotation_ids=column("annotation_ids", np.int64),
            source_boxes=source,
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # negative ones; raises IndexError
        rows = slice(self.ends[index], self.ends[index + 1])
        return Sample(
            path=Path(self.paths[index]),
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
            annotation_ids=self.annotation_ids[rows],
            image_id=self.image_ids[index],
            width=int(self.widths[index]),
            height=int(self.heights[index]),
            apply_exif=bool(self.apply_exif[index]),
            source_boxes=None if self.source_boxes is None else self.source_boxes[rows],
            fractions=bool(self.fractions[index]),
        )

    def __iter__(self) -> Iterator[Sample]:
        return map(self.__getitem__, range(len(self)))

    @property
    def owners(self) -> np.ndarray:
        """(N,) which sample each box is of."""
        return np.repeat(np.arange(len(self)), self.counts)
