"""PASCAL VOC: one XML a picture (Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from graftdet.data.formats.base import FORMATS, OTHER_CLASS, Format, Problems, Writer, select_names
from graftdet.data.formats.image_lists import LISTED_TWICE, read_lines
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.voc_xml import VocAnnotation, VocObject, read_voc_xml, voc_xml
from graftdet.data.parallel_io import map_threads
from graftdet.data.paths import find_below, look_below
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import IMAGE_SUFFIXES

BAD_FILE = "annotation files that cannot be read"
NO_FILE = "pictures without an annotation file"
BAD_OBJECT = "objects without a name or box"

_XML_FOLDERS = ("Annotations", "annotations", "xmls")
_PICTURE_FOLDERS = ("JPEGImages", "images", "Images")


class _Entry(NamedTuple):
    """A picture's id and where its annotation file and itself lie (None: there is none)."""

    image_id: str
    xml: Path | None
    picture: Path | None
    pictures: "_Stems"  # where to look when the XML names its picture otherwise


@FORMATS.register("voc")
class Voc(Format):
    """VOC folders: `Annotations/*.xml` and `JPEGImages/`.

    A split is a list below `ImageSets` (a picture's id a line), a folder that holds Annotations and JPEGImages (all of
    it), a folder of XMLs beside their pictures, or a list of those. Objects marked difficult are treated as crowds are:
    not trained on, and neither hit nor miss when measuring, as the challenge has it. Pixels count from 1 (see
    `voc_xml`). Without `names:` the classes are those found, by alphabet. A picture's id is its file's stem, as text.
    """

    def __init__(self, config, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = Problems()
        where = f"{config.path}: {split}"
        self._entries = _entries(config, split, where, self.problems)
        self._read: dict[Path, VocAnnotation | str] = {}  # kept when the classes had to be found first
        if config.names_given:
            classes = list(zip(config.name_ids, config.names))
        elif names is not None and not strict:
            classes = list(enumerate(names))
        else:
            self._read = dict(map_threads(_read, {entry.xml for entry in self._entries if entry.xml}))
            found = {thing.name for read in self._read.values() if not isinstance(read, str) for thing in read.objects}
            classes = list(enumerate(sorted(found)))
        self.names, self.category_ids = select_names(classes, names, strict, where)

    @classmethod
    def recognises(cls, root: Path, value) -> int:
        value = value[0] if isinstance(value, list) and value else value
        place = look_below(root, value) if isinstance(value, str) else None
        if place is None:
            return 0
        if place.is_file():
            return 3 if "ImageSets" in place.parts else int(place.suffix == ".txt" and _base(place, root) is not None)
        if any((place / name).is_dir() for name in _XML_FOLDERS) or _counterpart(place):
            return 2
        with os.scandir(place) as entries:
            return 2 * int(any(entry.name.endswith(".xml") for entry, _ in zip(entries, range(1000))))

    def __iter__(self) -> Iterator[Sample]:
        labels = {name: label for label, name in enumerate(self.names)}

        def read(entry: _Entry):
            return self._read[entry.xml] if entry.xml in self._read else entry.xml and _read(entry.xml)

        for entry, annotation in map_threads(read, self._entries):
            if isinstance(annotation, str):
                self.problems.note(BAD_FILE, annotation)
                continue
            if annotation is None:
                self.problems.note(NO_FILE, entry.picture or entry.image_id)
                annotation = VocAnnotation("", 0, 0, [], 0)
            yield self._sample(entry, annotation, labels)

    def _sample(self, entry: _Entry, annotation: VocAnnotation, labels: dict[str, int]) -> Sample:
        self.problems.note(BAD_OBJECT, entry.xml, annotation.unusable)
        for thing in annotation.objects:
            if thing.name not in labels:
                self.problems.note(OTHER_CLASS, f"{entry.xml}: '{thing.name[:50]}'")
        objects = [thing for thing in annotation.objects if thing.name in labels]
        count = len(objects)
        return Sample(
            path=entry.picture or entry.pictures.named(annotation.filename, entry.image_id),
            boxes=np.array([thing.box for thing in objects], np.float64).reshape(-1, 4),
            labels=np.array([labels[thing.name] for thing in objects], np.int64),
            crowd=np.array([thing.difficult for thing in objects], bool),
            areas=np.full(count, np.nan),
            annotation_ids=np.zeros(count, np.int64),
            image_id=entry.image_id,
            width=annotation.width,
            height=annotation.height,
        )


def _read(path: Path) -> VocAnnotation | str:
    """The annotation file, or why it cannot be read."""
    try:
        return read_voc_xml(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    except ValueError as error:
        return f"{path}: {error}"


class _Stems:
    """The files of a folder by their name without suffix."""

    def __init__(self, folder: Path, suffixes: frozenset[str]):
        self.folder, self.paths = folder, {}
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and not name.startswith("."):
                self.paths.setdefault(stem, folder / name)

    def named(self, filename: str, stem: str) -> Path:
        """The picture that an XML names; only the last part of the name counts, so that it cannot lead elsewhere."""
        name = filename.replace("\\", "/").rsplit("/", 1)[-1]
        by_name = self.paths.get(os.path.splitext(name)[0]) if name not in ("", ".", "..") else None
        return by_name or self.folder / f"{stem}.jpg"


def _entries(config, split: str, where: str, problems: Problems) -> list[_Entry]:
    """Every picture of a split once, in order."""
    value, entries = config.splits[split], {}
    if isinstance(value, dict):
        raise UserError(f"{where}: the voc format takes an ImageSets list or a folder, not a mapping")
    for item in value if isinstance(value, list) else [value]:
        place = find_below(config.root, item, where, split, config.missing_hint)
        found = _of_folder(place, where) if place.is_dir() else _of_list(place, config.root, where)
        for entry in found:
            key = entry.picture or entry.xml or entry.image_id
            problems.note(LISTED_TWICE, key, int(key in entries))
            entries.setdefault(key, entry)
    return list(entries.values())


def _of_list(path: Path, root: Path, where: str) -> Iterator[_Entry]:
    """The pictures of an ImageSets list: `ID`, or `ID 1` and `ID -1` in the lists of one class."""
    base = _base(path, root)
    if base is None:
        raise UserError(f"{where}: {path}: no folder Annotations beside or above this list")
    xmls, pictures = _stems_below(base)
    for line in read_lines(path):
        stem = line if line in xmls.paths or line in pictures.paths else line.split()[0]
        yield _Entry(stem, xmls.paths.get(stem), pictures.paths.get(stem), pictures)


def _of_folder(folder: Path, where: str) -> Iterator[_Entry]:
    """Everything in a folder: of Annotations and JPEGImages, of one of the two, or of XMLs beside pictures."""
    if any((folder / name).is_dir() for name in _XML_FOLDERS):
        xmls, pictures = _stems_below(folder)
    elif counterpart := _counterpart(folder):
        pair = (counterpart, folder) if _has_xml(counterpart) else (folder, counterpart)
        xmls, pictures = _Stems(pair[0], frozenset({".xml"})), _Stems(pair[1], IMAGE_SUFFIXES)
    else:
        for place, folders, files in os.walk(folder):
            folders.sort()
            if any(name.endswith(".xml") for name in files):
                yield from _paired(_Stems(Path(place), frozenset({".xml"})), _Stems(Path(place), IMAGE_SUFFIXES))
        return
    yield from _paired(xmls, pictures)


def _paired(xmls: _Stems, pictures: _Stems) -> Iterator[_Entry]:
    for stem in sorted({*xmls.paths, *pictures.paths}):
        yield _Entry(stem, xmls.paths.get(stem), pictures.paths.get(stem), pictures)


def _stems_below(base: Path) -> tuple[_Stems, _Stems]:
    """(annotation files, pictures) of a folder that holds Annotations."""
    xmls = next(base / name for name in _XML_FOLDERS if (base / name).is_dir())
    pictures = next((base / name for name in _PICTURE_FOLDERS if (base / name).is_dir()), xmls)
    return _Stems(xmls, frozenset({".xml"})), _Stems(pictures, IMAGE_SUFFIXES)


def _base(path: Path, root: Path) -> Path | None:
    """The folder around a list that holds Annotations."""
    for place in (*list(path.absolute().parents)[:3], root):
        if any((place / name).is_dir() for name in _XML_FOLDERS):
            return place
    return None


def _counterpart(folder: Path) -> Path | None:
    """The folder of XMLs for one of pictures, or the other way round: `images/train` and `annotations/train`."""
    parts = folder.absolute().parts
    for ours, theirs in ((_PICTURE_FOLDERS, _XML_FOLDERS), (_XML_FOLDERS, _PICTURE_FOLDERS)):
        index = next((i for i in range(len(parts) - 1, 0, -1) if parts[i] in ours), None)
        for name in theirs if index is not None else ():
            place = Path(*parts[:index], name, *parts[index + 1 :])
            if place.is_dir() and (_has_xml(place) or _has_xml(folder)):
                return place
    return None


def _has_xml(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".xml") for entry in entries)


class VocWriter(Writer):
    """`Annotations/`, `JPEGImages/` and `ImageSets/Main/SPLIT.txt`. Crowds become objects marked difficult."""

    CANNOT_CARRY = "image, annotation and category ids, areas, masks, thousandths of pixels"
    UPRIGHT = True

    def picture_path(self, split: str, name: str) -> Path:
        return self.out / "JPEGImages" / name

    def write_split(self, split: str, samples: list[Sample], pictures: list[Path]) -> object:
        folder, listed = self.out / "Annotations", self.out / "ImageSets" / "Main" / f"{split}.txt"
        folder.mkdir(parents=True, exist_ok=True)
        listed.parent.mkdir(parents=True, exist_ok=True)
        for sample, picture in zip(samples, pictures):
            objects = [
                VocObject(self.names[label], bool(crowd), (x, y, x + width, y + height))
                for label, crowd, (x, y, width, height) in zip(
                    sample.labels, sample.crowd, sample.source_boxes.tolist()
                )
            ]
            xml = voc_xml(picture.name, sample.width, sample.height, objects)
            (folder / f"{picture.stem}.xml").write_bytes(xml)
        listed.write_text("".join(f"{picture.stem}\n" for picture in pictures), encoding="utf-8")
        return f"ImageSets/Main/{split}.txt"


Voc.Writer = VocWriter
