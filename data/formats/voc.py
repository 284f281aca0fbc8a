"""PASCAL VOC: one XML per image (Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graftdet.data.formats.files.image_lists import LISTED_TWICE, read_lines
from graftdet.data.formats.format import FORMATS, OTHER_CLASS, DataConfig, Format, Writer, select_names
from graftdet.data.formats.parsing.voc_xml import VocAnnotation, VocObject, format_voc_xml, read_voc_xml
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.parallel_io import map_threads
from graftdet.data.paths import find_below, find_optional, is_litter
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import IMAGE_SUFFIXES

BAD_ANNOTATION_FILE = "annotation files that cannot be read"
NO_FILE = "images without an annotation file"
BAD_OBJECT = "objects without a name or box"

_XML_FOLDERS = ("Annotations", "annotations", "xmls")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_XML_SUFFIXES = frozenset({".xml"})


class _Entry(NamedTuple):
    """An image of a split: its id, annotation file and image file (None if there is none)."""

    image_id: str
    xml: Path | None
    image: Path | None
    image_folder: "_FilesByStem"  # searched if the XML names its image otherwise


@FORMATS.register("voc")
class Voc(Format):
    """VOC folders: `Annotations/*.xml` and `JPEGImages/`.

    A split is a list below `ImageSets` (one image id per line), a folder that contains Annotations and JPEGImages (all
    of it), a folder of XMLs beside their images, or a list of these. Objects marked difficult are treated as crowds:
    they are not trained on and ignored in evaluation, as in the challenge. Pixels are counted from 1 (see `voc_xml`).
    Without `names:` the classes are those found, in alphabetical order. The id of an image is the stem of its file.
    """

    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = ProblemCounts()
        self._crowds_as_objects = config.reading.crowds_as_objects
        where = f"{config.path}: {split}"
        self._entries = _list_entries(config, split, where, self.problems)
        self._annotations: dict[Path, VocAnnotation | str] = {}  # filled if the classes had to be found first
        if config.names_given:
            classes = list(zip(config.name_ids, config.names, strict=True))
        elif names is not None and not strict:
            classes = list(enumerate(names))
        else:
            self._annotations = dict(map_threads(_read, {entry.xml for entry in self._entries if entry.xml}))
            found = {
                voc_object.name
                for annotation in self._annotations.values()
                if not isinstance(annotation, str)
                for voc_object in annotation.objects
            }
            classes = list(enumerate(sorted(found)))
        self.names, self.category_ids = select_names(classes, names, strict, where)

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate an ImageSets list, or a folder with XMLs."""
        value = value[0] if isinstance(value, list) and value else value
        path = find_optional(root, value) if isinstance(value, str) else None
        if path is None:
            return 0
        if path.is_file():
            in_image_sets = "ImageSets" in path.parts
            return 3 if in_image_sets else int(path.suffix == ".txt" and _find_base(path, root) is not None)
        if any((path / name).is_dir() for name in _XML_FOLDERS) or _counterpart(path):
            return 2
        with os.scandir(path) as entries:
            return 2 * int(any(entry.name.endswith(".xml") for entry, _ in zip(entries, range(1000), strict=False)))

    def __iter__(self) -> Iterator[Sample]:
        labels = {name: label for label, name in enumerate(self.names)}

        def read(entry: _Entry) -> VocAnnotation | str | None:
            if entry.xml in self._annotations:
                return self._annotations[entry.xml]
            return _read(entry.xml) if entry.xml else None

        for entry, annotation in map_threads(read, self._entries):
            if isinstance(annotation, str):
                self.problems.add(BAD_ANNOTATION_FILE, annotation)
                continue
            if annotation is None:
                self.problems.add(NO_FILE, entry.image or entry.image_id)
                annotation = VocAnnotation("", 0, 0, [], 0)
            yield self._make_sample(entry, annotation, labels)

    def _make_sample(self, entry: _Entry, annotation: VocAnnotation, labels: dict[str, int]) -> Sample:
        self.problems.add(BAD_OBJECT, entry.xml, annotation.unusable)
        for voc_object in annotation.objects:
            if voc_object.name not in labels:
                self.problems.add(OTHER_CLASS, f"{entry.xml}: '{voc_object.name[:50]}'")
        objects = [voc_object for voc_object in annotation.objects if voc_object.name in labels]
        count = len(objects)
        return Sample(
            path=entry.image or entry.image_folder.find(annotation.filename, entry.image_id),
            boxes=np.array([voc_object.box for voc_object in objects], np.float64).reshape(-1, 4),
            labels=np.array([labels[voc_object.name] for voc_object in objects], np.int64),
            crowd=np.array([voc_object.difficult for voc_object in objects], bool) & (not self._crowds_as_objects),
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


class _FilesByStem:
    """The files of a folder with certain suffixes, by their stem."""

    def __init__(self, folder: Path, suffixes: frozenset[str]):
        self.folder, self.paths = folder, {}
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and not is_litter(name):
                self.paths.setdefault(stem, folder / name)

    def find(self, filename: str, stem: str) -> Path:
        """The image named in an XML; only the last part of the name counts, so it cannot lead out of the folder."""
        name = filename.replace("\\", "/").rsplit("/", 1)[-1]
        by_name = self.paths.get(os.path.splitext(name)[0]) if name not in ("", ".", "..") else None
        if by_name is None and name and (self.folder / name).is_file():  # of a kind that cannot be read
            return self.folder / name
        return by_name or self.folder / f"{stem}.jpg"


def _list_entries(config: DataConfig, split: str, where: str, problems: ProblemCounts) -> list[_Entry]:
    """Each image of a split once, in order."""
    value, entries = config.splits[split], {}
    if isinstance(value, dict):
        raise UserError(f"{where}: the voc format takes an ImageSets list or a folder, not a mapping")
    for item in value if isinstance(value, list) else [value]:
        path = find_below(config.root, item, where, split, config.missing_hint)
        found = _entries_of_folder(path) if path.is_dir() else _entries_of_list(path, config.root, where)
        for entry in found:
            key = entry.image or entry.xml or entry.image_id
            problems.add(LISTED_TWICE, key, int(key in entries))
            entries.setdefault(key, entry)
    return list(entries.values())


def _entries_of_list(path: Path, root: Path, where: str) -> Iterator[_Entry]:
    """The images of an ImageSets list: `ID` per line, or `ID 1` and `ID -1` in the lists of one class."""
    base = _find_base(path, root)
    if base is None:
        raise UserError(f"{where}: {path}: no folder Annotations beside or above this list")
    xmls, images = _files_below(base)
    for line in read_lines(path):
        stem = line if line in xmls.paths or line in images.paths else line.split()[0]
        yield _Entry(stem, xmls.paths.get(stem), images.paths.get(stem), images)


def _entries_of_folder(folder: Path) -> Iterator[_Entry]:
    """All images of a folder: with Annotations and JPEGImages, of one of the two, or of XMLs beside images."""
    if any((folder / name).is_dir() for name in _XML_FOLDERS):
        xmls, images = _files_below(folder)
    elif counterpart := _counterpart(folder):
        xml_folder, image_folder = (counterpart, folder) if _has_xml(counterpart) else (folder, counterpart)
        xmls, images = _FilesByStem(xml_folder, _XML_SUFFIXES), _FilesByStem(image_folder, IMAGE_SUFFIXES)
    else:
        for base, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not is_litter(name))
            if any(name.endswith(".xml") for name in files):
                yield from _pair(_FilesByStem(Path(base), _XML_SUFFIXES), _FilesByStem(Path(base), IMAGE_SUFFIXES))
        return
    yield from _pair(xmls, images)


