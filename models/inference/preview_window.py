"""A window that shows annotated images while detection runs."""

import logging
import os
import sys
import time
from collections import deque

import cv2
import numpy as np

logger = logging.getLogger(__name__)
KEYS = {  # action -> codes of cv2.waitKeyEx; arrows with Qt and GTK, on Windows, on macOS
    "quit": {ord("q"), 27},
    "next": {ord("n"), 13, 65363, 2555904, 63235},  # Enter, right arrow
    "previous": {ord("p"), 8, 65361, 2424832, 63234},  # Backspace, left arrow
    "pause": {ord(" ")},
}
POLL = 40  # ms between two checks whether the window was closed
IMAGE_SECONDS = 1.0  # for which images are shown that follow each other by themselves
MAX_REMEMBERED = 256 * 2**20  # bytes of images that `previous` can return to
MAX_SIDE = (1280, 800)  # width and height of a new window, pixels


class PreviewWindow:
    """Shows images; on a machine without a display it logs one warning and shows nothing.

    Images wait for a key, videos and streams play. Keys: n, Enter or the right arrow shows the next image or frame,
    p, Backspace or the left arrow the one before, space pauses, or lets images and frames follow each other by
    themselves; q, Escape or closing the window ends the run.

    Attributes:
        active: whether images are shown.
        closed: whether the user ended the run.
    """

    def __init__(self, active: bool):
        self.active, self.closed = active, False
        self._paused: dict[bool, bool] = {False: True, True: False}  # is_video -> whether to wait for a key
        self._shown: deque[tuple[str, np.ndarray]] = deque()  # the last one is the newest
        self._titles: set[str] = set()
        self._visible: set[str] = set()  # titles of the windows that were visible at the last check

    def show(self, image: np.ndarray, is_video: bool, title: str = "detections") -> None:
        """Show an image (H, W, 3) BGR until a key is pressed; a frame of a video or stream while no other one comes.

        Args:
            image: The image.
            is_video: Whether it is a frame of a video or a stream.
            title: Title of its window; each title has its own.
        """
        try:
            if not has_display():  # OpenCV's window library would end the process instead of raising an error
                raise cv2.error
            self._remember(title, image)
            self._wait(is_video)
        except cv2.error:
            self.active = False
            logger.warning("--view: this machine, or this build of OpenCV, has no display; nothing is shown")

    def _remember(self, title: str, image: np.ndarray) -> None:
        self._shown.append((title, image))
        size = sum(one.nbytes for _, one in self._shown)
        while size > MAX_REMEMBERED and len(self._shown) > 1:
            size -= self._shown.popleft()[1].nbytes

    def _wait(self, is_video: bool) -> None:
        """Show the newest image, and earlier ones on request, until the next one is wanted."""
        position = len(self._shown) - 1
        self._draw(position)
        deadline = time.monotonic() + (0 if is_video else IMAGE_SECONDS)
        while True:
            action = self._key(POLL if self._paused[is_video] or not is_video else 1)
            if action == "quit":
                self.closed = True
                return
            if action == "pause":
                self._paused[is_video] = not self._paused[is_video]
            elif action:
                self._paused[is_video] = True
                position = max(position + (1 if action == "next" else -1), 0)
                if position == len(self._shown):
                    return
                self._draw(position)
            if not self._paused[is_video] and time.monotonic() >= deadline:
                return

    def _draw(self, position: int) -> None:
        title, image = self._shown[position]
        if title not in self._titles:
            self._titles.add(title)
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            scale = min(1.0, MAX_SIDE[0] / image.shape[1], MAX_SIDE[1] / image.shape[0])
            cv2.resizeWindow(title, round(image.shape[1] * scale), round(image.shape[0] * scale))
        cv2.imshow(title, image)

    def _key(self, milliseconds: int) -> str:
        """The action of the key that is pressed within that time; "" without one."""
        code = cv2.waitKeyEx(milliseconds)
        visible = {title for title in self._titles if cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1}
        if self._visible - visible:  # some window systems do not report it at all
            return "quit"
        self._visible = visible
        return next((action for action, codes in KEYS.items() if code in codes), "")


def has_display() -> bool:
    """Whether windows can be shown. Assumed on systems other than Linux."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in variables)
