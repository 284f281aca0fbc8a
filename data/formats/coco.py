"""COCO JSON: one file of `images`, `annotations` and `categories` per split (https://cocodataset.org/#format-data)."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.files.image_finder import FoundImages, ImageFinder
from graftdet.data.formats.files.image_lists import LISTED_TWICE
from graftdet.data.formats.format import FORMATS, OTHER_CLASS, DataConfig, Format, Writer, select_names
from graftdet.data.formats.parsing.coco_json import read_columns
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.parallel_io import DirectoryListings
from graftdet.data.paths import find_below
from graftdet.utils.boxes import xywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.text import counted

CORNERS = "boxes that look like x1, y1, x2, y2; COCO JSON has x, y, width, height"
MIN_CORNERS = 3  # boxes; fewer may exceed their image by mistake
OUTSIDE_FOLDER = "images whose name leads out of the dataset folder"


@FORMATS.register("coco")
class Coco(Format):
    """COCO JSON and folders of images.

    A split is `{images: FOLDER, annotations: FILE}`, or one of the two as plain text if the other is at a usual
    location (`images/train2017` and `annotations/instances_train2017.json`). Categories keep their ids, with any gaps;
    `iscrowd`, `area`, `segmentation`, `width` and `height` are optional. A missing `bbox` is derived from the
    segmentation. Images are found by names that other machines wrote (`ImageFinder`).
    """

    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        self.root, self._crowds_as_objects = config.root, config.reading.crowds_as_objects
        where = f"{config.path}: {split}"
        self.folders, self.json_path = _find_files(config, split, where)
        self._columns = read_columns(self.json_path)
        self.problems = self._columns.problems
        categories = self._columns.categories
        if names is None and not config.names_given and config.nc not in (None, len(categories)):
            raise UserError(
                f"{config.path}: nc is {config.nc} but {self.json_path} has {counted(len(categories), 'category')}"
            )
        self.names, self.category_ids = select_names(categories, names, strict, f"{where}: {self.json_path}")

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate a JSON, a mapping, or a folder whose JSON is at a usual location."""
        if isinstance(value, dict) or (isinstance(value, str) and value.endswith(".json")):
            return 3
        return int(isinstance(value, str) and any(map(os.path.isfile, _json_candidates(root, root / value))))

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.table())

    def table(self) -> SampleTable:
        """Return all samples as one table, without making samples."""
        columns = self._columns
        label_of_id = {category_id: label for label, category_id in enumerate(self.category_ids)}
        label_of = np.array([label_of_id.get(category_id, -1) for category_id, _ in columns.categories], np.int64)
        labels = label_of[columns.class_indices]
        paths = self._find_images().paths
        has_path = np.array([path is not None for path in paths], bool)
        self._count_skipped(has_path, labels)
        rows = np.flatnonzero((labels >= 0) & has_path[columns.image_indices])
        boxes = columns.boxes[rows]  # (N, 4) xywh
        self._check_unit(boxes, columns.image_indices[rows])
        images = np.flatnonzero(has_path).tolist()
        return SampleTable(
            paths=[paths[index] for index in images],
            image_ids=[columns.image_ids[index] for index in images],
            widths=columns.widths[has_path],
            heights=columns.heights[has_path],
            apply_exif=np.ones(len(images), bool),
            normalized=np.zeros(len(images), bool),
            box_counts=np.bincount(columns.image_indices[rows], minlength=len(paths))[has_path],
            boxes=xywh_to_xyxy(boxes),
            labels=labels[rows],
            crowd=columns.crowd[rows] & (not self._crowds_as_objects),
            areas=columns.areas[rows],
            annotation_ids=columns.annotation_ids[rows],
            source_boxes=boxes,
        )

    def _count_skipped(self, has_path: np.ndarray, labels: np.ndarray) -> None:
        """Count objects of classes that are not selected, by class."""
        columns = self._columns
        skipped = (labels < 0) & has_path[columns.image_indices]
        counts = np.bincount(columns.class_indices[skipped], minlength=len(columns.categories))
        for (_, name), count in zip(columns.categories, counts.tolist(), strict=True):
            self.problems.add(OTHER_CLASS, f"{self.json_path}: {count} of '{name:.50}'", count)

    def _check_unit(self, boxes: np.ndarray, image_indices: np.ndarray) -> None:
        """Refuse boxes (n, 4) that are relative to the image, and count those that are two corners."""
        finite = np.isfinite(boxes).all(1)
        boxes, image_indices = boxes[finite], image_indices[finite]
        if len(boxes) and boxes.max() <= 1:
            first = ", ".join(f"{value:.4g}" for value in boxes[0])
            raise UserError(
                f"{self.json_path}: all boxes lie within 0..1, such as [{first}]; "
                "expected x, y, width, height in pixels"
            )
        sizes = np.stack([self._columns.widths, self._columns.heights], 1)[image_indices]  # (n, 2)
        if len(boxes) < MIN_CORNERS or not sizes.all():
            return
        exceeds = (boxes[:, :2] + boxes[:, 2:] > sizes + 1).any(1)
        if exceeds.mean() > 0.5 and (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] <= sizes + 1).all():
            self.problems.add(CORNERS, f"{self.json_path}: {boxes[0].round(2).tolist()}", len(boxes))

    def _find_images(self) -> FoundImages:
        """The image of each entry of the JSON; counts names that are ambiguous or lead out of the dataset folder."""
        names = self._columns.file_names
        listings = self.listings = DirectoryListings()
        folders = self._sort_folders(names[:5], listings)
        found = ImageFinder(folders, self.root, listings=listings).find_all(names)
        for index in found.outside:
            image_id = self._columns.image_ids[index]
            self.problems.add(OUTSIDE_FOLDER, f"{self.json_path}: image {image_id}: {names[index]!r:.100}")
        if len(set(found.paths)) < len(found.paths):
            first: dict[str | None, int] = {None: 0}
            for index, path in enumerate(found.paths):
                if first.setdefault(path, index) != index and path is not None:
                    self.problems.add(LISTED_TWICE, f"{self.json_path}: {path}")
        found.count_ambiguous(names, str(self.json_path), self.problems)
        self.notes = found.notes(names)
        return found

    def _sort_folders(self, first_names: list[str], listings: DirectoryListings) -> list[Path]:
        """The folders that images may be in, sorted by how many of the first images they contain."""

        def count_found(folder: Path) -> int:
            found = ImageFinder([folder], self.root, False, listings).find_all(first_names)
            return sum(os.path.exists(path) for path in found.paths if path is not None)

        return sorted(self.folders, key=count_found, reverse=True)


