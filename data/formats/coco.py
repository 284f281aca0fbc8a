"""COCO JSON: one file of `images`, `annotations` and `categories` a split (https://cocodataset.org/#format-data)."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from utils.errors import UserError

from ..places import find_below
from .base import FORMATS, Format, Problems, Sample, Split, Writer, select_names

BAD_IMAGE = "entries of images that cannot be used"
BAD_ANNOTATION = "annotations that cannot be used"
NO_IMAGE = "annotations without an image"
NO_CATEGORY = "annotations of a category that the file does not list"
OUTSIDE_SET = "pictures named outside the data set's folder"


@FORMATS.register("coco")
class Coco(Format):
    """COCO JSON and folders of pictures.

    A split is `{images: FOLDER, annotations: FILE}`, or one of the two as text, the other being looked for at the
    usual places (`images/train2017` and `annotations/instances_train2017.json`). Categories keep their ids, whatever
    the gaps; `iscrowd`, `area`, `segmentation`, `width` and `height` may be missing.
    """

    def __init__(self, config, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = Problems()
        self.root = config.root
        where = f"{config.path}: {split}"
        self.folders, self.json_path = _locate(config, split, where)
        document = _load(self.json_path)
        self._images = _list(document, "images", self.json_path, required=True)
        self._annotations = _list(document, "annotations", self.json_path)
        self.categories = _categories(document, self.json_path, self.problems)
        self.names, self.category_ids = select_names(self.categories, names, strict, f"{where}: {self.json_path}")

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        if isinstance(value, dict) or (isinstance(value, str) and value.endswith(".json")):
            return 3
        return int(isinstance(value, str) and any(os.path.isfile(place) for place in _json_places(root, root / value)))

    def __iter__(self) -> Iterator[Sample]:
        images = self._good_images()
        rows = self._rows_by_image(images)
        folders = self._order_folders(images)
        for image_id, image in images.items():
            path = self._picture(image["file_name"], folders)
            if path is None:
                self.problems.note(OUTSIDE_SET, f"{self.json_path}: image {image_id}: {image['file_name']!r:.100}")
                continue
            yield self._sample(image_id, image, path, rows.get(image_id, ()))

    def _good_images(self) -> dict:
        """Image id -> its entry, in the file's order, without the entries that can't be used."""
        images = {}
        for index, image in enumerate(self._images):
            image_id = _id(image.get("id")) if isinstance(image, dict) else None
            good = image_id is not None and image_id not in images
            if good and isinstance(image.get("file_name"), str) and image["file_name"]:
                images[image_id] = image
            else:
                self.problems.note(BAD_IMAGE, f"{self.json_path}: images[{index}]: {str(image):.100}")
        return images

    def _rows_by_image(self, images: dict) -> dict:
        """Image id -> its annotations of the wanted classes."""
        labels = {id_: label for label, id_ in enumerate(self.category_ids)}
        known = {id_ for id_, _ in self.categories}
        rows: dict = {}
        for index, row in enumerate(self._annotations):
            try:
                image_id, category = row["image_id"], row["category_id"]
                if image_id not in images:
                    self.problems.note(NO_IMAGE, f"{self.json_path}: annotations[{index}], image_id {image_id!r:.50}")
                elif category in labels and "bbox" in row:
                    rows.setdefault(image_id, []).append((row, labels[category]))
                elif category not in known:
                    self.problems.note(NO_CATEGORY, f"{self.json_path}: annotations[{index}], {category!r:.50}")
                elif "bbox" not in row:
                    self.problems.note(BAD_ANNOTATION, f"{self.json_path}: annotations[{index}]: no bbox")
            except (TypeError, KeyError):
                self.problems.note(BAD_ANNOTATION, f"{self.json_path}: annotations[{index}]: {str(row):.100}")
        return rows

    def _sample(self, image_id, image: dict, path: Path, rows) -> Sample:
        boxes = self._boxes(rows)  # (n, 4) xywh
        return Sample(
            path=path,
            boxes=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
            labels=np.array([label for _, label in rows], np.int64),
            crowd=np.array([row.get("iscrowd") in (1, True, "1") for row, _ in rows], bool),
            areas=np.array([_positive(row.get("area")) for row, _ in rows], np.float64),
            annotation_ids=np.array([_int64(row.get("id")) for row, _ in rows], np.int64),
            image_id=image_id,
            width=_size(image.get("width")),
            height=_size(image.get("height")),
            source_boxes=boxes,
        )

    def _boxes(self, rows) -> np.ndarray:
        """(n, 4) float64 xywh; a box that isn't four numbers becomes NaN, which settling drops and counts."""
        try:
            boxes = np.array([row["bbox"] for row, _ in rows], np.float64).reshape(-1, 4)
            if len(boxes) == len(rows):
                return boxes
        except (TypeError, ValueError, OverflowError):
            pass
        boxes = np.full((len(rows), 4), np.nan)
        for index, (row, _) in enumerate(rows):
            try:
                boxes[index] = np.array(row["bbox"], np.float64).reshape(4)
            except (TypeError, ValueError, OverflowError):
                continue
        return boxes

    def _order_folders(self, images: dict) -> list[Path]:
        """The folders that pictures may be in, the one that has the first few of them first."""
        few = [image["file_name"] for image in list(images.values())[:5]]

        def found(folder: Path) -> int:
            places = [self._picture(name, [folder]) for name in few]
            return sum(os.path.exists(place) for place in places if place is not None)

        return sorted(self.folders, key=found, reverse=True)

    def _picture(self, name: str, folders: list[Path]) -> Path | None:
        """Where a picture lies, or None when its name leads out of the data set."""
        if "\0" in name:
            return None
        if "\\" in name and os.sep == "/":  # written on Windows
            name = name.replace("\\", "/")
        place = os.path.normpath(folders[0] / name)
        for base in (folders[0], self.root):
            if place.startswith(os.path.join(os.path.normpath(base), "")):
                return Path(place)
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


