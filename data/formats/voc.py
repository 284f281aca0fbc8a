"""PASCAL VOC: one XML a picture (https://www.robots.ox.ac.uk/~vgg/projects/pascal/VOC/voc2012/htmldoc/devkit_doc.html).

Boxes are `xmin ymin xmax ymax`, counted from 1, both ends inside. Objects marked `difficult`, which VOC leaves out of
its measure, are taken as crowd regions: not trained on, ignored by the evaluator.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from utils.errors import UserError
from utils.images import PICTURE_SUFFIXES

from .base import FORMATS, Format, Problems, Sample, Writer, select_names
from .pictures import list_pictures, number_pictures, read_lines, swap_folder

BAD_XML = "XML files that cannot be used"
NO_XML = "pictures without an XML file"
NO_PICTURE = "XML files without a picture"
NO_CLASS = "objects of a class that names: does not have"
_MOST_BYTES = 2**24
_PICTURE_FOLDERS = ("JPEGImages", "images", "Images")
_XML_FOLDERS = ("Annotations", "annotations", "xmls")


@FORMATS.register("voc")
class Voc(Format):
    """Folders of pictures, or lists `ImageSets/Main/*.txt` of names, with XMLs in `Annotations/` or beside the pictures.

    Without `names:` the classes are those found in the split's files, sorted. Category ids are the class indices.
    """

    def __init__(self, config, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = Problems()
        self.paths = _pictures(config, split, self.problems)
        self._roots: dict[Path, ElementTree.Element | None] = {}
        known = config.names or names
        if known is None:
            objects = (entry for path in self.paths for entry in self._objects(path))
            known = sorted({_text(entry, "name") for entry in objects} - {""})
        ids = config.name_ids or range(len(known))
        self.source = list(zip(ids, known))
        self.names, self.category_ids = select_names(self.source, names, strict, f"{config.path}: names")

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, str):
                return 0
            place = root / item
            if place.is_file() and "ImageSets" in place.parts:
                return 3
            if place.is_dir() and any(next(folder.glob("*.xml"), None) for folder in _xml_folders(place / "x")):
                return 2
        return 0

    def __iter__(self) -> Iterator[Sample]:
        labels = {name: label for label, name in enumerate(self.names)}
        known = {name for _, name in self.source}
        last_id = 0
        for path, image_id in zip(self.paths, number_pictures(self.paths)):
            root = self._root(path)
            entries = []
            for entry in self._objects(path):
                name = _text(entry, "name")
                if name in labels:
                    entries.append((entry, labels[name]))
                elif name not in known:
                    self.problems.note(NO_CLASS, f"{path.stem}.xml: '{name:.50}'")
            boxes = np.array([_box(entry) for entry, _ in entries], np.float64).reshape(-1, 4)
            count = len(entries)
            yield Sample(
                path=path,
                boxes=boxes,
                labels=np.array([label for _, label in entries], np.int64),
                crowd=np.array([_text(entry, "difficult") == "1" for entry, _ in entries], bool),
                areas=np.full(count, np.nan),
                annotation_ids=np.arange(last_id + 1, last_id + 1 + count, dtype=np.int64),
                image_id=image_id,
                width=_size(root, "width"),
                height=_size(root, "height"),
            )
            last_id += count
            self._roots.pop(path, None)
        self._note_orphans()

    def _objects(self, path: Path) -> list:
        root = self._root(path)
        return [] if root is None else root.findall("object")

    def _root(self, path: Path):
        """The XML of a picture, or None when it has none that can be used, which is noted."""
        if path not in self._roots:
            self._roots[path] = self._read(path)
        return self._roots[path]

    def _read(self, path: Path):
        for folder in _xml_folders(path):
            xml = folder / f"{path.stem}.xml"
            if xml.is_file():
                try:
                    return parse_xml(xml)
                except UserError as error:
                    self.problems.note(BAD_XML, error)
                    return None
        self.problems.note(NO_XML, path)
        return None

    def _note_orphans(self) -> None:
        """Note the XMLs beside those of the split that belong to no picture, neither listed nor lying there."""
        for folder in sorted({path.parent for path in self.paths}):
            stems = {path.stem for path in self.paths if path.parent == folder}
            stems |= {path.stem for path in folder.iterdir() if _is_picture(path)} if folder.is_dir() else set()
            for place in _xml_folders(folder / "x"):
                for xml in sorted(place.glob("*.xml")):
                    if xml.stem not in stems:
                        self.problems.note(NO_PICTURE, xml)


def _pictures(config, split: str, problems: Problems) -> list[Path]:
    """The pictures of a split: as in other formats, and the lists of names below `ImageSets`."""
    paths = list_pictures(config, split, problems)
    found = []
    for path in paths:
        # A list of names gives `ImageSets/Main/000005`: the picture is `JPEGImages/000005.jpg`.
        if "ImageSets" in path.parts:
            name = re.sub(r"\s+-?[01]$", "", path.name)  # lists of one class say whether the picture shows it
            base = path.parents[len(path.parts) - 1 - path.parts.index("ImageSets")] / "JPEGImages" / name
            suffixes = (".jpg", ".png", *sorted(PICTURE_SUFFIXES))
            places = [base.with_name(base.name + suffix) for suffix in suffixes]
            path = next((place for place in places if place.is_file()), places[0])
        found.append(path)
    return found


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def _xml_folders(picture: Path) -> list[Path]:
    """The folders that may hold a picture's XML: for `JPEGImages/`, or `images/train/`, the like below `Annotations/`."""
    folders = [swap_folder(picture, _PICTURE_FOLDERS, name).parent for name in _XML_FOLDERS]
    folders += [picture.parent / name for name in _XML_FOLDERS]
    return list(dict.fromkeys(folder for folder in [*folders, picture.parent] if folder.is_dir()))


