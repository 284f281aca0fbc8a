"""Sources of images for detection: files, folders, patterns, lists, videos, streams, cameras. No torch."""

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.io import IMAGE_SUFFIXES, VIDEO_SUFFIXES, UnreadableImage, read_image
from graftdet.utils.images.video import LiveFrames, frame_count, frame_rate, open_capture, read_frames

logger = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "rtp")


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
    path: str  # file, address or 'camera 0'
    index: int | None  # within a video, counted from 0; None for an image file
    info: SourceInfo


class Source:
    """Iterates over the frames of its targets. A target that cannot be read is skipped with a warning.

    Args:
        text: what the user gave, for error messages.
        targets: paths, addresses and camera numbers.

    Raises:
        UserError: while iterating, if the only target cannot be read, or none of several.
    """

    def __init__(self, text: str, targets: list[str | int]):
        self.text, self.targets = text, targets
        self._streams: list[LiveFrames] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self) -> Iterator[Frame]:
        self._streams, self._stopped = [], False
        count = 0
        for target in self.targets:
            if self._stopped:
                return
            try:
                for frame in _read_target(target, self._streams):
                    count += 1
                    yield frame
            except UserError as error:
                if len(self.targets) == 1:
                    raise
                logger.warning("%s; skipped", error)
        if not count:
            raise UserError(f"{self.text}: none of its {len(self.targets)} images and videos can be read")

    def stop(self) -> None:
        """End an iteration that runs in another thread: no other target is opened, and no stream is waited for."""
        self._stopped = True
        for stream in self._streams:
            stream.stop()


def open_source(*sources: str | int | Path) -> Source:
    """Resolve the values of `--source`.

    Args:
        sources: each an image, a video, a folder (its own files), a pattern (`**` matches subfolders), a `.txt` list of
            these (one per line, relative to the list or to the working directory), a stream address, or a camera
            number. Several values are what a shell expands a pattern to. Targets given twice are read once.

    Returns:
        The source. Files are opened while iterating.

    Raises:
        UserError: if a value does not exist or is of no known kind.
    """
    targets = list(chain.from_iterable(_find_targets(str(source)) for source in sources))
    text = str(sources[0]) + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")
    return Source(text, targets if len(sources) == 1 else _without_duplicates(targets))


def _find_targets(text: str) -> list[str | int]:
    """The targets of one value."""
    if not text.strip():
        raise UserError("--source: is empty; expected an image, video, folder, pattern, list, address or camera number")
    path = Path(text).expanduser()
    if text.isdecimal() and not path.exists():
        return [int(text)]
    if _is_address(text):
        return [text]
    if path.is_file() and path.suffix.lower() in (".txt", ".streams"):
        return _without_duplicates(_read_list(path))
    return [*_find_files(text)]


def _without_duplicates(targets: Iterable[str | int]) -> list[str | int]:
    """`targets` without repetitions, even if a path is written differently."""
    unique = {}
    for target in targets:
        key = target if isinstance(target, int) or _is_address(target) else os.path.abspath(target)
        unique.setdefault(key, target)
    return list(unique.values())


def _is_address(text: str) -> bool:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if match and match[1].lower() not in SCHEMES:
        hint = did_you_mean(match[1], SCHEMES)
        raise UserError(f"{text}: unknown kind of address '{match[1]}'{hint or '; known: ' + ', '.join(SCHEMES)}")
    return bool(match)


def _find_files(text: str) -> list[str]:
    """The image and video files of a path or pattern, sorted."""
    path = Path(text).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = [str(entry) for entry in path.iterdir() if entry.is_file()]
        what = f"{text}: this folder has"
    elif glob.has_magic(text):
        found = [entry for entry in glob.glob(str(path), recursive=True) if Path(entry).is_file()]
        what = f"{text}: this pattern matches"
    else:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{text}: no such file or folder{did_you_mean(path.name, siblings)}")
    known = sorted(entry for entry in found if _suffix(entry) in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    if not known:
        kinds = ", none of a known kind (.jpg, .png, .mp4, ...)" if found else ""
        nested = path.is_dir() and any(entry.is_dir() for entry in path.iterdir())
        hint = f"; subfolders are not searched, expected a pattern such as '{path}/**/*.jpg'" if nested else ""
        raise UserError(f"{what} no images or videos: {len(found)} files{kinds}{hint}")
    return known


def _read_list(path: Path) -> list[str | int]:
    """The targets in a list file; a line without any is skipped with a warning."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: expected a text file with one path or address per line") from None
    targets, errors = [], []
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if not line or line.startswith("#"):
            continue
        beside_list = path.parent / Path(line).expanduser()
        try:
            if _is_address(line) or (line.isdecimal() and not beside_list.exists()):
                targets.append(int(line) if line.isdecimal() else line)
            else:
                matches = glob.glob(str(beside_list), recursive=True) if glob.has_magic(line) else []
                targets += _find_files(str(beside_list) if beside_list.exists() or matches else line)
        except UserError as error:
            errors.append(f"{path}, line {number}: {error}")
    if not targets:
        raise UserError(errors[0] if errors else f"{path}: this list is empty")
    for error in errors:
        logger.warning("%s; skipped", error)
    return targets


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _read_target(target: str | int, streams: list[LiveFrames]) -> Iterator[Frame]:
    """The frames of a file, address or camera; live ones are added to `streams`. Raises `UserError` without any."""
    if isinstance(target, int) or _is_address(target):
        yield from _read_stream(target, streams)
    elif _suffix(target) in VIDEO_SUFFIXES:
        yield from _read_video(target)
    else:
        image = read_image(target)
        yield Frame(image, target, None, SourceInfo("image"))


def _read_video(path: str) -> Iterator[Frame]:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise UnreadableImage(path, f"cannot be read ({error.strerror})") from None
    capture = open_capture(path)
    if not capture.isOpened():
        capture.release()
        raise UnreadableImage(path, "is not a video OpenCV can read")
    yield from _number_frames(read_frames(capture), path, "video", frame_rate(capture), frame_count(capture))


def _read_stream(target: str | int, streams: list[LiveFrames]) -> Iterator[Frame]:
    """A stream or camera, live; an address of finite length (a file over http) is read frame by frame."""
    name = f"camera {target}" if isinstance(target, int) else target
    capture = open_capture(target)
    count = frame_count(capture) if capture.isOpened() and not isinstance(target, int) else None
    if count:
        yield from _number_frames(read_frames(capture), name, "video", frame_rate(capture), count)
        return
    live = LiveFrames(target, capture=capture)
    streams.append(live)
    try:
        yield from _number_frames(iter(live), name, "stream", live.fps, None)
    finally:
        live.close()


def _number_frames(
    images: Iterator[np.ndarray], path: str, kind: str, fps: float, count: int | None
) -> Iterator[Frame]:
    info, index = SourceInfo(kind, fps, count), None
    for index, image in enumerate(images):
        yield Frame(image, path, index, info)
    if index is None:
        raise UnreadableImage(path, "has no frame that can be read")
