"""The samples of a split as a few long columns instead of many small arrays, for datasets with 100,000 images."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

from graftdet.data.formats.sample import Sample


@dataclass(slots=True)
class SampleTable(Sequence):
    """n samples with N boxes. `table[i]` is a `Sample` whose arrays are views; a slice is a list of samples."""

    paths: list[str]
    image_ids: list[int | str]
    widths: np.ndarray  # (n,) int64
    heights: np.ndarray  # (n,) int64
    apply_exif: np.ndarray  # (n,) bool
    normalized: np.ndarray  # (n,) bool
    box_counts: np.ndarray  # (n,) int64, number of boxes of each sample; boxes are stored in the order of the samples
    boxes: np.ndarray  # (N, 4) xyxy
    labels: np.ndarray  # (N,) int64
    crowd: np.ndarray  # (N,) bool
    areas: np.ndarray  # (N,) float64
    annotation_ids: np.ndarray  # (N,) int64
    source_boxes: np.ndarray | None = None  # (N, 4) float64 xywh; NaN for samples that have none
    offsets: np.ndarray = field(init=False)  # (n + 1,) int64: sample i has the boxes offsets[i] to offsets[i + 1]

    def __post_init__(self) -> None:
        self.offsets = np.concatenate(([0], np.cumsum(self.box_counts)))

    @classmethod
    def from_samples(cls, samples: Iterable[Sample]) -> "SampleTable":
        """Return the table of any samples; a table is returned as it is."""
        if isinstance(samples, cls):
            return samples
        samples = list(samples)
        boxes = [np.asarray(sample.boxes).reshape(-1, 4) for sample in samples]

        def column(name: str, dtype: type) -> np.ndarray:
            values = [np.asarray(getattr(sample, name)).reshape(-1) for sample in samples]
            return np.concatenate([np.zeros(0, dtype), *values]).astype(dtype)

        source_boxes = None
        if any(sample.source_boxes is not None for sample in samples):
            parts = [
                np.full((len(rows), 4), np.nan) if sample.source_boxes is None else sample.source_boxes
                for sample, rows in zip(samples, boxes, strict=True)
            ]
            source_boxes = np.concatenate([np.asarray(part, np.float64).reshape(-1, 4) for part in parts])
        return cls(
            paths=[str(sample.path) for sample in samples],
            image_ids=[sample.image_id for sample in samples],
            widths=np.array([sample.width for sample in samples], np.int64),
            heights=np.array([sample.height for sample in samples], np.int64),
            apply_exif=np.array([sample.apply_exif for sample in samples], bool),
            normalized=np.array([sample.normalized for sample in samples], bool),
            box_counts=np.array([len(rows) for rows in boxes], np.int64),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *boxes]),
            labels=column("labels", np.int64),
            crowd=column("crowd", bool),
            areas=column("areas", np.float64),
            annotation_ids=column("annotation_ids", np.int64),
            source_boxes=source_boxes,
        )

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # negative indices; raises IndexError
        rows = slice(self.offsets[index], self.offsets[index + 1])
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
            normalized=bool(self.normalized[index]),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    @property
    def image_indices(self) -> np.ndarray:
        """(N,) index of the sample that each box belongs to."""
        return np.repeat(np.arange(len(self)), self.box_counts)
