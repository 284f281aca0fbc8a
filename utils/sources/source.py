"""Iterate over the images of a source: files, lists, videos, animations, streams, cameras, the screen. No torch."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.utils.errors import UserError
from graftdet.utils.images.bit_depth import depth_problem
from graftdet.utils.images.io import VIDEO_SUFFIXES, UnreadableImage, decode_image, read_bytes, sixteen_bit_range
from graftdet.utils.images.video import frame_count, frame_rate, open_video, read_frames
from graftdet.utils.sources.animation import (
    ANIMATION_SUFFIXES,
    frame_durations,
    frame_rate_of,
    lacks_pages,
    read_animation,
    report_missing_frames,
)
from graftdet.utils.sources.frame import Frame, SourceInfo
from graftdet.utils.sources.live import LiveFrames, LiveGroup, open_live
from graftdet.utils.sources.targets import find_targets, is_live, join_screen, suffix_of, without_duplicates
from graftdet.utils.text import counted

MISSING_FRAMES, MISSING_FRACTION = 2, 0.01  # of a video, which are not reported: some containers estimate the number
logger = logging.getLogger(__name__)


class Source:
    """Iterates over the frames of its targets. A target that cannot be read is skipped with a warning.

    Files are read one after the other. Several live streams are read side by side, after the files: the newest frame of
    each, in turns.

    Args:
        text: what the user gave, for error messages.
        targets: paths, addresses, camera numbers and screens.
        stride: of videos and streams, every `stride`-th frame is read.
        depth: bits that 16-bit image files use; the first file that uses another number is reported.
        depth_option: how to give another depth, for that report.

    Attributes:
        incomplete: what was not read completely in the last iteration, one message each: videos with less frames than
            they declare, streams that gave no frames any more.

    Raises:
        UserError: while iterating, if the only target cannot be read, or none of several.
    """

    def __init__(
        self,
        text: str,
        targets: list[str | int],
        stride: int = 1,
        depth: int = 16,
        depth_option: str = "--depth {}",
    ):
        self.text, self.targets, self.stride, self.depth = text, targets, stride, depth
        self._depth_option, self._depth_reported = depth_option, False
        self.incomplete: list[str] = []
        self._streams: list[LiveFrames] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def has_videos(self) -> bool:
        """Whether a target is a video, an animation or live, so that the number of frames is not known before."""
        return any(isinstance(target, int) or is_live(target) or _is_sequence(target) for target in self.targets)

    def __iter__(self) -> Iterator[Frame]:
        self._streams, self._stopped = [], False
        self.incomplete.clear()
        live = [target for target in self.targets if is_live(target)]
        several = len(live) > 1
        count = 0
        for target in self.targets:
            if self._stopped:
                return
            if several and is_live(target):
                continue
            try:
                before = count
                for frame in self._read_target(target):
                    count += 1
                    yield frame
                if count > before:
                    self._report_missing(target, count - before, frame.info)
            except UserError as error:
                if len(self.targets) == 1:
                    raise
                logger.warning("%s; skipped", error)
        if several and not self._stopped:
            for frame in self._read_side_by_side(live):
                count += 1
                yield frame
            self._report_gone()
        if not count and not self._stopped:
            raise UserError(f"{self.text}: none of its images and videos ({len(self.targets)}) can be read")

    def _report_missing(self, target: str | int, count: int, info: SourceInfo) -> None:
        """Report a video that gave less frames than it declares, beyond what containers round, and a lost stream."""
        declared = info.frame_count or 0
        if not self._stopped and declared - count > max(MISSING_FRAMES, declared * MISSING_FRACTION):
            self.incomplete.append(f"{target}: {count} of {counted(declared, 'frame')} could be read")
            logger.warning("%s", self.incomplete[-1])
        elif info.kind == "stream":
            self._report_gone()

    def _report_gone(self) -> None:
        for stream in () if self._stopped else self._streams:
            if stream.is_gone:
                self.incomplete.append(f"{stream.name}: the stream is gone")
                logger.warning("%s", self.incomplete[-1])

    def stop(self) -> None:
        """End an iteration that runs in another thread: no other target is opened, and no stream is waited for."""
        self._stopped = True
        for stream in self._streams:
            stream.stop()

    def _read_target(self, target: str | int) -> Iterator[Frame]:
        """The frames of one target. Raises `UserError` if there is none."""
        if isinstance(target, int) or is_live(target):
            yield from self._read_stream(target)
        elif suffix_of(target) in VIDEO_SUFFIXES:
            yield from _read_video(target, self.stride)
        elif suffix_of(target) in ANIMATION_SUFFIXES and (durations := frame_durations(target)):
            if suffix_of(target) in (".tif", ".tiff"):
                self._report_depth(target, read_bytes(target))
            yield from _read_animation(target, durations, self.stride, self.depth)
        else:
            if suffix_of(target) in (".tif", ".tiff") and lacks_pages(target):
                report_missing_frames(target)
            yield Frame(self._read_image(target), target, None, SourceInfo("image"))

    def _read_image(self, path: str) -> np.ndarray:
        data = read_bytes(path)
        image = decode_image(data, path, depth=self.depth)
        self._report_depth(path, data)
        return image

    def _report_depth(self, path: str, data: bytes) -> None:
        """Report once that the values of 16-bit images do not fit the depth."""
        value_range = None if self._depth_reported else sixteen_bit_range(data)
        if value_range and (problem := depth_problem([value_range], self.depth, self._depth_option)):
            self._depth_reported = True
            logger.warning("%s: %s: %s", path, *problem)

    def _read_stream(self, target: str | int) -> Iterator[Frame]:
        """A stream or camera, live; an address of finite length (a file over http) is read frame by frame."""
        capture = open_live(target)
        count = _finite_length(target, capture)
        if count:
            yield from _video_frames(capture, str(target), count, self.stride)
            return
        live = LiveFrames(target, capture=capture, stride=self.stride)
        self._streams.append(live)
        try:
            yield from _number_frames(iter(live), live.name, SourceInfo("stream", live.fps / self.stride))
        finally:
            live.close()

    def _read_side_by_side(self, targets: Sequence[str | int]) -> Iterator[Frame]:
        """The newest frame of each of several streams, in turns; addresses of finite length first, one by one."""
        with ThreadPoolExecutor(len(targets)) as pool:  # a dead stream delays the others by its time-out only
            captures = list(pool.map(_open_or_warn, targets))
        endless: list[tuple[str | int, Any]] = []
        for target, capture in zip(targets, captures, strict=True):
            if capture is None:
                continue
            count = _finite_length(target, capture)
            if count:
                yield from _video_frames(capture, str(target), count, self.stride)
            else:
                endless.append((target, capture))
        if not endless or self._stopped:
            return
        group = LiveGroup([target for target, _ in endless], [capture for _, capture in endless], self.stride)
        self._streams = group.streams
        counts: dict[str, int] = {}
        try:
            for stream, image in group:
                index = counts.get(stream.name, 0)
                counts[stream.name] = index + 1
                yield Frame(image, stream.name, index, SourceInfo("stream", stream.fps / self.stride))
        finally:
            group.close()


def open_source(
    *sources: str | int | Path, stride: int = 1, depth: int = 16, depth_option: str = "--depth {}"
) -> Source:
    """Resolve the values of `--source`.

    Args:
        sources: each an image, a video, a folder (its own files), a pattern (`**` matches subfolders), a `.txt` or
            `.streams` list of these (one per line, relative to the list or to the working directory), a stream address,
            a camera number, or 'screen [NUMBER] [LEFT TOP WIDTH HEIGHT]'. Several values are what a shell expands a
            pattern to. Targets given twice are read once.
        stride: of videos and streams, every `stride`-th frame is read.
        depth, depth_option: as of `Source`.

    Returns:
        The source. Files are opened while iterating.

    Raises:
        UserError: if a value does not exist or is of no known kind.
    """
    texts = join_screen([str(source) for source in sources])
    targets = list(chain.from_iterable(find_targets(text) for text in texts))
    text = texts[0] + (f" and {len(texts) - 1} more" if len(texts) > 1 else "")
    return Source(text, targets if len(texts) == 1 else without_duplicates(targets), stride, depth, depth_option)


def _is_sequence(path: str) -> bool:
    suffix = suffix_of(path)
    return suffix in VIDEO_SUFFIXES or (suffix in ANIMATION_SUFFIXES and bool(frame_durations(path)))


def _open_or_warn(target: str | int) -> Any:
    """The reader of a target, open or not; None, after a warning, where its kind cannot be read here."""
    try:
        return open_live(target)
    except UserError as error:
        logger.warning("%s; skipped", error)
        return None


def _finite_length(target: str | int, capture) -> int | None:
    """The number of frames of an address that is a file; None for streams, cameras and the screen."""
    return frame_count(capture) if isinstance(target, str) and capture.isOpened() else None


def _read_video(path: str, stride: int) -> Iterator[Frame]:
    capture = open_video(path)
    yield from _video_frames(capture, path, frame_count(capture), stride)


def _video_frames(capture, path: str, count: int | None, stride: int) -> Iterator[Frame]:
    info = SourceInfo("video", frame_rate(capture) / stride, -(-count // stride) if count else None)
    yield from _number_frames(read_frames(capture, stride), path, info)


def _read_animation(path: str, durations: Sequence[int], stride: int, depth: int) -> Iterator[Frame]:
    """The frames of an animation; each is repeated in a video for as long as it is shown."""
    shown = [sum(durations[start : start + stride]) for start in range(0, len(durations), stride)]
    info = SourceInfo("video", frame_rate_of(shown), len(shown))
    images = islice(read_animation(path, len(durations), depth), 0, None, stride)
    for index, (image, milliseconds) in enumerate(zip(images, shown, strict=False)):
        yield Frame(image, path, index, info, max(round(milliseconds / 1000 * info.fps), 1))


def _number_frames(images: Iterator[np.ndarray], path: str, info: SourceInfo) -> Iterator[Frame]:
    index = None
    for index, image in enumerate(images):
        yield Frame(image, path, index, info)
    if index is None:
        raise UnreadableImage(path, "has no frame that can be read")
