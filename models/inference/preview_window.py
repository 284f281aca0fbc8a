"""A window that shows annotated images while detection runs."""

import logging
import os
import sys

import cv2
import numpy as np

logger = logging.getLogger(__name__)


class PreviewWindow:
    """Shows images; on a machine without a display it logs one warning and shows nothing.

    Attributes:
        active: whether images are shown.
        closed: whether the user ended the run with q or Escape.
    """

    def __init__(self, active: bool):
        self.active, self.closed = active, False

    def show(self, image: np.ndarray, milliseconds: int, title: str = "detections") -> None:
        """Show an image (H, W, 3) BGR for `milliseconds`; 0 waits for a key. Each title has its own window."""
        try:
            if not has_display():  # OpenCV's window library would end the process instead of raising an error
                raise cv2.error
            cv2.imshow(title, image)
            self.closed = cv2.waitKey(milliseconds) & 0xFF in (ord("q"), 27)
        except cv2.error:
            self.active = False
            logger.warning("--view: this machine, or this build of OpenCV, has no display; nothing is shown")


def has_display() -> bool:
    """Whether windows can be shown. Assumed on systems other than Linux."""
    variables = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    return not sys.platform.startswith("linux") or any(os.environ.get(name) for name in variables)