def _pair(xmls: _FilesByStem, images: _FilesByStem) -> Iterator[_Entry]:
    for stem in sorted({*xmls.paths, *images.paths}):
        yield _Entry(stem, xmls.paths.get(stem), images.paths.get(stem), images)


def _files_below(base: Path) -> tuple[_FilesByStem, _FilesByStem]:
    """(annotation files, images) of a folder that contains Annotations."""
    xml_folder = next(base / name for name in _XML_FOLDERS if (base / name).is_dir())
    image_folder = next((base / name for name in _IMAGE_FOLDERS if (base / name).is_dir()), xml_folder)
    return _FilesByStem(xml_folder, _XML_SUFFIXES), _FilesByStem(image_folder, IMAGE_SUFFIXES)


def _find_base(path: Path, root: Path) -> Path | None:
    """The folder beside or above a list that contains Annotations."""
    for folder in (*list(path.absolute().parents)[:3], root):
        if any((folder / name).is_dir() for name in _XML_FOLDERS):
            return folder
    return None


def _counterpart(folder: Path) -> Path | None:
    """The folder of XMLs for a folder of images, or the reverse: `images/train` and `annotations/train`."""
    parts = folder.absolute().parts
    for own_names, other_names in ((_IMAGE_FOLDERS, _XML_FOLDERS), (_XML_FOLDERS, _IMAGE_FOLDERS)):
        index = next((i for i in range(len(parts) - 1, 0, -1) if parts[i] in own_names), None)
        for name in other_names if index is not None else ():
            other = Path(*parts[:index], name, *parts[index + 1 :])
            if other.is_dir() and (_has_xml(other) or _has_xml(folder)):
                return other
    return None


def _has_xml(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(".xml") for entry in entries)


class VocWriter(Writer):
    """Writes `Annotations/`, `JPEGImages/` and `ImageSets/Main/SPLIT.txt`. Crowds become objects marked difficult."""

    NOT_WRITTEN = "image, annotation and category ids, areas, masks, thousandths of pixels"
    REQUIRES_UPRIGHT = True

    def image_path(self, split: str, name: str) -> Path:
        """Return the path of an image; all splits share one folder."""
        return self.out / "JPEGImages" / name

    def write_split(self, split: str, samples: Sequence[Sample], image_paths: list[Path]) -> object:
        """Write the XMLs and the list of a split."""
        folder, list_path = self.out / "Annotations", self.out / "ImageSets" / "Main" / f"{split}.txt"
        folder.mkdir(parents=True, exist_ok=True)
        list_path.parent.mkdir(parents=True, exist_ok=True)
        for sample, path in zip(samples, image_paths, strict=True):
            rows = zip(sample.labels, sample.crowd, sample.source_boxes.tolist(), strict=True)
            objects = [
                VocObject(self.names[label], bool(crowd), (x, y, x + width, y + height))
                for label, crowd, (x, y, width, height) in rows
            ]
            xml = format_voc_xml(path.name, sample.width, sample.height, objects)
            (folder / f"{path.stem}.xml").write_bytes(xml)
        list_path.write_text("".join(f"{path.stem}\n" for path in image_paths), encoding="utf-8")
        return f"ImageSets/Main/{split}.txt"


Voc.Writer = VocWriter
