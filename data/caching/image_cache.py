"""Decoded and resized images, cached in memory or on disk so that they are not decoded again every epoch. No torch.

Every store reads an image as `ResizedImage(image, original)`. A cached image is equal to a decoded one, byte for byte.
"""

import hashlib
import io
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from graftdet.data.caching.free_memory import free_memory
from graftdet.data.caching.shared_memory import SharedFile
from graftdet.data.exif import resolve_annotated_size
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.files import cache_folder, write_atomically
from graftdet.utils.images.header import parse_header
from graftdet.utils.images.io import UnreadableImage, decode_image, read_bytes
from graftdet.utils.images.letterbox import resize
from graftdet.utils.progress import track
from graftdet.utils.text import counted

logger = logging.getLogger(__name__)

CACHES = ("auto", "ram", "disk", "none")


class ResizedImage(NamedTuple):
    """An image resized to the size of its store."""

    image: np.ndarray  # (h, w, 3) BGR uint8, longest side equal to the size; read-only if cached
    original: tuple[int, int]  # (h, w) as read


class ImageStore:
    """Images by index, decoded on every read.

    Args:
        paths: image files.
        apply_exif: whether each image is rotated by its EXIF orientation.
        size: longest side of a resized image, in pixels.
        declared_sizes: (n, 2) the (h, w) that the boxes of each image refer to, 0 if unknown.
        depth: bits that 16-bit images use.

    Attributes:
        errors: index of an image that cannot be read -> reason.
    """

    name = "none"

    def __init__(
        self,
        paths: Sequence[str],
        apply_exif: Sequence[bool] | np.ndarray,
        size: int,
        declared_sizes: np.ndarray | None = None,
        depth: int = 16,
    ):
        self.paths = list(paths)
        self.apply_exif = np.asarray(apply_exif, dtype=bool)
        self.size, self.depth = size, depth
        self.declared_sizes = None if declared_sizes is None else np.asarray(declared_sizes)
        self.errors: dict[int, str] = {}
        self._open_cache()

    def _open_cache(self) -> None:
        """Prepare an empty cache, in stores that have one."""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> ResizedImage:
        """Return an image.

        Raises:
            UnreadableImage: if it cannot be read.
        """
        if index in self.errors:
            raise UnreadableImage(self.paths[index], self.errors[index])
        return self._decode(index, read_bytes(self.paths[index]))

    def read_original(self, index: int) -> np.ndarray:
        """Return an image (H, W, 3) BGR uint8 in its own size; never cached.

        Raises:
            UnreadableImage: if it cannot be read.
        """
        data = read_bytes(self.paths[index])
        return decode_image(data, self.paths[index], self._rotates(index, data), self.depth)

    def fill(self, label: str = "images") -> None:
        """Read all images ahead, if this store caches them. `label` is the title of the progress display."""

    def _decode(self, index: int, data: bytes) -> ResizedImage:
        image = decode_image(data, self.paths[index], self._rotates(index, data), self.depth)
        height, width = image.shape[:2]
        return ResizedImage(resize(image, self.size / max(height, width)), (height, width))

    def _rotates(self, index: int, data: bytes) -> bool:
        """Whether to rotate an image by EXIF: not if its boxes are declared for the image before rotation."""
        if not self.apply_exif[index] or self.declared_sizes is None or not self.declared_sizes[index].all():
            return bool(self.apply_exif[index])
        header = parse_header(io.BytesIO(data))
        height, width = self.declared_sizes[index].tolist()
        return header is None or resolve_annotated_size((int(width), int(height)), header).apply_exif

    def _map_images(self, work: Callable[[int], Any], title: str) -> Iterator[tuple[int, Any]]:
        """Yield (index, `work(index)`) for every image in order, from several threads; None for unreadable images.

        Unreadable images are recorded in `errors`; more than half of them raise `UserError`.
        """

        def attempt(index: int) -> Any:
            try:
                return work(index)
            except UnreadableImage as error:
                return error

        opencv_threads = cv2.getNumThreads()
        threads = min(os.cpu_count() or 1, 16)
        cv2.setNumThreads(1)  # one image per thread scales better than several threads per image
        try:
            with ThreadPoolExecutor(threads) as pool:
                results = _map_in_order(pool, attempt, len(self), 4 * threads)
                for index, result in track(results, len(self), title):
                    if isinstance(result, UnreadableImage):
                        self.errors[index] = result.reason
                        check_readable(self.paths, self.errors)
                        result = None
                    yield index, result
        finally:
            cv2.setNumThreads(opencv_threads)


def _map_in_order(
    pool: ThreadPoolExecutor, work: Callable[[int], Any], count: int, ahead: int
) -> Iterator[tuple[int, Any]]:
    """Yield (index, result) in order with at most `ahead` results queued, so that a slow consumer fills no memory."""
    queue = deque()
    for index in range(count + ahead):
        if index < count:
            queue.append(pool.submit(work, index))
        if index >= ahead:
            yield index - ahead, queue.popleft().result()


