"""Decoded, resized pictures kept in memory or on disk, so that an epoch does not decode JPEG again. No torch.

Every store reads a picture as `Resized(image, original)`: `image` (h, w, 3) BGR uint8 with its longest side equal to
`size`, `original` (h0, w0) as read. What comes out of a store equals what decoding gives, byte for byte.
"""

import hashlib
import io
import os
import sys
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from graftdet.data.caching.free_memory import free_memory
from graftdet.data.caching.shared_memory import SharedFile
from graftdet.data.exif import fit_frame
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.files import cache_folder, write_atomically
from graftdet.utils.images.header import parse_header
from graftdet.utils.images.io import UnreadableImage, decode_image, read_bytes
from graftdet.utils.images.letterbox import resize
from graftdet.utils.progress import track

CACHES = ("auto", "ram", "disk", "none")


class Resized(NamedTuple):
    """A picture with its longest side at the store's size (read-only when cached), and its shape (h0, w0) before."""

    image: np.ndarray
    original: tuple[int, int]


class Pictures:
    """Pictures by number, decoded at each reading. `errors` maps the numbers that cannot be read to the reason."""

    name = "none"

    def __init__(self, paths: Sequence[str], apply_exif: Sequence[bool], size: int, frames=None):
        self.paths = list(paths)
        self.apply_exif = np.asarray(apply_exif, dtype=bool)
        self.size = size
        self.frames = None if frames is None else np.asarray(frames)  # (n, 2) declared (h, w), 0: not known
        self.errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Resized:
        """Raises `UnreadableImage`."""
        if index in self.errors:
            raise UnreadableImage(self.paths[index], self.errors[index])
        return self._decode(index, read_bytes(self.paths[index]))

    def fill(self, label: str = "pictures") -> None:
        """Read everything ahead, if this store keeps anything."""

    def _decode(self, index: int, data: bytes) -> Resized:
        image = decode_image(data, self.paths[index], self._turns(index, data))
        height, width = image.shape[:2]
        return Resized(resize(image, self.size / max(height, width)), (height, width))

    def _turns(self, index: int, data: bytes) -> bool:
        """Whether to turn the picture as its EXIF says: not when its boxes are declared for the unturned one."""
        if not self.apply_exif[index] or self.frames is None or not self.frames[index].all():
            return bool(self.apply_exif[index])
        header = parse_header(io.BytesIO(data))
        height, width = self.frames[index].tolist()
        return header is None or fit_frame((int(width), int(height)), header).apply_exif

    def _each(self, work, label: str):
        """Yield (index, result of `work(index)` or None) for every picture in order, from a few threads.

        A picture that cannot be read goes into `errors`; more than half of them raises `UserError`.
        """

        def attempt(index):
            try:
                return work(index)
            except UnreadableImage as error:
                return error

        threads = cv2.getNumThreads()
        workers = min(os.cpu_count() or 1, 16)
        cv2.setNumThreads(1)  # one picture a thread scales better than many threads a picture
        try:
            with ThreadPoolExecutor(workers) as pool:
                for index, result in track(_in_order(pool, attempt, len(self), 4 * workers), len(self), label):
                    if isinstance(result, UnreadableImage):
                        self.errors[index] = result.reason
                        check_readable(self.paths, self.errors)
                        result = None
                    yield index, result
        finally:
            cv2.setNumThreads(threads)


def _in_order(pool: ThreadPoolExecutor, work, count: int, ahead: int):
    """(index, result) in order with at most `ahead` results waiting, so that a slow consumer fills no memory."""
    waiting = deque()
    for index in range(count + ahead):
        if index < count:
            waiting.append(pool.submit(work, index))
        if index >= ahead:
            yield index - ahead, waiting.popleft().result()


class RamPictures(Pictures):
    """Pictures in one block of memory that all worker processes share, forked or spawned."""

    name = "ram"

    def __init__(self, paths, apply_exif, size, frames=None):
        super().__init__(paths, apply_exif, size, frames)
        self.rows = np.zeros((len(self), 5), dtype=np.int64)  # offset, h, w, h0, w0; h = 0: not kept
        self.block = SharedFile()

    def fill(self, label: str = "pictures") -> None:
        """Decode everything. Falls back to decoding each time when memory (or the temporary folder) is full."""
        try:
            for index, resized in self._each(super().read, f"{label}: into memory"):
                if resized is not None:
                    offset = self.block.append(resized.image)
                    self.rows[index] = (offset, *resized.image.shape[:2], *resized.original)
        except OSError as error:
            print(f"{label}: memory is full ({error.strerror}), the rest is decoded each time", file=sys.stderr)

    def read(self, index: int) -> Resized:
        offset, height, width, *original = self.rows[index].tolist()
        view = self.block.view(offset, height * width * 3) if height else None
        if view is None:
            return super().read(index)
        return Resized(view.reshape(height, width, 3), tuple(original))


