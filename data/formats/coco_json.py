"""Reading COCO JSON into columns, and keeping them: a file of 100 MB takes seconds to parse and a blink to load again."""

import gc
import hashlib
import io
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import repeat
from operator import itemgetter
from pathlib import Path

import numpy as np
from graftdet.data.formats.base import Problems
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder, write_atomically

BAD_IMAGE = "entries of images that cannot be used"
BAD_ANNOTATION = "annotations that cannot be used"
NO_IMAGE = "annotations without an image"
NO_CATEGORY = "annotations of a category that the file does not list"
SAME_NAME = "categories with the name of another"

WORTH_KEEPING = 4_000_000  # bytes of JSON: smaller files are parsed as fast as columns are found
_LAYOUT = b"columns 1"  # of what is kept; another one, another name


@dataclass
class CocoColumns:
    """What a COCO JSON says of boxes, without the entries that cannot be used; those are in `problems`.

    Annotations lie together by image, in the order of the images, then in that of the file.
    """

    categories: list  # (id, name) by rising id
    image_ids: list  # (n,) int or text
    file_names: list  # (n,) text
    widths: np.ndarray  # (n,) int64, 0 when it is not told
    heights: np.ndarray
    owners: np.ndarray  # (N,) int64, which image
    classes: np.ndarray  # (N,) int64, which of `categories`
    boxes: np.ndarray  # (N, 4) float64 xywh; NaN for what isn't four numbers, which settling drops and counts
    crowd: np.ndarray  # (N,) bool
    areas: np.ndarray  # (N,) float64, NaN: not told
    annotation_ids: np.ndarray  # (N,) int64, 0: none
    problems: Problems


def read_columns(path: Path) -> CocoColumns:
    """Read a COCO JSON, or what was kept of a file of the same content. Raises `UserError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if len(data) < WORTH_KEEPING:
        return _parse(data, path)
    name = hashlib.blake2b(data, digest_size=20, salt=_LAYOUT)
    name.update(os.fsencode(path))  # which the places of problems tell
    kept = cache_folder() / "annotations" / f"{name.hexdigest()}.npz"
    columns = _load(kept)
    if columns is None:
        columns = _parse(data, path)
        try:
            write_atomically(kept, _packed(columns))
        except UserError:
            pass  # no room: parsed again the next time
    return columns


def _packed(columns: CocoColumns) -> bytes:
    """The columns as bytes of an .npz file; lists as JSON."""
    arrays = {}
    for column in fields(columns):
        value = getattr(columns, column.name)
        if isinstance(value, Problems):
            value = [list(value.items()), value.examples]
        arrays[column.name] = (
            value if isinstance(value, np.ndarray) else np.frombuffer(json.dumps(value).encode(), np.uint8)
        )
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _load(path: Path) -> CocoColumns | None:
    """Columns that were kept; None when they are not there or torn."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {column.name: file[column.name] for column in fields(CocoColumns)}
        for name in ("categories", "image_ids", "file_names", "problems"):
            values[name] = json.loads(values[name].tobytes())
        counts, examples = values["problems"]
        values["problems"] = Problems.of(dict(counts), examples)
        values["categories"] = [tuple(pair) for pair in values["categories"]]
        return CocoColumns(**values)
    except Exception:  # whatever a torn or foreign file makes of it: it is read anew
        return None


def _parse(data: bytes, path: Path) -> CocoColumns:
    with _no_collection():
        document = _document(data, path)
        images = _list(document, "images", path, required=True)
        annotations = _list(document, "annotations", path)
        problems = Problems()
        categories = _categories(_list(document, "categories", path), path, problems)
        good = _good_images(images, path, problems)
        columns = _annotation_columns(annotations, good, categories, path, problems)
        return CocoColumns(
            categories=categories,
            image_ids=list(good),
            file_names=[image["file_name"] for image in good.values()],
            widths=np.array([_size(image.get("width")) for image in good.values()], np.int64),
            heights=np.array([_size(image.get("height")) for image in good.values()], np.int64),
            **columns,
            problems=problems,
        )


