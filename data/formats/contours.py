"""The synthetic `contours` dataset, whose images are drawn when they are needed."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from graftdet.data.formats.format import FORMATS, DataConfig, Format, select_names
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.synthetic.contour_settings import ContourSettings
from graftdet.data.synthetic.contours import ContoursGenerator
from graftdet.data.synthetic.drawn_images import DrawnImages
from graftdet.utils.boxes import xywh_to_xyxy

_STREAMS = {"train": 0, "val": 1}


@FORMATS.register("contours")
class Contours(Format):
    """`format: contours` needs neither path nor splits. Its keys are the fields of `ContourSettings`."""

    KEYS: ClassVar[tuple[str, ...]] = ("format", "names", "nc", *ContourSettings.yaml_keys())
    DEFAULT_SPLITS: ClassVar[dict[str, Any]] = dict.fromkeys(_STREAMS, "drawn")

    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        settings: ContourSettings = config.settings
        generator = ContoursGenerator(settings, tuple(config.names) if config.names_given and config.names else None)
        self.names, self.category_ids = select_names(
            list(enumerate(generator.names)), names, strict, f"{config.path}: {split}"
        )
        self.problems = ProblemCounts()
        self.split = split
        label_of = {category_id: label for label, category_id in enumerate(self.category_ids)}
        self.drawing = DrawnImages(
            generator,
            settings.seed,
            _STREAMS[split],
            count=settings.epoch_length if split == "train" else settings.val_images,
            new_every_epoch=split == "train",
            side=settings.image_size,
            label_of_class=tuple(label_of.get(index, -1) for index in range(settings.num_classes)),
        )

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples of the first epoch, without drawing the images."""
        annotation_id = 1
        for index in range(self.drawing.count):
            labels, boxes, areas = self.drawing.annotate(index)
            xywh = np.array(boxes, np.float64).reshape(-1, 4)
            yield Sample(
                path=Path(f"{self.split}_{index:06d}.jpg"),
                boxes=xywh_to_xyxy(xywh).astype(np.float32),
                labels=np.array(labels, np.int64),
                crowd=np.zeros(len(labels), bool),
                areas=np.array(areas, np.float64),
                annotation_ids=np.arange(annotation_id, annotation_id + len(labels)),
                image_id=index,
                width=self.drawing.side,
                height=self.drawing.side,
                source_boxes=xywh,
            )
            annotation_id += len(labels)

    @classmethod
    def read_settings(cls, values: dict[str, Any], path: Path, num_classes: int | None) -> ContourSettings:
        """Return the settings of the data YAML."""
        return ContourSettings.from_yaml(values, path, num_classes)

    @classmethod
    def find_root(cls, value: str | None, yaml_path: Path, missing_hint: str, splits: Iterable[Any] = ()) -> Path:
        """Return the YAML itself: the dataset has no folder."""
        return yaml_path.absolute()
