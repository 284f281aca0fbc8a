"""Read and write videos. OpenCV only, no torch."""

import errno
import math
import os
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.files import LFS_POINTER, is_lfs_pointer, regular_file, write_errors
from graftdet.utils.images.io import UnreadableImage, silence_opencv

DEFAULT_FPS = 25.0
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f\x80-\xff]")


def names_other_files(start: bytes) -> bool:
    """Whether a file with these first bytes is no video, but may be a playlist, whatever its name.

    FFmpeg recognizes playlists (m3u8, ffconcat, DASH, SDP) by their content and opens what they name: other files,
    pipes, addresses. They are texts; a tag ID3, which no video begins with, may stand before them.
    """
    return start.startswith(b"ID3") or (bool(start.strip()) and not _BINARY.search(start))


def open_capture(target: str | int) -> cv2.VideoCapture:
    """Return OpenCV's reader for a video file, a stream URL or a camera index; check `isOpened()`.

    A file is opened by its absolute path: FFmpeg takes a name such as `tcp:host:80.mp4` as an address.
    """
    silence_opencv()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # ffmpeg's own messages do not name the file
    if isinstance(target, int):
        return cv2.VideoCapture(target)
    if "://" in target:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
        return cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
    # other readers print what they do not understand, and take %02d in a name as numbers of images
    has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
    return cv2.VideoCapture(os.path.abspath(target), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)


def open_video(path: str) -> cv2.VideoCapture:
    """Return OpenCV's reader for a video file. Raises `UnreadableImage` if it is none, or not a regular file."""
    try:
        with open(path, "rb", opener=regular_file) as file:
            start = file.read(1024)
    except OSError as error:
        raise UnreadableImage(path, f"cannot be read ({error.strerror})") from None
    if is_lfs_pointer(start):
        raise UnreadableImage(path, LFS_POINTER)
    if names_other_files(start):
        raise UnreadableImage(path, "is no video but a text, such as a playlist, which could name any file or address")
    capture = open_capture(path)
    if not capture.isOpened():
        capture.release()
        raise UnreadableImage(path, "is not a video OpenCV can read")
    return capture


def frame_rate(capture: cv2.VideoCapture) -> float:
    """Return the frames per second that the container declares, `DEFAULT_FPS` if that is not plausible."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS


def frame_count(capture: cv2.VideoCapture) -> int | None:
    """Return the number of frames that the container declares (may be wrong); None for streams and cameras."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and 0 < count < 1e9 else None


def read_frames(capture: cv2.VideoCapture, stride: int = 1) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) BGR, whatever number the container declares; releases `capture` at the end.

    Args:
        capture: An open reader.
        stride: Yield every `stride`-th frame, beginning with the first; the others are not decoded.
    """
    try:
        for index in count():
            if index % stride:
                if not capture.grab():
                    return
                continue
            good, image = capture.read()
            if not good or image is None:
                return
            yield image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    finally:
        capture.release()


class VideoWriter:
    """Writes a video with the size of its first frame. Use as a context manager, or call `close()`.

    The format is MP4 (mp4v), or AVI (Motion JPEG) if MP4 cannot be opened or a side is odd (MP4 would crop it); after
    the first frame `path` has the suffix of the format.

    Args:
        path: File to write; the suffix is replaced.
        fps: Frames per second.
    """

    def __init__(self, path: str | Path, fps: float = DEFAULT_FPS):
        self.path = Path(path).with_suffix(".mp4")
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS
        self.count = 0
        self._writer: cv2.VideoWriter | None = None
        self._size: tuple[int, int] | None = None
        self._plain_avi = False

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) BGR uint8, scaled to the size of the first. Raises `UserError`."""
        height, width = image.shape[:2]
        writer = self._writer or self._open(width, height)
        if (width, height) != self._size:
            image = cv2.resize(image, self._size)
        writer.write(np.ascontiguousarray(image))
        self.count += 1

    def close(self) -> None:
        """Complete the file; without any frame there is none. Raises `UserError` if it cannot be read back."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with write_errors(self.path):
            if self._plain_avi:
                _set_avi_rate(self.path, self.fps)
            if not self._is_complete():
                raise OSError(errno.ENOSPC, "it cannot be read back; is the disk full?")

    def _is_complete(self) -> bool:
        """Whether the end of the file was written: OpenCV's writers report no error when the disk is full."""
        if self._plain_avi:  # RIFF, then the number of bytes that follow, 0 until the file is complete
            with open(self.path, "rb") as file:
                length = int.from_bytes(file.read(8)[4:], "little")
            return 0 < length <= self.path.stat().st_size - 8
        capture = open_capture(str(self.path))  # MP4 cannot be opened without the table at its end
        opened = capture.isOpened()
        capture.release()
        return opened

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        silence_opencv()
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        avi = self.path.with_suffix(".avi")
        formats = [(avi, cv2.CAP_OPENCV_MJPEG, "MJPG"), (avi, cv2.CAP_ANY, "MJPG")]
        if width % 2 == 0 and height % 2 == 0:
            formats.insert(0, (self.path, cv2.CAP_ANY, "mp4v"))
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        for path, backend, codec in formats:
            fourcc = cv2.VideoWriter_fourcc(*codec)  # type: ignore[attr-defined]
            writer = cv2.VideoWriter(str(path), backend, fourcc, self.fps, (width, height))
            if writer.isOpened():
                self._writer, self._size, self.path = writer, (width, height), path
                self._plain_avi = backend == cv2.CAP_OPENCV_MJPEG
                return writer
            writer.release()
        raise UserError(f"{self.path}: OpenCV cannot write it, neither as mp4v nor as MJPG video")


def _set_avi_rate(path: Path, fps: float) -> None:
    """Write the exact frame rate into the stream header; OpenCV's own AVI writer rounds it to an integer."""
    rate = Fraction(fps).limit_denominator(1001)
    with open(path, "r+b") as file:
        head = file.read(4096)
        stream, main = head.find(b"strh"), head.find(b"avih")
        if stream < 0 or main < 0:
            return
        file.seek(stream + 28)  # 8 bytes of chunk header, then 20 to the pair (scale, rate)
        file.write(struct.pack("<II", rate.denominator, rate.numerator))
        file.seek(main + 8)
        file.write(struct.pack("<I", round(1e6 / fps)))  # microseconds per frame