@contextmanager
def _no_collection():
    """Millions of objects that all stay make Python's collector of cycles look at them over and over for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _document(data: bytes, path: Path) -> dict:
    try:
        document = json.loads(data.decode("utf-8-sig"))
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


def _categories(entries: list, path: Path, problems: Problems) -> list[tuple[int, str]]:
    """(id, name) of every category by rising id; a name that is taken gets its id added."""
    found = {}
    for index, category in enumerate(entries):
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
            problems.note(SAME_NAME, f"{path}: id {id_} '{name}'")
            name = f"{name} (id {id_})"
        taken.add(name)
        pairs.append((id_, name))
    return pairs


def _good_images(entries: list, path: Path, problems: Problems) -> dict:
    """Image id -> its entry, in the file's order, without the entries that can't be used."""
    images = {}
    for index, image in enumerate(entries):
        image_id = _id(image.get("id")) if isinstance(image, dict) else None
        good = image_id is not None and image_id not in images
        if good and isinstance(image.get("file_name"), str) and image["file_name"]:
            images[image_id] = image
        else:
            problems.note(BAD_IMAGE, f"{path}: images[{index}]: {str(image):.100}")
    return images


def _annotation_columns(annotations: list, images: dict, categories: list, path: Path, problems: Problems) -> dict:
    """The columns of `CocoColumns` that are about annotations; those that cannot be used are noted."""
    image_of = {image_id: row for row, image_id in enumerate(images)}
    class_of = {id_: row for row, (id_, _) in enumerate(categories)}
    rows, numbers = annotations, range(len(annotations))
    try:
        owners, classes = _numbers(rows, "image_id", image_of), _numbers(rows, "category_id", class_of)
    except (TypeError, KeyError):  # not all of them have both
        rows, numbers = _with_ids(annotations, path, problems)
        owners, classes = _numbers(rows, "image_id", image_of), _numbers(rows, "category_id", class_of)
    boxed = np.fromiter(("bbox" in row for row in rows), bool, len(rows))
    for place in np.flatnonzero((owners < 0) | (classes < 0) | ~boxed).tolist():
        where, row = f"{path}: annotations[{numbers[place]}]", rows[place]
        if owners[place] < 0:
            problems.note(NO_IMAGE, f"{where}, image_id {row['image_id']!r:.50}")
        elif classes[place] < 0:
            problems.note(NO_CATEGORY, f"{where}, {row['category_id']!r:.50}")
        else:
            problems.note(BAD_ANNOTATION, f"{where}: no bbox")
    good = np.flatnonzero((owners >= 0) & (classes >= 0) & boxed)
    good = good[np.argsort(owners[good], kind="stable")]
    rows = [rows[place] for place in good.tolist()]
    return {
        "owners": owners[good],
        "classes": classes[good],
        "boxes": _boxes([row["bbox"] for row in rows]),
        "crowd": np.array([row.get("iscrowd") in (1, True, "1") for row in rows], bool),
        "areas": _areas([row.get("area") for row in rows]),
        "annotation_ids": _ids([row.get("id") for row in rows]),
    }


def _numbers(rows: list[dict], key: str, number_of: dict) -> np.ndarray:
    """(n,) what `number_of` has for `key` of each row, -1 where it has nothing."""
    return np.fromiter(map(number_of.get, map(itemgetter(key), rows), repeat(-1)), np.int64, len(rows))


def _with_ids(annotations: list, path: Path, problems: Problems) -> tuple[list[dict], list[int]]:
    """(the annotations that name an image and a category by what may be an id, their places in the file)."""
    rows, numbers = [], []
    for index, row in enumerate(annotations):
        try:
            hash(row["image_id"]), hash(row["category_id"])
        except (TypeError, KeyError):
            problems.note(BAD_ANNOTATION, f"{path}: annotations[{index}]: {str(row):.100}")
        else:
            rows.append(row)
            numbers.append(index)
    return rows, numbers


def _boxes(values: list) -> np.ndarray:
    """(n, 4) float64; NaN for what isn't four numbers."""
    try:
        boxes = np.array(values, np.float64)
        if boxes.shape == (len(values), 4):
            return boxes
    except (TypeError, ValueError, OverflowError):
        pass
    boxes = np.full((len(values), 4), np.nan)
    for index, value in enumerate(values):
        try:
            boxes[index] = np.array(value, np.float64).reshape(4)
        except (TypeError, ValueError, OverflowError):
            continue
    return boxes


def _id(value) -> int | str | None:
    """An id as an int or text; None when it is neither."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _ids(values: list) -> np.ndarray:
    """Annotation ids, 0 ('none') where one is missing or no whole number that fits."""
    if set(map(type, values)) <= {int}:
        try:
            ids = np.array(values, np.int64)
            return np.where(np.abs(ids) < 2**62, ids, 0)
        except OverflowError:
            pass
    fits = [isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62 for value in values]
    return np.array([value if good else 0 for value, good in zip(values, fits)], np.int64)


def _areas(values: list) -> np.ndarray:
    """Areas, NaN ('take the box's') where one is missing or no number from 0 on."""
    try:
        areas = np.array(values, np.float64).reshape(len(values))
    except (TypeError, ValueError, OverflowError):
        areas = np.array([_float(value) for value in values])
    return np.where((areas >= 0) & (areas < np.inf), areas, np.nan)


def _float(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _size(value) -> int:
    """A declared width or height, 0 when it is missing or no whole number."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 2**31
    return int(value) if good else 0
