"""One split of a dataset, validated and ready for training or evaluation."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.synthetic.drawn_images import DrawnImages


@dataclass
class Split:
    """The validated samples of one split."""

    name: str
    samples: Sequence[Sample]  # `open_split` returns a `SampleTable`
    names: list[str]  # class index -> name
    category_ids: list[int]  # class index -> category id of the source
    problems: ProblemCounts = field(default_factory=ProblemCounts)
    drawing: DrawnImages | None = None  # draws the images, which have no files; `samples` are the first of them
    depth: int = 16  # bits that 16-bit images use

    def __len__(self) -> int:
        return len(self.samples)

    def reorder_classes(self, names: list[str]) -> "Split":
        """Return this split with its classes in another order; category ids stay with their classes.

        Args:
            names: the same names in the new order.
        """
        order = [self.names.index(name) for name in names]
        new_labels = np.argsort(order)  # old label -> new label
        table = SampleTable.from_samples(self.samples)
        samples = replace(table, labels=new_labels[table.labels])
        category_ids = [self.category_ids[old] for old in order]
        drawing = self.drawing and self.drawing.map_labels(new_labels.tolist())
        return replace(self, samples=samples, names=list(names), category_ids=category_ids, drawing=drawing)

    def ground_truth(self) -> dict:
        """Return the split as a COCO dict for the evaluator, with the image and category ids of the source.

        Boxes (xywh in pixels) and areas are exactly those of the source; crowd regions have `iscrowd` 1. Annotation ids
        are those of the source if they are unique and above 0 (pycocotools takes id 0 for "no match"), else new ones.
        """
        table = SampleTable.from_samples(self.samples)
        images = [
            {"id": image_id, "file_name": os.path.basename(path), "width": width, "height": height}
            for image_id, path, width, height in zip(
                table.image_ids, table.paths, table.widths.tolist(), table.heights.tolist(), strict=True
            )
        ]
        columns = (table.annotation_ids, table.image_indices, table.labels, table.source_boxes, table.areas)
        annotations = [
            {
                "id": annotation_id,
                "image_id": table.image_ids[image_index],
                "category_id": self.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": crowd,
            }
            for annotation_id, image_index, label, box, area, crowd in zip(
                *(column.tolist() for column in columns), table.crowd.astype(int).tolist(), strict=True
            )
        ]
        _make_ids_unique(annotations)
        categories = [
            {"id": category_id, "name": name} for category_id, name in zip(self.category_ids, self.names, strict=True)
        ]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _make_ids_unique(annotations: list[dict]) -> None:
    """Replace annotation ids below 1 and repeated ones by new ids above all others, in place."""
    seen = set()
    next_id = max((annotation["id"] for annotation in annotations), default=0) + 1
    next_id = max(next_id, 1)
    for annotation in annotations:
        if annotation["id"] < 1 or annotation["id"] in seen:
            annotation["id"] = next_id
            next_id += 1
        seen.add(annotation["id"])
