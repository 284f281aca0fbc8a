"""Reading COCO JSON into columns, with a cache: a file of 100 MB takes seconds to parse and a moment to load again."""

import gc
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from itertools import repeat
from operator import itemgetter
from pathlib import Path

import numpy as np

from graftdet.data.formats.parsing.json_values import (
    read_areas,
    read_boxes,
    read_id,
    read_ids,
    read_size,
    read_whole_number,
)
from graftdet.data.formats.parsing.segmentation import box_of_segmentation
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder, read_regular_file, refuse_lfs_pointer, write_atomically
from graftdet.utils.text import decode_unicode
from graftdet.utils.untrusted.limits import MAX_ANNOTATIONS

BAD_IMAGE = "entries of images that cannot be used"
BAD_ANNOTATION = "annotations that cannot be used"
NO_IMAGE = "annotations without an image"
NO_CATEGORY = "annotations of a category that the file does not list"
SAME_NAME = "categories with the name of another"

MIN_CACHED_BYTES = 4_000_000  # of JSON; smaller files are parsed as fast as cached columns are found
_BYTES_PER_CONTAINER = 8  # at least; empty lists, which take 72 bytes in memory, need 3 in a file
_LAYOUT = b"columns 4"  # of the cache file; change it whenever `CocoColumns` changes


@dataclass
class CocoColumns:
    """The boxes of a COCO JSON as columns. Entries that cannot be used are skipped and counted in `problems`.

    Annotations are grouped by image, in the order of the images, then in the order of the file.
    """

    categories: list[tuple[int, str]]  # (id, name) in ascending order of ids
    image_ids: list[int | str]  # (n,)
    file_names: list[str]  # (n,)
    widths: np.ndarray  # (n,) int64, 0 if missing
    heights: np.ndarray  # (n,) int64, 0 if missing
    image_indices: np.ndarray  # (N,) int64, index of the image of each box
    class_indices: np.ndarray  # (N,) int64, index into `categories`
    boxes: np.ndarray  # (N, 4) float64 xywh; NaN for what is not four numbers, which validation drops and counts
    crowd: np.ndarray  # (N,) bool
    areas: np.ndarray  # (N,) float64, NaN if missing
    annotation_ids: np.ndarray  # (N,) int64, 0 if missing
    problems: ProblemCounts


def read_columns(path: Path) -> CocoColumns:
    """Read a COCO JSON, or the cached columns of a file with the same path and content.

    Args:
        path: the JSON file.

    Returns:
        Its columns.

    Raises:
        UserError: if the file cannot be read or is not COCO JSON.
    """
    try:
        data = read_regular_file(path, MAX_ANNOTATIONS)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    refuse_lfs_pointer(path, data[:64])
    if len(data) < MIN_CACHED_BYTES:
        return _parse(data, path)
    name = hashlib.blake2b(data, digest_size=20, salt=_LAYOUT)
    name.update(os.fsencode(path))  # which is part of the locations in `problems`
    cached = cache_folder() / "annotations" / f"{name.hexdigest()}.npz"
    columns = _load(cached)
    if columns is None:
        columns = _parse(data, path)
        with suppress(UserError):  # the disk is full: parsed again the next time
            write_atomically(cached, _to_npz(columns))
    return columns


