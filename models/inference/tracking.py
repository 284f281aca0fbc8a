"""Tracking: objects of a sequence of images get ids. The trackers are those of the package `trackers`. No torch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.inference.detections import Detections
from graftdet.utils.errors import UserError
from graftdet.utils.registry import Registry
from graftdet.utils.sources.frame import Frame

HIGH_SCORE = 0.5  # boxes above it start tracks; those below, down to --conf, only continue them
DEFAULT_FPS = 30.0  # of sequences that state none
MAX_GAP = 30  # frames, at 30 per second, that a track survives without a box

TRACKERS = Registry("tracker")
"""Functions that make a tracker of one sequence from its frames per second.

A tracker has `update(detections)`, from and to `supervision.Detections`; the result has `tracker_id`, -1 for boxes that
belong to no track.
"""


@TRACKERS.register("bytetrack")
def bytetrack(fps: float) -> Any:
    """ByteTrack (Zhang et al., ByteTrack: Multi-Object Tracking by Associating Every Detection Box, 2022)."""
    try:
        from trackers import ByteTrackTracker
    except ImportError:
        raise UserError("--track: tracking needs trackers; install it with \"pip install 'graftdet[track]'\"") from None
    return ByteTrackTracker(
        lost_track_buffer=MAX_GAP,
        frame_rate=fps,
        track_activation_threshold=HIGH_SCORE,
        high_conf_det_threshold=HIGH_SCORE,
    )


class SequenceTracker:
    """Gives the objects of each sequence their ids: of each video, each stream, and the images of each folder.

    Args:
        name: A name in `TRACKERS`.
        stride: Every `stride`-th frame of videos and streams is used.

    Raises:
        UserError: If the package is missing.
    """

    def __init__(self, name: str, stride: int = 1):
        self._make: Callable[[float], Any] = TRACKERS[name]
        self._stride = stride
        self._trackers: dict[str, Any] = {}
        self._make(DEFAULT_FPS)  # reports a missing package before the first image is read

    def update(self, frame: Frame, detections: Detections) -> Detections:
        """Return the detections of the next frame of its sequence with `track_ids`, in the same order."""
        key = sequence_of(frame)
        if key not in self._trackers:
            self._trackers[key] = self._make((frame.info.fps or DEFAULT_FPS) / self._stride)
        given = detections.to_supervision()
        given.data = {"position": np.arange(len(detections))}
        tracked = self._trackers[key].update(given)
        ids = np.full(len(detections), -1, np.int64)
        if len(tracked):
            found = np.asarray(tracked.tracker_id, np.int64)
            ids[tracked.data["position"]] = np.where(found >= 0, found + 1, -1)  # counted from 1, as MOT files do
        return replace(detections, track_ids=ids)


def sequence_of(frame: Frame) -> str:
    """The sequence that a frame belongs to: its video or stream, the folder of an image."""
    return frame.path if frame.info.is_video else str(Path(frame.path).parent)