def parse_xml(path: Path) -> ElementTree.Element:
    """Read a small XML file into elements. Document types and entities, by which a file can grow without end or read
    others, are refused. Raises `UserError` naming file and line."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_):
        raise UserError(f"{path}, line {parser.CurrentLineNumber}: document types and entities are not allowed")

    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UserError(f"{path}: longer than {_MOST_BYTES} bytes, no XML of one picture")
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid XML: {expat.ErrorString(error.code)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, LookupError) as error:  # a strange encoding
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not valid XML: {error}") from None
    return builder.close()


def _text(element, tag: str) -> str:
    child = element.find(tag)
    return (child.text or "").strip() if child is not None else ""


def _box(entry) -> tuple[float, float, float, float]:
    """xyxy with edges counted from 0; NaN where a number is missing, which settling drops and counts."""
    box = entry.find("bndbox")
    values = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        try:
            values.append(float(_text(box, tag)) if box is not None else float("nan"))
        except ValueError:
            values.append(float("nan"))
    return values[0] - 1, values[1] - 1, values[2], values[3]


def _size(root, tag: str) -> int:
    size = root.find("size") if root is not None else None
    text = _text(size, tag) if size is not None else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


class VocWriter(Writer):
    """`JPEGImages/`, `Annotations/` and `ImageSets/Main/SPLIT.txt`; crowd regions are marked difficult."""

    CANNOT_CARRY = "areas, image ids, annotation ids, category ids"

    def picture_path(self, split: str, name: str) -> Path:
        return self.out / "JPEGImages" / name

    def write_split(self, split: str, samples: list[Sample], pictures: list[Path]) -> object:
        from .yolo import clipped_source

        folder, lists = self.out / "Annotations", self.out / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        lists.mkdir(parents=True, exist_ok=True)
        for sample, picture in zip(samples, pictures):
            root = ElementTree.Element("annotation")
            ElementTree.SubElement(root, "folder").text = picture.parent.name
            ElementTree.SubElement(root, "filename").text = picture.name
            size = ElementTree.SubElement(root, "size")
            for tag, number in (("width", sample.width), ("height", sample.height), ("depth", 3)):
                ElementTree.SubElement(size, tag).text = str(int(number))
            for box, label, crowd in zip(clipped_source(sample).tolist(), sample.labels, sample.crowd):
                self._add_object(root, box, self.names[int(label)], bool(crowd))
            ElementTree.indent(root)
            ElementTree.ElementTree(root).write(folder / f"{picture.stem}.xml", encoding="utf-8")
        (lists / f"{split}.txt").write_text("".join(f"{path.stem}\n" for path in pictures), encoding="utf-8")
        return f"ImageSets/Main/{split}.txt"

    def _add_object(self, root, box: list[float], name: str, crowd: bool) -> None:
        x, y, w, h = box
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = name
        ElementTree.SubElement(entry, "difficult").text = str(int(crowd))
        bounds = ElementTree.SubElement(entry, "bndbox")
        for tag, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h)):
            ElementTree.SubElement(bounds, tag).text = f"{value:.12g}"


Voc.Writer = VocWriter
