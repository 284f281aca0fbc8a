"""The screen as a source. Needs the optional package mss."""

import time
from typing import Any

import numpy as np

from graftdet.utils.errors import UserError

MAX_FPS = 30


class ScreenCapture:
    """Reads the screen with the methods of OpenCV's `VideoCapture` that streams need.

    Args:
        target: 'screen', 'screen NUMBER', 'screen LEFT TOP WIDTH HEIGHT' or 'screen NUMBER LEFT TOP WIDTH HEIGHT', in
            pixels; monitors are counted from 1, 0 is all of them.

    Raises:
        UserError: mss is not installed, or `target` has another form.
    """

    def __init__(self, target: str):
        numbers = target.split()[1:]
        if len(numbers) not in (0, 1, 4, 5) or not all(number.lstrip("-").isdecimal() for number in numbers):
            raise UserError(f"{target}: expected 'screen [NUMBER] [LEFT TOP WIDTH HEIGHT]'")
        try:
            import mss
        except ImportError:
            raise UserError(
                f"{target}: reading the screen needs mss; install it with \"pip install 'graftdet[screen]'\""
            ) from None
        self._open, self._text = getattr(mss, "MSS", None) or mss.mss, target  # mss before 10 has the latter
        self._monitor = int(numbers[0]) if len(numbers) in (1, 5) else 1
        self._box = [int(number) for number in numbers[-4:]] if len(numbers) > 3 else None
        self._grabber: Any = None
        self._next = 0.0

    def isOpened(self) -> bool:
        """Whether it can be read."""
        return True

    def grab(self) -> bool:
        """Skip a frame."""
        return self.read()[0]

    def read(self) -> tuple[bool, np.ndarray | None]:
        """Whether there is a frame, and the frame (H, W, 3) BGR; at most 30 per second.

        Raises:
            UserError: there is no such monitor, or no screen.
        """
        now = time.monotonic()
        time.sleep(max(self._next - now, 0))
        self._next = max(self._next, now) + 1 / MAX_FPS
        try:
            self._grabber = self._grabber or self._open()  # in the thread that reads, as Windows requires
            area = self._grabber.monitors[self._monitor]
            if self._box:
                left, top, width, height = self._box
                area = {"left": area["left"] + left, "top": area["top"] + top, "width": width, "height": height}
            shot = np.asarray(self._grabber.grab(area))  # (H, W, 4) BGRA
        except Exception as error:  # mss raises many types: no display, no such monitor
            raise UserError(f"{self._text}: the screen cannot be read ({error})") from None
        return True, np.ascontiguousarray(shot[..., :3])

    def get(self, _: int) -> float:
        """Properties are not known."""
        return 0.0

    def release(self) -> None:
        """Close the screen."""
        if self._grabber is not None:
            self._grabber.close()
            self._grabber = None


def is_screen(target: object) -> bool:
    """Whether a target is the screen."""
    return isinstance(target, str) and target.split()[:1] == ["screen"]
