"""labelme: one JSON per image beside it, with `shapes` (https://github.com/wkentaro/labelme)."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftdet.data.formats.files.image_lists import find_sources, list_images, walk_images
from graftdet.data.formats.format import FORMATS, DataConfig
from graftdet.data.formats.parsing.json_values import read_size
from graftdet.data.formats.parsing.segmentation import box_of_segmentation
from graftdet.data.formats.per_image import Annotation, Entry, PerImageFormat, rate_annotations
from graftdet.data.paths import find_first
from graftdet.utils.files import is_litter, read_regular_file, regular_file
from graftdet.utils.text import decode_unicode, marked_encoding
from graftdet.utils.untrusted.limits import MAX_LABELS

_SAMPLED = 1000  # files that are counted to rate a folder
_MAX_HEAD = 100_000  # bytes that are read to recognize a file; the image itself may follow


@FORMATS.register("labelme")
class Labelme(PerImageFormat):
    """JSON files of labelme beside their images.

    A split is a folder (searched recursively), a `.txt` list of images, or a list of these. Polygons, rectangles,
    circles, masks and rotated rectangles become their bounding boxes; points and lines have none. Images are found by
    the name of the JSON, else by its `imagePath`.
    """

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate a folder by its first JSON."""
        path = find_first(root, value)
        first = next(_json_files(path), None) if path and path.is_dir() else None
        if first is None:
            return 0
        try:
            with open(first, "rb", opener=regular_file) as file:
                data = file.read(_MAX_HEAD)
        except OSError:
            return 0
        head = data.decode(
            marked_encoding(data) or "utf-8", errors="replace"
        )  # what is malformed is reported on reading
        if '"shapes"' not in head or ('"imagePath"' not in head and '"shape_type"' not in head):
            return 0
        num_images = sum(1 for _ in zip(walk_images(first.parent), range(_SAMPLED), strict=False))
        return rate_annotations(
            sum(1 for _ in zip(_json_files(first.parent), range(_SAMPLED), strict=False)), num_images
        )

    def list_entries(self, config: DataConfig, split: str) -> list[Entry]:
        """Return all images of the folders, and the images of JSON files that have another name."""
        found = {image.with_suffix(".json"): image for image in list_images(config, split, self.problems)}
        for source in find_sources(config, split):
            for path in _json_files(source) if source.is_dir() else ():
                if path not in found:
                    found[path] = _image_of(path)
        named = {image for path, image in found.items() if path.is_file()}
        files = {path: image for path, image in found.items() if path.is_file() or image not in named}
        return [Entry(image, path if path.is_file() else None) for path, image in sorted(files.items())]

    def parse(self, data: bytes, path: Path) -> Annotation:
        """Return the shapes of a file as boxes."""
        try:
            document = json.loads(decode_unicode(data, str(path), comments=False))
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
            raise ValueError("not a file of labelme: it has no list of shapes")
        objects, malformed = [], []
        for index, shape in enumerate(document["shapes"]):
            name = shape.get("label") if isinstance(shape, dict) else None
            box = _box_of_shape(shape) if isinstance(name, (str, int)) and str(name).strip() else None
            if box is None:
                kind = shape.get("shape_type", "") if isinstance(shape, dict) else ""
                malformed.append(f"shapes[{index}] {kind!s:.30}".rstrip())
            else:
                objects.append((str(name).strip(), box, False))
        width, height = read_size(document.get("imageWidth")), read_size(document.get("imageHeight"))
        return Annotation(objects, width, height, tuple(malformed))


def _json_files(folder: Path) -> Iterator[Path]:
    """The JSON files below a folder, sorted."""
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_litter(name))
        names = sorted(name for name in files if name.lower().endswith(".json") and not is_litter(name))
        yield from (Path(base, name) for name in names)


def _image_of(path: Path) -> Path:
    """The image that a JSON names, which may not exist."""
    try:
        document = json.loads(decode_unicode(read_regular_file(path, MAX_LABELS), str(path), comments=False))
        name = document["imagePath"].replace("\\", "/")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return path.with_suffix(".jpg")
    beside = path.parent / name.rpartition("/")[2]
    given = Path(os.path.normpath(path.parent / name))
    return beside if beside.is_file() or not given.is_file() else given


def _box_of_shape(shape: dict) -> tuple[float, float, float, float] | None:
    """The corners around a shape; None if it has no area."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in ("point", "points", "line", "linestrip") or not isinstance(points, list):
        return None
    if kind == "circle":  # the center and a point of the edge
        try:
            (x, y), (edge_x, edge_y) = points
            radius = math.hypot(edge_x - x, edge_y - y)
        except (TypeError, ValueError):
            return None
        return (x - radius, y - radius, x + radius, y + radius) if radius > 0 else None
    box = box_of_segmentation(points)
    return box and (box[0], box[1], box[0] + box[2], box[1] + box[3])
