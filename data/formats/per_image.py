"""What formats share that have one annotation file per image, in which objects have the names of their classes."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from graftdet.data.formats.files.image_lists import make_image_ids
from graftdet.data.formats.format import OTHER_CLASS, DataConfig, Format, select_names
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.parallel_io import map_threads
from graftdet.utils.errors import UserError
from graftdet.utils.files import LFS_POINTER, is_lfs_pointer, read_regular_file
from graftdet.utils.text import counted, counted_phrase
from graftdet.utils.untrusted.limits import MAX_LABELS

BAD_FILE = "annotation files that cannot be read"
NO_FILE = "images without an annotation file"
BAD_OBJECT = "objects without a name or box"


class Entry(NamedTuple):
    """An image of a split and its annotation file, None if there is none."""

    image: Path
    annotation: Path | None
    find_image: Callable[[str], Path] | None = None  # finds the image that the annotation names, if `image` is a guess


class Annotation(NamedTuple):
    """The content of an annotation file."""

    objects: list[tuple[str, tuple[float, float, float, float], bool]]  # (class, x1, y1, x2, y2 in pixels, is a crowd)
    width: int = 0  # declared, 0 if missing
    height: int = 0
    malformed: tuple[str, ...] = ()  # descriptions of objects that cannot be used
    image_name: str = ""  # file name of the image, empty if missing


def rate_annotations(num_files: int, num_images: int) -> int:
    """Rate a folder for `Format.recognizes`: 2 if most images have an annotation file, 1 if few have, 0 if none has."""
    return 0 if not num_files else 2 if 2 * num_files >= num_images else 1


class PerImageFormat(Format):
    """A format with one annotation file per image. Without `names:` the classes are those found, in alphabetical order.

    A subclass lists the files and parses one of them.
    """

    def __init__(self, config: DataConfig, split: str, names: list[str] | None = None, strict: bool = True):
        self.problems = ProblemCounts()
        self.root, self._crowds_as_objects = config.root, config.reading.crowds_as_objects
        self._entries = self.list_entries(config, split)
        self._read_files: dict[Path, Annotation | str] = {}  # filled if the classes had to be found first
        if config.names_given:
            classes = list(zip(config.name_ids, config.names, strict=True))
        elif names is not None and not strict:
            classes = list(enumerate(names))
        else:
            files = [entry.annotation for entry in self._entries if entry.annotation]
            self._read_files = dict(map_threads(self._read, files))
            read = [file for file in self._read_files.values() if isinstance(file, Annotation)]
            classes = list(enumerate(sorted({name for file in read for name, _, _ in file.objects})))
            if not classes and files:
                raise UserError(f"{config.path}: {split}: {self._why_no_classes()}")
        self.names, self.category_ids = select_names(classes, names, strict, f"{config.path}: {split}")

    @abstractmethod
    def list_entries(self, config: DataConfig, split: str) -> list[Entry]:
        """Return the images of a split with their annotation files."""

    @abstractmethod
    def parse(self, data: bytes, path: Path) -> Annotation:
        """Return the content of the annotation file at `path`. Raises `ValueError` with the reason if malformed."""

    def make_ids(self, images: list[Path]) -> Sequence[int | str]:
        """Return an id for each image."""
        return make_image_ids(images, self.root)

    def _why_no_classes(self) -> str:
        """Why the annotation files name no class: the first one that cannot be read, or has objects without a box."""
        failed = [file for file in self._read_files.values() if isinstance(file, str)]
        if failed:
            return f"{len(failed)} of {counted_phrase(len(self._read_files), BAD_FILE)} (first: {failed[0]})"
        malformed = ((path, file) for path, file in self._read_files.items() if not isinstance(file, str))
        first = next((f" (first: {path}: {file.malformed[0]})" for path, file in malformed if file.malformed), "")
        return (
            f"{counted(len(self._read_files), 'annotation file')} without an object that has a class and a box{first}; "
            "add names:"
        )

    def _read(self, path: Path) -> Annotation | str:
        """The content of a file, or why it cannot be read."""
        try:
            data = read_regular_file(path, MAX_LABELS)
            if is_lfs_pointer(data[:64]):
                raise ValueError(LFS_POINTER)
            return self.parse(data, path)
        except OSError as error:
            return f"{path}: {error.strerror}"
        except UserError as error:  # which names the file
            return str(error)
        except ValueError as error:
            return f"{path}: {error!s:.200}"

    def __iter__(self) -> Iterator[Sample]:
        labels = {name: label for label, name in enumerate(self.names)}

        def read(entry: Entry) -> Annotation | str | None:
            if entry.annotation in self._read_files:
                return self._read_files[entry.annotation]
            return self._read(entry.annotation) if entry.annotation else None

        ids = self.make_ids([entry.image for entry in self._entries])
        for image_id, (entry, annotation) in zip(ids, map_threads(read, self._entries), strict=True):
            if isinstance(annotation, str):
                self.problems.add(BAD_FILE, annotation)
                continue
            if annotation is None:
                self.problems.add(NO_FILE, entry.image)
                annotation = Annotation([])
            yield self._make_sample(entry, annotation, image_id, labels)

    def _make_sample(self, entry: Entry, annotation: Annotation, image_id: int | str, labels: dict) -> Sample:
        for text in annotation.malformed:
            self.problems.add(BAD_OBJECT, f"{entry.annotation}: {text}")
        for name, _, _ in annotation.objects:
            if name not in labels:
                self.problems.add(OTHER_CLASS, f"{entry.annotation}: '{name:.50}'")
        objects = [found for found in annotation.objects if found[0] in labels]
        return Sample(
            path=entry.find_image(annotation.image_name) if entry.find_image else entry.image,
            boxes=np.array([box for _, box, _ in objects], np.float64).reshape(-1, 4),
            labels=np.array([labels[name] for name, _, _ in objects], np.int64),
            crowd=np.array([crowd for _, _, crowd in objects], bool) & (not self._crowds_as_objects),
            areas=np.full(len(objects), np.nan),
            annotation_ids=np.zeros(len(objects), np.int64),
            image_id=image_id,
            width=annotation.width,
            height=annotation.height,
        )