def _load(path: Path) -> dict:
    try:
        with open(path, encoding="utf-8-sig") as file:
            document = json.load(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise UserError(f"{path}: not COCO JSON: nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {str(error):.200}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: not COCO JSON: expected a mapping with images, annotations and categories")
    return document


def _list(document: dict, key: str, path: Path, required: bool = False) -> list:
    value = document.get(key)
    if value is None and not required:  # COCO's own image_info files have no annotations
        return []
    if not isinstance(value, list):
        got = "nothing" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{path}: not COCO JSON: '{key}' should be a list, got {got}")
    return value


def _categories(document: dict, path: Path, problems: Problems) -> list[tuple[int, str]]:
    """(id, name) of every category by rising id; a name that is taken gets its id added."""
    found = {}
    for index, category in enumerate(_list(document, "categories", path)):
        id_ = _id(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        if not isinstance(id_, int) or not isinstance(name, (str, int)) or name == "":
            raise UserError(f"{path}: categories[{index}]: expected an id and a name, got {category!r:.100}")
        if id_ in found:
            raise UserError(f"{path}: categories[{index}]: id {id_} is taken by '{found[id_]}'")
        found[id_] = str(name)
    pairs, taken = [], set()
    for id_ in sorted(found):
        name = found[id_]
        if name in taken:
            problems.note("categories with the name of another", f"{path}: id {id_} '{name}'")
            name = f"{name} (id {id_})"
        taken.add(name)
        pairs.append((id_, name))
    return pairs


def _id(value) -> int | str | None:
    """An id as an int or text; None when it is neither."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _int64(value) -> int:
    """An annotation id, 0 ('none') when it is missing or no number that fits."""
    good = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62
    return value if good else 0


def _positive(value) -> float:
    """An area, NaN ('take the box's') when it is missing or no number from 0 on."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
    return number if 0 <= number < float("inf") else float("nan")


def _size(value) -> int:
    """A declared width or height, 0 when it is missing or no whole number."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31
    return int(value) if good else 0


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