class RamImageStore(ImageStore):
    """Images in one block of memory that all worker processes share, forked or spawned."""

    name = "ram"

    def _open_cache(self) -> None:
        self.entries = np.zeros((len(self), 5), dtype=np.int64)  # offset, h, w, original h, w; h = 0: not cached
        self.block = SharedFile()

    def fill(self, label: str = "images") -> None:
        """Decode all images. If memory (or the temporary folder) is full, the rest is decoded on every read."""
        try:
            for index, resized in self._map_images(super().read, f"{label}: caching in memory"):
                if resized is not None:
                    offset = self.block.append(resized.image)
                    self.entries[index] = (offset, *resized.image.shape[:2], *resized.original)
        except OSError as error:
            logger.warning(
                "%s: memory is full (%s); the remaining images are decoded every epoch", label, error.strerror
            )

    def read(self, index: int) -> ResizedImage:
        """Return an image; a cached one is a read-only view."""
        offset, height, width, *original = self.entries[index].tolist()
        view = self.block.view(offset, height * width * 3) if height else None
        if view is None:
            return super().read(index)
        return ResizedImage(view.reshape(height, width, 3), tuple(original))


class DiskImageStore(ImageStore):
    """Images as raw files in the user's cache folder, named by a hash of the source file and the options.

    A changed source file has another hash, so an outdated image is never read, wherever the file is.
    """

    name = "disk"

    def _open_cache(self) -> None:
        self.folder = cache_folder() / "images"
        self.keys: list[str | None] = [None] * len(self)

    def fill(self, label: str = "images") -> None:
        """Hash all source files and write what is missing. If the disk is full, the rest is decoded on every read."""
        reported = False
        for index, result in self._map_images(self._cache, f"{label}: caching in {self.folder}"):
            if result is not None:
                self.keys[index], error = result
                if error and not reported:
                    reported = True
                    logger.warning("%s: %s; images that are not cached are decoded every epoch", label, error)

    def read(self, index: int) -> ResizedImage:
        """Return an image, from its cache file if that is complete."""
        key = self.keys[index]
        return (key and self._load(key)) or super().read(index)

    def _cache(self, index: int) -> tuple[str | None, UserError | None]:
        """(key of the cached image, None), or (None, error) if it cannot be written."""
        data = read_bytes(self.paths[index])
        key = self._key(index, data)
        if self._is_cached(key):
            return key, None
        resized = self._decode(index, data)
        header = np.array([*resized.image.shape[:2], *resized.original], dtype="<i4")
        try:
            write_atomically(self._file(key), header.tobytes() + resized.image.tobytes())
        except UserError as error:
            return None, error
        return key, None

    def _key(self, index: int, data: bytes) -> str:
        options = f"1 {self.size} {int(self._rotates(index, data))} {cv2.__version__}"  # decoders differ by version
        options += f" {self.depth}" if self.depth != 16 else ""
        return hashlib.blake2b(data, digest_size=20, salt=b"images", key=options.encode()).hexdigest()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _is_cached(self, key: str) -> bool:
        """Whether the image is cached and complete, by its header and its length."""
        try:
            with open(self._file(key), "rb") as file:
                height, width = np.frombuffer(file.read(16), dtype="<i4", count=2).tolist()
                return os.fstat(file.fileno()).st_size == 16 + height * width * 3
        except (OSError, ValueError):
            return False

    def _load(self, key: str) -> ResizedImage | None:
        """The cached image; None if it is missing or truncated."""
        try:
            data = np.fromfile(self._file(key), dtype=np.uint8)
        except OSError:
            return None
        if len(data) < 16:
            return None
        height, width, *original = data[:16].view("<i4").tolist()
        if len(data) != 16 + height * width * 3:
            return None
        return ResizedImage(data[16:].reshape(height, width, 3), tuple(original))


def check_readable(paths: Sequence[str], errors: dict[int, str]) -> None:
    """Raise if too many images cannot be read.

    Args:
        paths: all images.
        errors: index of an unreadable image -> reason.

    Raises:
        UserError: if they are more than half.
    """
    if 2 * len(errors) > len(paths):
        index, reason = next(iter(errors.items()))
        total = f"{len(errors)} of {counted(len(paths), 'image')} cannot be read, more than half"
        raise UserError(f"{total}; the first is {paths[index]}: {reason}")


def open_image_store(
    kind: str,
    paths: Sequence[str],
    apply_exif: Sequence[bool] | np.ndarray,
    size: int,
    total_bytes: int | None = None,
    declared_sizes: np.ndarray | None = None,
    depth: int = 16,
) -> ImageStore:
    """Return the store for a value of `--cache`, empty until `fill()`.

    Args:
        kind: 'ram', 'disk', 'none', or 'auto': 'ram' if the images fit into a quarter of the free memory, once for each
            process that torchrun started on this machine, else 'none'.
        paths: image files.
        apply_exif: whether each image is rotated by its EXIF orientation.
        size: longest side of a resized image, in pixels.
        total_bytes: memory of all resized images, if known.
        declared_sizes: (n, 2) the (h, w) that the boxes of each image refer to; may exclude an EXIF rotation.
        depth: bits that 16-bit images use.

    Raises:
        UserError: for an unknown kind.
    """
    if kind not in CACHES:
        raise UserError(f"cache: expected one of {', '.join(CACHES)}, got '{kind}'{did_you_mean(kind, CACHES)}")
    if kind == "auto":
        free = free_memory()
        needed = len(paths) * size * size * 3 if total_bytes is None else total_bytes
        needed *= int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # each process has its own store
        kind = "ram" if free is not None and needed <= free / 4 else "none"
    store = {"ram": RamImageStore, "disk": DiskImageStore, "none": ImageStore}[kind]
    return store(paths, apply_exif, size, declared_sizes, depth)
