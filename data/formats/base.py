"""What every data format speaks: samples, splits, and the count of what was wrong with them."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.registry import Registry

FORMATS = Registry("data format")
"""Word of a YAML's `format:` -> subclass of `Format`."""

OTHER_CLASS = "objects of a class that is not asked for"


class Problems(Counter):
    """Kind of defect -> how often it was met, with the first few places of each in `examples`."""

    EXAMPLES = 3

    def __init__(self):
        super().__init__()
        self.examples: dict[str, list[str]] = {}

    def note(self, kind: str, where, count: int = 1) -> None:
        """Count `count` defects of `kind`, met at `where`."""
        if count:
            self[kind] += count
            places = self.examples.setdefault(kind, [])
            if len(places) < self.EXAMPLES:
                places.append(str(where))

    def lines(self) -> list[str]:
        """One line a kind, the most frequent first, with the first place."""
        return [f"{count} {kind} (first: {self.examples[kind][0]})" for kind, count in self.most_common()]

    def __reduce__(self):  # Counter's own would lose the examples on the way to a spawned worker
        return Problems.of, (dict(self), self.examples)

    @classmethod
    def of(cls, counts: dict, examples: dict[str, list[str]]) -> "Problems":
        """Problems that were counted before."""
        problems = cls()
        problems.update(counts)
        problems.examples = examples
        return problems


@dataclass
class Split:
    """The checked samples of one split, ready for training or measuring."""

    name: str
    samples: Sequence[Sample]  # of `open_split`: a `SampleTable`
    names: list[str]  # class index -> name
    category_ids: list[int]  # class index -> category id of the source
    problems: Problems = field(default_factory=Problems)

    def __len__(self) -> int:
        return len(self.samples)

    def in_order(self, names: list[str]) -> "Split":
        """This split with its classes, the same `names`, in another order; ids of the source stay with their classes."""
        order = [self.names.index(name) for name in names]
        new_label = np.argsort(order)  # of an old one
        table = SampleTable.of(self.samples)
        samples = replace(table, labels=new_label[table.labels])
        return replace(self, samples=samples, names=list(names), category_ids=[self.category_ids[old] for old in order])

    def ground_truth(self) -> dict:
        """Return the split as a COCO dict for the evaluator, with the source's own image and category ids.

        Boxes (xywh pixels) and areas are the source's to the digit, crowds are in it with `iscrowd` 1. Annotation ids
        are the source's where they are unique and above 0 (pycocotools takes id 0 for "no match"), else new ones.
        """
        table = SampleTable.of(self.samples)
        images = [
            {"id": image_id, "file_name": os.path.basename(path), "width": width, "height": height}
            for image_id, path, width, height in zip(
                table.image_ids, table.paths, table.widths.tolist(), table.heights.tolist(), strict=True
            )
        ]
        columns = (
            table.owners,
            table.annotation_ids,
            table.labels,
            table.source_boxes,
            table.areas,
            table.crowd.astype(int),
        )
        annotations = [
            {
                "id": number,
                "image_id": table.image_ids[owner],
                "category_id": self.category_ids[label],
                "bbox": box,
                "area": area,
                "iscrowd": crowd,
            }
            for owner, number, label, box, area, crowd in zip(*(column.tolist() for column in columns), strict=True)
        ]
        _mend_ids(annotations)
        categories = [{"id": id_, "name": name} for id_, name in zip(self.category_ids, self.names)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def _mend_ids(annotations: list[dict]) -> None:
    """Give annotations whose id is below 1 or taken a new one above all others, in place."""
    seen = set()
    free = max((annotation["id"] for annotation in annotations), default=0) + 1
    free = max(free, 1)
    for annotation in annotations:
        if annotation["id"] < 1 or annotation["id"] in seen:
            annotation["id"] = free
            free += 1
        seen.add(annotation["id"])


class Format(ABC):
    """A data format: an iterable of `Sample`s as the source states them.

    A subclass is registered in `FORMATS`, lies in a file of its own in this folder, and has
    - `__init__(config, split, names=None, strict=True)`: finds the split's files below `config.root` as
      `config.splits[split]` tells, raises `UserError` when they are not there, and sets `names`, `category_ids` and
      `problems`. `names` selects and orders the classes by name (None: all that the source has); with `strict` a
      name that the source lacks is an error.
    - `__iter__`: yields samples; what can't be read is left out and noted in `problems`.
    - `recognises(root, value)`: how surely the `train:`/`val:` value of a YAML without `format:` is this format's,
      0 (not) to 3.
    - optionally `SPLITS`, for a YAML that names none, `find_root`, where the data set lies, and `Writer`, what
      `python -m data convert` writes with.
    """

    SPLITS: dict = {}
    Writer = None

    names: list[str]
    category_ids: list[int]
    problems: Problems

    @abstractmethod
    def __iter__(self) -> Iterator[Sample]:
        """Yield the pictures of the split as the source states them."""

    def table(self) -> SampleTable:
        """The same as a table; formats that are read by columns give it without making the samples."""
        return SampleTable.of(iter(self))

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        return 0

    @classmethod
    def find_root(cls, value: str | None, yaml_path: Path, missing_hint: str) -> Path:
        """Return the data set's folder for the `path:` of a YAML; raises `UserError` with the places looked at."""
        from graftdet.data.paths import find_root

        return find_root(value, yaml_path, missing_hint)


class Writer(ABC):
    """Writes samples below a new folder. Subclasses say in `CANNOT_CARRY` what their format has no place for."""

    CANNOT_CARRY: str = ""
    UPRIGHT = False  # True: boxes can only be told on the picture as EXIF turns it

    def __init__(self, out: Path, names: list[str], category_ids: list[int]):
        self.out, self.names, self.category_ids = out, names, category_ids
        self.problems = Problems()

    def picture_path(self, split: str, name: str) -> Path:
        """Where the picture `name` of a split goes."""
        return self.out / "images" / split / name

    @abstractmethod
    def write_split(self, split: str, samples: list[Sample], pictures: list[Path]) -> object:
        """Write the annotations of a split whose pictures lie at `pictures`; return the value for the YAML."""


def select_names(source: list[tuple[int, str]], wanted: list[str] | None, strict: bool, where: str):
    """Return (names, category ids) of the classes `wanted`, out of the (id, name) pairs of a source.

    A wanted name that the source lacks is a `UserError` when `strict`, else it gets an id that no other has.
    """
    if wanted is None:
        return [name for _, name in source], [id_ for id_, _ in source]
    ids = {name: id_ for id_, name in source}
    free = max(ids.values(), default=-1) + 1
    chosen = []
    for name in wanted:
        if name not in ids:
            if strict:
                known = ", ".join(list(ids)[:10]) + (", ..." if len(ids) > 10 else "")
                raise UserError(f"{where}: no class '{name}' there{did_you_mean(name, ids)} (it has {known or 'none'})")
            ids[name] = free
            free += 1
        chosen.append(ids[name])
    return list(wanted), chosen
