"""One image of a source, and where it comes from."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SourceInfo:
    """The origin of a frame. `fps` and `frame_count` are those of the container, which may be wrong, or None."""

    kind: str  # 'image', 'video' or 'stream'
    fps: float | None = None
    frame_count: int | None = None

    @property
    def is_video(self) -> bool:
        """Whether the frame is one of a sequence, in a video or a stream."""
        return self.kind != "image"


@dataclass(frozen=True)
class Frame:
    """One image to run detection on."""

    image: np.ndarray  # (H, W, 3) BGR uint8
    path: str  # file, address, 'camera 0' or 'screen 0'
    index: int | None  # within a video, counted from 0; None for an image file
    info: SourceInfo
    repeats: int = 1  # frames of a video at `info.fps` for which it is shown: more than one in an animation
