"""Finding images by names that other machines and tools wrote: foreign folders, backslashes, addresses, `..`."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.parallel_io import DirectoryListings
from graftdet.utils.files import is_litter
from graftdet.utils.text import counted

AMBIGUOUS = "images whose name fits several files, or one file that others fit as well"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*/")
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass
class FoundImages:
    """The result of `ImageFinder.find_all`."""

    paths: list[str | None]  # of each name; None if it is ambiguous or leads out of the dataset folder
    ambiguous: dict[int, str] = field(default_factory=dict)  # index of a name -> a file that it fits
    outside: list[int] = field(default_factory=list)  # indices of names that lead out of the dataset folder
    by_tail: list[int] = field(default_factory=list)  # indices of names that were found by the end of their path
    by_name: list[int] = field(default_factory=list)  # indices of names that were found by their last part alone

    def notes(self, names: Sequence[str]) -> list[str]:
        """Return how images were found that are not where their names say."""
        kinds = ((self.by_tail, "the end of the path"), (self.by_name, "the file name alone"))
        return [
            f"{counted(len(indices), 'image')} found by {how} "
            f"(first: {names[indices[0]]!r:.120} is {self.paths[indices[0]]})"
            for indices, how in kinds
            if indices
        ]

    def count_ambiguous(self, names: Sequence[str], where: str, problems: ProblemCounts) -> None:
        """Count the ambiguous names."""
        for index, path in sorted(self.ambiguous.items()):
            problems.add(AMBIGUOUS, f"{where}: {names[index]!r:.120}, such as {path}")


class ImageFinder:
    r"""Finds images below folders.

    A name is tried as the path below each folder, then its tails: `D:\data\set\images\a.jpg` as
    `data/set/images/a.jpg`, `set/images/a.jpg`, ..., then its last part anywhere below the first folder, if that is
    unique. Addresses lose their host and their query, percent-encoded names are decoded.

    Args:
        folders: where images may be, the most likely one first.
        root: folder of the dataset; exact paths may lie anywhere in it.
        search: look for the last part of a name below the first folder.
        listings: listings of folders that several finders use.
    """

    def __init__(
        self, folders: Sequence[Path], root: Path, search: bool = True, listings: DirectoryListings | None = None
    ):
        self.folders = [os.path.normpath(folder) for folder in folders]
        self.bases = [os.path.join(folder, "") for folder in (*self.folders, os.path.normpath(root))]
        self.search = search
        self._listings = listings or DirectoryListings()
        self._by_name: dict[str, list[str]] | None = None

    def find_all(self, names: Sequence[str]) -> FoundImages:
        """Find the image of each name. A path that does not exist is returned for a name that is not found."""
        found = FoundImages([])
        prefix = self.bases[0]
        in_folder = self._listings.names(prefix)
        for index, name in enumerate(names):
            found.paths.append(prefix + name if name in in_folder else self._find(index, name, found))
        self._drop_shared(found)
        return found

    def _find(self, index: int, name: str, found: FoundImages) -> str | None:
        """The path of a name; records how it was found."""
        if "\0" in name:
            found.outside.append(index)
            return None
        readings = list(dict.fromkeys(_readings(name)))
        for reading in readings:
            for folder in self.folders:
                path = os.path.normpath(os.path.join(folder, reading))
                if self._is_inside(path) and self._listings.contains(path):
                    return path
        for tail in (tail for reading in readings for tail in _tails(reading)):
            for base in self.bases:
                if self._listings.contains(base + tail):
                    found.by_tail.append(index)
                    return base + tail
        matches = self._named(os.path.basename(readings[-1].rstrip("/"))) if self.search else []
        if len(matches) == 1:
            found.by_name.append(index)
            return matches[0]
        if matches:
            found.ambiguous[index] = matches[0]
            return None
        path = os.path.normpath(os.path.join(self.folders[0], readings[0]))
        if not self._is_inside(path):
            found.outside.append(index)
            return None
        return path

    def _is_inside(self, path: str) -> bool:
        return any(path.startswith(base) for base in self.bases)

    def _named(self, name: str) -> list[str]:
        """The files of this name below the first folder."""
        if self._by_name is None:
            self._by_name = {}
            for base, folders, files in os.walk(self.folders[0]):
                folders[:] = sorted(folder for folder in folders if not is_litter(folder))
                for file in files:
                    self._by_name.setdefault(file, []).append(os.path.join(base, file))
        return self._by_name.get(name, [])

    @staticmethod
    def _drop_shared(found: FoundImages) -> None:
        """Make names ambiguous that were guessed to be a file that another name has, too."""
        guessed = (*found.by_tail, *found.by_name)
        uses = Counter(found.paths) if guessed else Counter()
        for index in guessed:
            path = found.paths[index]
            if path is not None and uses[path] > 1:
                found.ambiguous[index], found.paths[index] = path, None
        found.by_tail = [index for index in found.by_tail if index not in found.ambiguous]
        found.by_name = [index for index in found.by_name if index not in found.ambiguous]


def _readings(name: str) -> Iterator[str]:
    """The path that a name can be: with accents in either form, or read in another way; the likeliest one last."""
    for reading in _decoded(name):
        yield from (
            unicodedata.normalize("NFD", reading),
            unicodedata.normalize("NFC", reading),
            reading.strip(),
            reading,
        )


def _decoded(name: str) -> Iterator[str]:
    """A name as it is, with slashes, without address, decoded; the likeliest one last."""
    yield name
    path = name.replace("\\", "/") if os.sep == "/" else name
    yield path
    if address := _ADDRESS.match(path):
        path = path[address.end() :].partition("#")[0]
    path, _, query = path.partition("?")
    yield path
    if "%" in path:
        yield unquote(path)
    if "=" in query:  # /data/local-files/?d=folder%5Ca.jpg, as Label Studio writes it
        yield unquote(query.rpartition("=")[2]).replace("\\", "/")


def _tails(path: str) -> Iterator[str]:
    """The ends of a path, from the longest one to its last part, without anything up to the last `..`."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if parts and _DRIVE.fullmatch(parts[0]):
        del parts[0]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    for start in range(len(parts)):
        yield "/".join(parts[start:])
