"""Live streams, cameras and the screen: one or several side by side, always the newest frame."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.images.video import DEFAULT_FPS, frame_rate, open_capture
from graftdet.utils.sources.screen import ScreenCapture, is_screen

logger = logging.getLogger(__name__)
MAX_PAUSE = 30.0  # seconds between two attempts to open a stream again
LOST = 5  # failed attempts in a row after which a stream counts as lost


Capture = Any  # cv2.VideoCapture, or what has its methods


def open_live(target: str | int) -> Capture:
    """The reader of a stream, a camera or the screen; check `isOpened()`."""
    return ScreenCapture(str(target)) if is_screen(target) else open_capture(target)


class LiveFrames:
    """Iterate over a stream or camera. A thread reads all frames; the iteration yields the newest one not yet seen.

    So a slow consumer skips frames instead of falling behind, and no more than one frame is in memory.

    Args:
        target: Stream URL, camera index, or 'screen ...'.
        attempts: How often in a row a lost connection is opened again before the iteration ends; None: without end.
        pause: Seconds before the first attempt; doubled for each further one, up to `MAX_PAUSE`.
        opener: Opens `target`.
        capture: A reader of `target`, if there is one already.
        stride: Of the frames that arrive, every `stride`-th is used.
        must_open: Raise errors of `target`, also that it cannot be opened at first. False: warn, and open it again.
        ready: Notified of each frame; shared by streams that are read side by side.

    Attributes:
        name: The target for messages.
        fps: Frames per second as declared.
        failures: Failed attempts in a row to read a frame.

    Raises:
        UserError: If `target` cannot be opened at first.
    """

    def __init__(
        self,
        target: str | int,
        attempts: int | None = LOST,
        pause: float = 0.5,
        opener: Callable = open_live,
        capture: Capture | None = None,
        stride: int = 1,
        must_open: bool = True,
        ready: threading.Condition | None = None,
    ):
        self._target, self._attempts, self._pause, self._opener = target, attempts, pause, opener
        self._ready, self._stride, self._must_open = ready or threading.Condition(), stride, must_open
        self._frame: np.ndarray | None = None
        self._error: BaseException | None = None
        self._stopped = False
        self.is_gone = False  # ended because it gave no frames any more
        self.name, self.failures, self.fps = f"camera {target}" if isinstance(target, int) else target, 0, DEFAULT_FPS
        self._capture = capture or opener(target)
        if self._capture.isOpened():
            self.fps = frame_rate(self._capture)
        elif must_open:
            self._capture.release()
            raise UserError(f"{self.name}: cannot be opened")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._frame is not None or self._stopped)
                image = self.take()
            if image is None:
                if self._error:
                    raise self._error
                return
            yield image

    def take(self) -> np.ndarray | None:
        """The newest frame (H, W, 3) BGR that was not taken yet, if there is one."""
        image, self._frame = self._frame, None
        return image

    @property
    def is_lost(self) -> bool:
        """Whether reading has ended, or failed so often that other streams need not wait for it."""
        return self._frame is None and (self._stopped or self.failures > LOST)

    def close(self) -> None:
        """Stop reading and close the stream."""
        self.stop()
        self._thread.join(timeout=15)

    def stop(self) -> None:
        """End the iteration, even while it waits for a frame. May be called from any thread."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()

    def _read(self) -> None:
        try:
            self._read_until_stopped()
        except UserError as error:
            if self._must_open:
                self._error = error
            else:
                logger.warning("%s; skipped", error)
        finally:  # after any error: no consumer may wait for another frame
            self._capture.release()
            self.stop()

    def _read_until_stopped(self) -> None:
        while not self._stopped:
            good, image = self._next_frame()
            if good and image is not None:
                if self.failures:
                    logger.info("%s: connected again", self.name)
                with self._ready:
                    self._frame, self.failures, self.is_gone = image, 0, False
                    self._ready.notify_all()
                continue
            if not self.failures:
                logger.warning("%s: gives no frames; opening it again", self.name)
            with self._ready:
                self.failures += 1
                self._ready.notify_all()
            self.is_gone = self.failures > (LOST if self._attempts is None else self._attempts)
            if self.is_gone and self._attempts is not None:
                return
            self._capture.release()
            pause = min(self._pause * 2 ** min(self.failures - 1, 20), MAX_PAUSE)
            with self._ready:
                self._ready.wait_for(lambda: self._stopped, timeout=pause)
            if not self._stopped:
                self._capture = self._opener(self._target)
                self.fps = frame_rate(self._capture)

    def _next_frame(self) -> tuple[bool, np.ndarray | None]:
        for _ in range(self._stride - 1):
            if not self._capture.grab():  # not decoded
                return False, None
        return self._capture.read()


class LiveGroup:
    """Several live streams side by side: the newest frame of each, in turns. Lost ones are opened again meanwhile.

    Args:
        targets: Stream URLs, camera indices or 'screen ...'.
        captures: A reader of each, open or not.
        stride, pause, opener: See `LiveFrames`.
    """

    def __init__(
        self,
        targets: Sequence[str | int],
        captures: Sequence[Capture],
        stride: int = 1,
        pause: float = 0.5,
        opener: Callable = open_live,
    ):
        self._ready = threading.Condition()
        self.streams = [
            LiveFrames(
                target,
                attempts=None,
                pause=pause,
                opener=opener,
                capture=capture,
                stride=stride,
                must_open=False,
                ready=self._ready,
            )
            for target, capture in zip(targets, captures, strict=True)
        ]

    def __iter__(self) -> Iterator[tuple[LiveFrames, np.ndarray]]:
        """Yield (stream, frame) until all streams are stopped or lost."""
        turn = 0
        while True:
            with self._ready:
                self._ready.wait_for(lambda: any(s._frame is not None for s in self.streams) or self._has_ended())
                order = self.streams[turn:] + self.streams[:turn]
                stream = next((stream for stream in order if stream._frame is not None), None)
                image = stream.take() if stream else None
            if stream is None:
                return
            turn = (self.streams.index(stream) + 1) % len(self.streams)
            yield stream, image

    def close(self) -> None:
        """Stop reading and close all streams."""
        for stream in self.streams:
            stream.stop()
        for stream in self.streams:
            stream.close()

    def _has_ended(self) -> bool:
        return all(stream.is_lost for stream in self.streams)