def _to_npz(columns: CocoColumns) -> bytes:
    """The columns as bytes of an .npz file; lists as JSON."""
    arrays = {}
    for column in fields(columns):
        value = getattr(columns, column.name)
        if isinstance(value, ProblemCounts):
            value = [list(value.items()), value.examples]
        arrays[column.name] = (
            value if isinstance(value, np.ndarray) else np.frombuffer(json.dumps(value).encode(), np.uint8)
        )
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _load(path: Path) -> CocoColumns | None:
    """Cached columns; None if there are none or the file is malformed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {column.name: file[column.name] for column in fields(CocoColumns)}
        for name in ("categories", "image_ids", "file_names", "problems"):
            values[name] = json.loads(values[name].tobytes())
        counts, examples = values["problems"]
        values["problems"] = ProblemCounts.restore(dict(counts), examples)
        values["categories"] = [tuple(pair) for pair in values["categories"]]
        return CocoColumns(**values)
    except Exception:  # whatever a malformed file raises: the JSON is read instead
        return None


def _parse(data: bytes, path: Path) -> CocoColumns:
    with _without_garbage_collection():
        document = _document(data, path)
        images = _list(document, "images", path, required=True)
        annotations = _list(document, "annotations", path)
        problems = ProblemCounts()
        categories = _categories(_list(document, "categories", path), path, problems)
        usable = _usable_images(images, path, problems)
        columns = _annotation_columns(annotations, usable, categories, path, problems)
        return CocoColumns(
            categories=categories,
            image_ids=list(usable),
            file_names=[image["file_name"] for image in usable.values()],
            widths=np.array([read_size(image.get("width")) for image in usable.values()], np.int64),
            heights=np.array([read_size(image.get("height")) for image in usable.values()], np.int64),
            **columns,
            problems=problems,
        )


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable Python's garbage collector, which would scan millions of new objects again and again for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _document(data: bytes, path: Path) -> dict:
    containers = data.count(b"{") + data.count(b"[")
    if containers > max(len(data) // _BYTES_PER_CONTAINER, 1 << 20):
        raise UserError(f"{path}: not COCO JSON: {containers} lists and mappings in {len(data)} bytes")
    text = decode_unicode(data, str(path), comments=False)
    try:
        document = json.loads(text)
    except RecursionError:
        raise UserError(f"{path}: not COCO JSON: nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error!s:.200}") from None
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


def _categories(entries: list, path: Path, problems: ProblemCounts) -> list[tuple[int, str]]:
    """(id, name) of each category in ascending order of ids; the id is appended to a name that is used twice."""
    found = {}
    for index, category in enumerate(entries):
        id_ = read_whole_number(category.get("id")) if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        if id_ is None or not isinstance(name, (str, int)) or not str(name).strip():
            expected = "expected a whole number as id, and a name"
            raise UserError(f"{path}: categories[{index}]: {expected}, got {category!r:.100}")
        if id_ in found:
            raise UserError(f"{path}: categories[{index}]: id {id_} is already used by '{found[id_]}'")
        found[id_] = str(name).strip()
    pairs, used = [], set()
    for id_ in sorted(found):
        name = found[id_]
        if name in used:
            problems.add(SAME_NAME, f"{path}: id {id_} '{name}'")
            name = f"{name} (id {id_})"
        used.add(name)
        pairs.append((id_, name))
    return pairs


def _usable_images(entries: list, path: Path, problems: ProblemCounts) -> dict:
    """Image id -> its entry, in the order of the file, without the entries that cannot be used."""
    images = {}
    for index, image in enumerate(entries):
        image_id = read_id(image.get("id")) if isinstance(image, dict) else None
        is_new = image_id is not None and image_id not in images
        if is_new and isinstance(image.get("file_name"), str) and image["file_name"]:
            images[image_id] = image
        else:
            problems.add(BAD_IMAGE, f"{path}: images[{index}]: {image!s:.100}")
    return images


def _annotation_columns(annotations: list, images: dict, categories: list, path: Path, problems: ProblemCounts) -> dict:
    """The columns of `CocoColumns` for annotations; entries that cannot be used are counted."""
    image_index = {image_id: index for index, image_id in enumerate(images)}
    class_index = {id_: index for index, (id_, _) in enumerate(categories)}
    rows, positions = annotations, range(len(annotations))
    try:
        image_indices = _lookup(rows, "image_id", image_index)
        class_indices = _lookup(rows, "category_id", class_index)
    except (TypeError, KeyError):  # not all annotations have both
        rows, positions = _with_ids(annotations, path, problems)
        image_indices = _lookup(rows, "image_id", image_index)
        class_indices = _lookup(rows, "category_id", class_index)
    without_box = [index for index, row in enumerate(rows) if not row.get("bbox")]
    derived = {index: box_of_segmentation(rows[index].get("segmentation")) for index in without_box}
    has_box = np.ones(len(rows), bool)
    has_box[[index for index, box in derived.items() if box is None]] = False
    usable = (image_indices >= 0) & (class_indices >= 0) & has_box
    for index in np.flatnonzero(~usable).tolist():
        where, row = f"{path}: annotations[{positions[index]}]", rows[index]
        if image_indices[index] < 0:
            problems.add(NO_IMAGE, f"{where}, image_id {row['image_id']!r:.50}")
        elif class_indices[index] < 0:
            problems.add(NO_CATEGORY, f"{where}, {row['category_id']!r:.50}")
        else:
            problems.add(BAD_ANNOTATION, f"{where}: no bbox, and no segmentation to derive it from")
    order = np.flatnonzero(usable)
    order = order[np.argsort(image_indices[order], kind="stable")]
    boxes = [derived.get(index) or rows[index]["bbox"] for index in order.tolist()]
    rows = [rows[index] for index in order.tolist()]
    return {
        "image_indices": image_indices[order],
        "class_indices": class_indices[order],
        "boxes": read_boxes(boxes),
        "crowd": np.array([row.get("iscrowd") in (1, True, "1") for row in rows], bool),
        "areas": read_areas([row.get("area") for row in rows]),
        "annotation_ids": read_ids([row.get("id") for row in rows]),
    }


def _lookup(rows: list[dict], key: str, index_of: dict) -> np.ndarray:
    """(n,) entry of `index_of` for the value of `key` in each row, -1 if there is none; "1" and 1 are the same id."""
    indices = np.fromiter(map(index_of.get, map(itemgetter(key), rows), repeat(-1)), np.int64, len(rows))
    missing = np.flatnonzero(indices < 0).tolist()
    if missing:
        numbers = Counter(map(read_whole_number, index_of))
        index_of_number = {
            number: index for id_, index in index_of.items() if numbers[number := read_whole_number(id_)] == 1
        }
        for index in missing:
            number = read_whole_number(rows[index][key])
            indices[index] = -1 if number is None else index_of_number.get(number, -1)
    return indices


def _with_ids(annotations: list, path: Path, problems: ProblemCounts) -> tuple[list[dict], list[int]]:
    """(annotations with a hashable image_id and category_id, their positions in the file)."""
    rows, positions = [], []
    for index, row in enumerate(annotations):
        try:
            hash(row["image_id"]), hash(row["category_id"])
        except (TypeError, KeyError):
            problems.add(BAD_ANNOTATION, f"{path}: annotations[{index}]: {row!s:.100}")
        else:
            rows.append(row)
            positions.append(index)
    return rows, positions