def _find_files(config: DataConfig, split: str, where: str) -> tuple[list[Path], Path]:
    """(folders that the images may be in, path of the JSON) of a split."""
    value, root, hint = config.splits[split], config.root, config.missing_hint
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list):
        raise UserError(f"{where}: the coco format reads one JSON per split, got a list of {len(value)}")
    if isinstance(value, dict):
        json_path = find_below(root, value["annotations"], where, "annotations", hint)
        if "images" in value:
            return [find_below(root, value["images"], where, "images", hint)], json_path
        return _image_folders(root, json_path), json_path
    path = find_below(root, value, where, split, hint)
    if os.path.isfile(path):
        return _image_folders(root, path), path
    candidates = _json_candidates(root, path)
    for candidate in candidates:
        if os.path.isfile(candidate):
            return [path, *_image_folders(root, candidate)], candidate
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise UserError(f"{where}: no COCO JSON found for the images of {path} (tried {tried}); add annotations: FILE")


def _json_candidates(root: Path, folder: Path) -> list[Path]:
    """The usual locations of the JSON for a folder of images."""
    name = folder.name
    below_root = [root / "annotations" / f"{stem}.json" for stem in (f"instances_{name}", name)]
    return [*below_root, folder / "_annotations.coco.json", folder / f"{name}.json", root / f"{name}.json"]


def _image_folders(root: Path, json_path: Path) -> list[Path]:
    """The usual locations of the images of a JSON, those that exist."""
    name = json_path.stem.removeprefix("instances_")
    candidates = [root / "images" / name, root / name, root / "images", json_path.parent, root]
    return [candidate for candidate in dict.fromkeys(candidates) if os.path.isdir(candidate)]


class CocoWriter(Writer):
    """Writes `images/SPLIT/` and `annotations/instances_SPLIT.json` with the ids of the source.

    Image ids that are text are replaced by numbers, which readers of COCO JSON expect.
    """

    NOT_WRITTEN = "segmentation masks and fields other than boxes, areas, crowds and ids"

    def write_split(self, split: str, samples: Sequence[Sample], image_paths: list[Path]) -> object:
        """Write the JSON of a split."""
        if not all(isinstance(sample.image_id, int) for sample in samples):
            self.problems.add("image ids of text, replaced by numbers from 1", split, len(samples))
            samples = [replace(sample, image_id=number) for number, sample in enumerate(samples, 1)]
        document = Split(split, samples, self.names, self.category_ids).ground_truth()
        for image, path in zip(document["images"], image_paths, strict=True):
            image["file_name"] = path.name
        target = self.out / "annotations" / f"instances_{split}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document), encoding="utf-8")
        return {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}


Coco.Writer = CocoWriter