class DiskPictures(Pictures):
    """Pictures as raw files in the user's cache folder, named by a hash of the source file's bytes and the options.

    A picture that was replaced has another hash, so nothing stale is ever read, wherever its file lies.
    """

    name = "disk"

    def __init__(self, paths, apply_exif, size, frames=None, folder: str | Path | None = None):
        super().__init__(paths, apply_exif, size, frames)
        self.folder = Path(folder) if folder else cache_folder() / "pictures"
        self.keys: list[str | None] = [None] * len(self)

    def fill(self, label: str = "pictures") -> None:
        """Hash every file and write what is missing. A full disk is told once; those pictures are decoded each time."""
        full = False
        for index, result in self._each(self._store, f"{label}: into {self.folder}"):
            if result is not None:
                self.keys[index], error = result
                if error and not full:
                    full = True
                    print(f"{label}: {error}; pictures that do not fit are decoded each time", file=sys.stderr)

    def read(self, index: int) -> Resized:
        key = self.keys[index]
        return (key and self._load(key)) or super().read(index)

    def _store(self, index: int) -> tuple[str | None, UserError | None]:
        data = read_bytes(self.paths[index])
        key = self._key(index, data)
        if self._stored(key):
            return key, None
        resized = self._decode(index, data)
        head = np.array([*resized.image.shape[:2], *resized.original], dtype="<i4")
        try:
            write_atomically(self._file(key), head.tobytes() + resized.image.tobytes())
        except UserError as error:
            return None, error
        return key, None

    def _key(self, index: int, data: bytes) -> str:
        options = f"1 {self.size} {int(self._turns(index, data))} {cv2.__version__}"  # decoders differ by version
        return hashlib.blake2b(data, digest_size=20, salt=b"pictures", key=options.encode()).hexdigest()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _stored(self, key: str) -> bool:
        """Whether the picture is there and whole, by its head and its length."""
        try:
            with open(self._file(key), "rb") as file:
                height, width = np.frombuffer(file.read(16), dtype="<i4", count=2).tolist()
                return os.fstat(file.fileno()).st_size == 16 + height * width * 3
        except (OSError, ValueError):
            return False

    def _load(self, key: str) -> Resized | None:
        """The stored picture; None when it is not there or torn."""
        try:
            data = np.fromfile(self._file(key), dtype=np.uint8)
        except OSError:
            return None
        if len(data) < 16:
            return None
        height, width, *original = data[:16].view("<i4").tolist()
        if len(data) != 16 + height * width * 3:
            return None
        return Resized(data[16:].reshape(height, width, 3), tuple(original))


def check_readable(paths: Sequence[str], errors: dict[int, str]) -> None:
    """Raise `UserError` once more than half of the pictures cannot be read."""
    if 2 * len(errors) > len(paths):
        index, reason = next(iter(errors.items()))
        raise UserError(
            f"{len(errors)} of {len(paths)} pictures cannot be read, more than half; the first is {paths[index]}: {reason}"
        )


def open_pictures(
    kind: str, paths: Sequence[str], apply_exif: Sequence[bool], size: int, largest: int | None = None, frames=None
) -> Pictures:
    """The store for `--cache` word `kind`, empty until `fill()`.

    'auto' is 'ram' when the pictures fit in a quarter of free memory, once for each process that torchrun started on
    this machine, else 'none'. `largest` is the bytes they take when known. `frames` (n, 2) are the declared (h, w),
    which may say that a picture is not to be turned. Raises `UserError` for an unknown word.
    """
    if kind not in CACHES:
        raise UserError(f"cache: expected one of {', '.join(CACHES)}, got '{kind}'{did_you_mean(kind, CACHES)}")
    if kind == "auto":
        free = free_memory()
        needed = len(paths) * size * size * 3 if largest is None else largest
        needed *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # each process has a store of its own
        kind = "ram" if free is not None and needed <= free / 4 else "none"
    store = {"ram": RamPictures, "disk": DiskPictures, "none": Pictures}[kind]
    return store(paths, apply_exif, size, frames)
