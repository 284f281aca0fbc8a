"""Videos in, videos out, and streams that run live. OpenCV only, no torch."""

import errno
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from graftdet.utils.errors import UserError
from graftdet.utils.files import write_errors
from graftdet.utils.images.io import quiet_opencv

DEFAULT_FPS = 25.0


def open_capture(target: str | int) -> cv2.VideoCapture:
    """OpenCV's reader for a video file, a stream's address or a camera's number; ask it `isOpened()`."""
    quiet_opencv()
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # ffmpeg's own lines name no file
    if isinstance(target, int):
        return cv2.VideoCapture(target)
    if "://" in target:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
        return cv2.VideoCapture(target, cv2.CAP_FFMPEG, limits)
    return cv2.VideoCapture(target)


def frame_rate(capture) -> float:
    """Frames a second as the container says, `DEFAULT_FPS` where it says nothing sensible."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS


def frame_count(capture) -> int | None:
    """Frames as the container says, which may be wrong; None where it does not say (streams, cameras)."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if math.isfinite(count) and 0 < count < 1e9 else None


def read_frames(capture) -> Iterator[np.ndarray]:
    """Every frame (H, W, 3) BGR until the end, whatever number the container claims. Releases the capture."""
    try:
        while True:
            good, image = capture.read()
            if not good or image is None:
                return
            yield image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    finally:
        capture.release()


class LiveFrames:
    """The latest frame of a stream or camera: a thread reads all, so that a slow consumer does not fall behind.

    Iterating yields each time the newest frame not yet seen. A lost connection is opened again, `attempts` times in a
    row with growing pauses from `pause` seconds; then, or after `close()`, the iteration ends. `capture` is one that is
    open already. Raises `UserError` when the first opening fails.
    """

    def __init__(
        self, target: str | int, attempts: int = 5, pause: float = 0.5, opener: Callable = open_capture, capture=None
    ):
        self._target, self._attempts, self._pause, self._opener = target, attempts, pause, opener
        self._ready = threading.Condition()
        self._frame: np.ndarray | None = None
        self._stopped = False
        self._capture = capture or opener(target)
        if not self._capture.isOpened():
            self._capture.release()
            kind = f"camera {target}" if isinstance(target, int) else str(target)
            raise UserError(f"{kind}: cannot be opened")
        self.fps = frame_rate(self._capture)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._frame is not None or self._stopped)
                image, self._frame = self._frame, None
            if image is None:
                return
            yield image

    def close(self) -> None:
        """Stop reading and let the stream go."""
        self.stop()
        self._thread.join(timeout=15)

    def stop(self) -> None:
        """End the iteration, whatever it waits for; from any thread."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()

    def _read(self) -> None:
        try:
            self._read_until_stopped()
        finally:  # whatever happened here, nobody shall wait for another frame
            self._capture.release()
            with self._ready:
                self._stopped = True
                self._ready.notify_all()

    def _read_until_stopped(self) -> None:
        failures = 0
        while not self._stopped:
            good, image = self._capture.read()
            if good and image is not None:
                failures = 0
                with self._ready:
                    self._frame = image
                    self._ready.notify_all()
                continue
            failures += 1
            if failures > self._attempts:
                return
            self._capture.release()
            with self._ready:
                self._ready.wait_for(lambda: self._stopped, timeout=self._pause * 2 ** (failures - 1))
            if not self._stopped:
                self._capture = self._opener(self._target)


class VideoWriter:
    """Writes frames as they come: as many, at the same rate, at the size of the first.

    `path` says after the first frame where they go: MP4 (mp4v), or AVI (Motion JPEG) where MP4 does not open or a side
    is odd, which MP4 would cut. Use as a context manager, or `close()`.
    """

    def __init__(self, path: str | Path, fps: float = DEFAULT_FPS):
        self.path = Path(path).with_suffix(".mp4")
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else DEFAULT_FPS
        self.count = 0
        self._writer = None
        self._size: tuple[int, int] | None = None
        self._plain_avi = False

    def write(self, image: np.ndarray) -> None:
        """Add a frame (H, W, 3) BGR uint8; one of another size than the first is scaled to it. Raises `UserError`."""
        height, width = image.shape[:2]
        if self._writer is None:
            self._open(width, height)
        if (width, height) != self._size:
            image = cv2.resize(image, self._size)
        self._writer.write(np.ascontiguousarray(image))
        self.count += 1

    def close(self) -> None:
        """Finish the file. Nothing was written when no frame came. Raises `UserError` when it cannot be read back."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with write_errors(self.path):
            if self._plain_avi:
                _set_avi_rate(self.path, self.fps)
            if not self._is_whole():
                raise OSError(errno.ENOSPC, "it cannot be read back; is the disk full?")

    def _is_whole(self) -> bool:
        """Whether the file has what is written into it last: OpenCV's writers say nothing when the disk is full."""
        if self._plain_avi:  # RIFF, and how many bytes follow, 0 until the end
            with open(self.path, "rb") as file:
                length = int.from_bytes(file.read(8)[4:], "little")
            return 0 < length <= self.path.stat().st_size - 8
        capture = open_capture(str(self.path))  # MP4 cannot be opened without the table at its end
        opened = capture.isOpened()
        capture.release()
        return opened

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _open(self, width: int, height: int) -> None:
        quiet_opencv()
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        avi = self.path.with_suffix(".avi")
        plans = [(avi, cv2.CAP_OPENCV_MJPEG, "MJPG"), (avi, cv2.CAP_ANY, "MJPG")]
        if width % 2 == 0 and height % 2 == 0:
            plans.insert(0, (self.path, cv2.CAP_ANY, "mp4v"))
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        for path, backend, codec in plans:
            writer = cv2.VideoWriter(str(path), backend, cv2.VideoWriter_fourcc(*codec), self.fps, (width, height))
            if writer.isOpened():
                self._writer, self._size, self.path = writer, (width, height), path
                self._plain_avi = backend == cv2.CAP_OPENCV_MJPEG
                return
            writer.release()
        raise UserError(f"{self.path}: this OpenCV can write neither mp4v nor MJPG video there")


def _set_avi_rate(path: Path, fps: float) -> None:
    """OpenCV's own AVI writer rounds the rate to whole frames: put the true one into the stream header."""
    rate = Fraction(fps).limit_denominator(1001)
    with open(path, "r+b") as file:
        head = file.read(4096)
        stream, main = head.find(b"strh"), head.find(b"avih")
        if stream < 0 or main < 0:
            return
        file.seek(stream + 28)  # the chunk's 8 bytes, then 20 to the pair (scale, rate)
        file.write(struct.pack("<II", rate.denominator, rate.numerator))
        file.seek(main + 8)
        file.write(struct.pack("<I", round(1e6 / fps)))  # microseconds a frame
