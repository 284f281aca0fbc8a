"""How many frames a source has, and some of them before it is read. No torch."""

from itertools import islice

import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.files import spread_sample
from graftdet.utils.images.io import VIDEO_SUFFIXES, read_image
from graftdet.utils.images.video import frame_count, open_video, read_frames
from graftdet.utils.sources.source import Source
from graftdet.utils.sources.targets import is_live, suffix_of

VIDEO_STEP = 10  # frames: neighbors are nearly the same


def expected_frames(source: Source) -> int | None:
    """Return the number of frames that the files of a source declare; None where one does not, or for a live target."""
    total = 0
    for target in source.targets:
        length = None if isinstance(target, int) or is_live(target) else 1
        if length and _is_video(str(target)):
            length = _video_length(str(target))
        if length is None:
            return None
        total += -(-length // source.stride) if _is_video(str(target)) else 1
    return total


def sample_images(source: Source, limit: int) -> list[np.ndarray]:
    """Return at most `limit` of the first images (H, W, 3) uint8 BGR of a source, spread over its files and frames.

    Live targets and files that cannot be read are skipped, as the latter are reported when the source is read.
    """
    files = [str(target) for target in source.targets if not (isinstance(target, int) or is_live(target))]
    files = spread_sample(files, limit)
    images: list[np.ndarray] = []
    for number, path in enumerate(files):
        wanted = -(-(limit - len(images)) // (len(files) - number))
        try:
            if _is_video(path):
                images += islice(read_frames(open_video(path), VIDEO_STEP), wanted)
            else:
                images.append(read_image(path, depth=source.depth))
        except UserError:
            continue
    return images


def _is_video(path: str) -> bool:
    return suffix_of(path) in VIDEO_SUFFIXES


def _video_length(path: str) -> int | None:
    """The number of frames that a video declares, if it does; 0 where it cannot be read."""
    try:
        capture = open_video(path)
    except UserError:
        return 0
    try:
        return frame_count(capture)
    finally:
        capture.release()
