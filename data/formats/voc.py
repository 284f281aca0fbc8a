"""PASCAL VOC: one XML per image (Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010)."""

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graftdet.data.formats.files.image_lists import LISTED_TWICE, find_sources, read_lines
from graftdet.data.formats.format import FORMATS, DataConfig, Writer
from graftdet.data.formats.parsing.voc_xml import VocObject, format_voc_xml, parse_voc_xml
from graftdet.data.formats.per_image import Annotation, Entry, PerImageFormat, rate_annotations
from graftdet.data.formats.sample import Sample
from graftdet.data.paths import find_first, replace_last_folder
from graftdet.utils.errors import UserError
from graftdet.utils.files import is_litter
from graftdet.utils.images.io import IMAGE_SUFFIXES

_XML_FOLDERS = ("Annotations", "annotations", "xmls")
_IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
_XML_SUFFIXES = frozenset({".xml"})


@FORMATS.register("voc")
class Voc(PerImageFormat):
    """VOC folders: `Annotations/*.xml` and `JPEGImages/`.

    A split is a list below `ImageSets` (one image id per line), a folder that contains Annotations and JPEGImages (all
    of it), a folder of XMLs beside their images, or a list of these. Objects marked difficult are treated as crowds:
    they are not trained on and ignored in evaluation, as in the challenge. Pixels are counted from 1 (see `voc_xml`).
    Without `names:` the classes are those found, in alphabetical order. The id of an image is the stem of its file.
    """

    @classmethod
    def recognizes(cls, root: Path, value: Any) -> int:
        """Rate an ImageSets list, or a folder with XMLs."""
        path = find_first(root, value)
        if path is None:
            return 0
        if path.is_file():
            in_image_sets = "ImageSets" in path.parts
            return 3 if in_image_sets else int(path.suffix == ".txt" and _find_base(path, root) is not None)
        pairs = _pairs_of_folder(path)
        xmls, images = next(((xmls, images) for xmls, images in pairs if xmls.paths), (None, None))
        if xmls is None or images is None:
            return 0
        return rate_annotations(len(xmls.paths), len(images.paths))

    def list_entries(self, config: DataConfig, split: str) -> list[Entry]:
        """Return each image of a split once, in order, with its XML."""
        entries: dict[Path, Entry] = {}
        for path in find_sources(config, split):
            found = _entries_of_folder(path) if path.is_dir() else _entries_of_list(path, config, split)
            for entry in found:
                self.problems.add(LISTED_TWICE, entry.image, int(entry.image in entries))
                entries.setdefault(entry.image, entry)
        return list(entries.values())

    def parse(self, data: bytes, path: Path) -> Annotation:
        """Return the objects of an XML."""
        content = parse_voc_xml(data)
        objects = [(found.name, found.box, found.difficult) for found in content.objects]
        return Annotation(objects, content.width, content.height, content.unusable, content.filename)

    def make_ids(self, images: list[Path]) -> list[str]:
        """Return the stems of the files, which VOC uses as ids."""
        return [path.stem for path in images]


class _FilesByStem:
    """The files of a folder with certain suffixes, by their stem."""

    def __init__(self, folder: Path, suffixes: frozenset[str]):
        self.folder, self.paths = folder, {}
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and not is_litter(name):
                self.paths.setdefault(stem, folder / name)

    def find(self, stem: str, filename: str) -> Path:
        """The image named in an XML; only the last part of the name counts, so it cannot lead out of the folder."""
        name = filename.replace("\\", "/").rsplit("/", 1)[-1]
        by_name = self.paths.get(os.path.splitext(name)[0]) if name not in ("", ".", "..") else None
        if by_name is None and name and (self.folder / name).is_file():  # of a kind that cannot be read
            return self.folder / name
        return by_name or self.folder / f"{stem}.jpg"


def _entries_of_list(path: Path, config: DataConfig, split: str) -> Iterator[Entry]:
    """The images of an ImageSets list: `ID` per line, or `ID 1` and `ID -1` in the lists of one class."""
    base = _find_base(path, config.root)
    if base is None:
        raise UserError(f"{config.path}: {split}: {path}: no folder Annotations beside or above this list")
    xmls, images = _files_below(base)
    for line in read_lines(path):
        stem = line if line in xmls.paths or line in images.paths else line.split()[0]
        yield _make_entry(stem, xmls, images)


def _entries_of_folder(folder: Path) -> Iterator[Entry]:
    """All images of a folder, with their XMLs."""
    for xmls, images in _pairs_of_folder(folder):
        for stem in sorted({*xmls.paths, *images.paths}):
            yield _make_entry(stem, xmls, images)


def _pairs_of_folder(folder: Path) -> Iterator[tuple[_FilesByStem, _FilesByStem]]:
    """(XMLs, images) of a folder: with Annotations and JPEGImages, of one of the two, or of XMLs beside images."""
    if any((folder / name).is_dir() for name in _XML_FOLDERS):
        yield _files_below(folder)
    elif counterpart := _counterpart(folder):
        xml_folder, image_folder = (counterpart, folder) if _has_xml(counterpart) else (folder, counterpart)
        yield _FilesByStem(xml_folder, _XML_SUFFIXES), _FilesByStem(image_folder, IMAGE_SUFFIXES)
    else:
        for base, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if not is_litter(name))
            if any(map(_is_xml, files)):
                yield _FilesByStem(Path(base), _XML_SUFFIXES), _FilesByStem(Path(base), IMAGE_SUFFIXES)


def _make_entry(stem: str, xmls: _FilesByStem, images: _FilesByStem) -> Entry:
    """The entry of an image id; if no image has its name, the XML may name another file."""
    image, xml = images.paths.get(stem), xmls.paths.get(stem)
    if image:
        return Entry(image, xml)
    return Entry(images.folder / f"{stem}.jpg", xml, functools.partial(images.find, stem))


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
    for own_names, other_names in ((_IMAGE_FOLDERS, _XML_FOLDERS), (_XML_FOLDERS, _IMAGE_FOLDERS)):
        for other in replace_last_folder(folder.absolute(), own_names, *other_names):
            if other.is_dir() and (_has_xml(other) or _has_xml(folder)):
                return other
    return None


def _has_xml(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_xml(entry.name) for entry in entries)


def _is_xml(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _XML_SUFFIXES and not is_litter(name)


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
