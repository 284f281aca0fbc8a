"""COCO JSON: one file of `images`, `annotations` and `categories` a split (https://cocodataset.org/#format-data)."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from graftdet.data.formats.base import FORMATS, OTHER_CLASS, Format, Split, Writer, select_names
from graftdet.data.formats.coco_json import read_columns
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.paths import find_below
from graftdet.utils.errors import UserError

OUTSIDE_SET = "pictures named outside the data set's folder"


@FORMATS.register("coco")
class Coco(Format):
    """COCO JSON and folders of pictures.

    A split is `{images: FOLDER, annotations: FILE}`, or one of the two as text, the other being looked for at the
    usual places (`images/train2017` and `annotations/instances_train2017.json`). Categories keep their ids, whatever
    the gaps; `iscrowd`, `area`, `segmentation`, `width` and `height` may be missing.
    """

    def __init__(self, config, split: str, names: list[str] | None = None, strict: bool = True):
        self.root = config.root
        where = f"{config.path}: {split}"
        self.folders, self.json_path = _locate(config, split, where)
        self._columns = read_columns(self.json_path)
        self.problems = self._columns.problems
        classes = self._columns.categories
        if names is None and not config.names_given and config.nc not in (None, len(classes)):
            raise UserError(f"{config.path}: nc is {config.nc} but {self.json_path} has {len(classes)} categories")
        self.names, self.category_ids = select_names(classes, names, strict, f"{where}: {self.json_path}")

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        if isinstance(value, dict) or (isinstance(value, str) and value.endswith(".json")):
            return 3
        return int(isinstance(value, str) and any(os.path.isfile(place) for place in _json_places(root, root / value)))

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.table())

    def table(self) -> SampleTable:
        columns = self._columns
        labels = {id_: label for label, id_ in enumerate(self.category_ids)}
        label_of = np.array([labels.get(id_, -1) for id_, _ in columns.categories], np.int64)
        rows_labels = label_of[columns.classes]
        paths = self._pictures(columns.file_names)
        inside = np.array([path is not None for path in paths], bool)
        for index in np.flatnonzero(~inside).tolist():
            name = columns.file_names[index]
            self.problems.note(OUTSIDE_SET, f"{self.json_path}: image {columns.image_ids[index]}: {name!r:.100}")
        left_out = np.bincount(
            columns.classes[(rows_labels < 0) & inside[columns.owners]], minlength=len(columns.categories)
        )
        for (_, name), count in zip(columns.categories, left_out.tolist(), strict=True):
            self.problems.note(OTHER_CLASS, f"{self.json_path}: {count} of '{name:.50}'", count)
        rows = np.flatnonzero((rows_labels >= 0) & inside[columns.owners])
        boxes = columns.boxes[rows]  # (N, 4) xywh
        kept = np.flatnonzero(inside).tolist()
        return SampleTable(
            paths=[paths[index] for index in kept],
            image_ids=[columns.image_ids[index] for index in kept],
            widths=columns.widths[inside],
            heights=columns.heights[inside],
            apply_exif=np.ones(len(kept), bool),
            fractions=np.zeros(len(kept), bool),
            counts=np.bincount(columns.owners[rows], minlength=len(paths))[inside],
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            labels=rows_labels[rows],
            crowd=columns.crowd[rows],
            areas=columns.areas[rows],
            annotation_ids=columns.annotation_ids[rows],
            source_boxes=boxes,
        )

    def _pictures(self, names: list[str]) -> list[str | None]:
        """Where each picture lies, or None when its name leads out of the data set."""
        folders = self._order_folders(names[:5])
        base = os.path.join(os.path.normpath(folders[0]), "") if folders else ""
        plain = re.compile(r"[^/\\:\0]+").fullmatch  # nothing to be resolved in it
        return [
            base + name if plain(name) and name not in (".", "..") else self._picture(name, folders) for name in names
        ]

    def _order_folders(self, few: list[str]) -> list[Path]:
        """The folders that pictures may be in, the one that has these few of them first."""

        def found(folder: Path) -> int:
            places = [self._picture(name, [folder]) for name in few]
            return sum(os.path.exists(place) for place in places if place is not None)

        return sorted(self.folders, key=found, reverse=True)

    def _picture(self, name: str, folders: list[Path]) -> str | None:
        """Where a picture lies, or None when its name leads out of the data set."""
        if "\0" in name:
            return None
        if "\\" in name and os.sep == "/":  # written on Windows
            name = name.replace("\\", "/")
        place = os.path.normpath(folders[0] / name)
        for base in (folders[0], self.root):
            if place.startswith(os.path.join(os.path.normpath(base), "")):
                return place
        return None


def _locate(config, split: str, where: str) -> tuple[list[Path], Path]:
    """Return (folders that the pictures may be in, path of the JSON) of a split."""
    value, root, hint = config.splits[split], config.root, config.missing_hint
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise UserError(f"{where}: the coco format reads one JSON a split, got a list of {len(value)}")
    if isinstance(value, dict):
        json_path = find_below(root, value["annotations"], where, "annotations", hint)
        if "images" in value:
            return [find_below(root, value["images"], where, "images", hint)], json_path
        return _picture_folders(root, json_path), json_path
    path = find_below(root, value, where, split, hint)
    if os.path.isfile(path):
        return _picture_folders(root, path), path
    places = _json_places(root, path)
    for place in places:
        if os.path.isfile(place):
            return [path, *_picture_folders(root, place)], place
    looked = ", ".join(str(place) for place in places)
    raise UserError(f"{where}: no COCO JSON for the pictures of {path} (looked at {looked}); say annotations: FILE")


def _json_places(root: Path, folder: Path) -> list[Path]:
    """Where the JSON of a folder of pictures usually lies."""
    name = folder.name
    beside = [root / "annotations" / f"{stem}.json" for stem in (f"instances_{name}", name)]
    return [*beside, folder / "_annotations.coco.json", folder / f"{name}.json", root / f"{name}.json"]


def _picture_folders(root: Path, json_path: Path) -> list[Path]:
    """Where the pictures of a JSON usually lie, those that are there."""
    name = json_path.stem.removeprefix("instances_")
    places = [root / "images" / name, root / name, root / "images", json_path.parent, root]
    return [place for place in dict.fromkeys(places) if os.path.isdir(place)]


class CocoWriter(Writer):
    """`images/SPLIT/` and `annotations/instances_SPLIT.json`, with the source's ids; image ids of text are numbered, as
    readers of COCO JSON expect numbers."""

    CANNOT_CARRY = "segmentation masks and other fields than boxes, areas, crowds and ids"

    def write_split(self, split: str, samples: list[Sample], pictures: list[Path]) -> object:
        if not all(isinstance(sample.image_id, int) for sample in samples):
            self.problems.note("image ids of text, numbered from 1 on", split, len(samples))
            samples = [replace(sample, image_id=number) for number, sample in enumerate(samples, 1)]
        document = Split(split, samples, self.names, self.category_ids).ground_truth()
        for image, picture in zip(document["images"], pictures):
            image["file_name"] = picture.name
        target = self.out / "annotations" / f"instances_{split}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document), encoding="utf-8")
        return {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}


Coco.Writer = CocoWriter
