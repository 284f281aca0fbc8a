"""Where pictures to detect on come from: files, folders, patterns, lists, videos, streams, cameras. No torch."""

import glob
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.images.io import IMAGE_SUFFIXES, VIDEO_SUFFIXES, UnreadableImage, read_image
from graftdet.utils.images.video import LiveFrames, frame_count, frame_rate, open_capture, read_frames

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "rtp")


@dataclass(frozen=True)
class SourceInfo:
    """Where a frame is from. `fps`, `frame_count` are the container's words, which may be wrong or None."""

    kind: str  # 'picture', 'video' or 'stream'
    fps: float | None = None
    frame_count: int | None = None

    @property
    def is_video(self) -> bool:
        """Whether its frames belong together, in a video or a stream."""
        return self.kind != "picture"


@dataclass(frozen=True)
class Frame:
    """One picture to look at. `path` names its file, address or 'camera 0'; `index` counts from 0 within a video."""

    image: np.ndarray  # (H, W, 3) BGR uint8
    path: str
    index: int | None
    info: SourceInfo


class Source:
    """Iterates over the `Frame`s of `targets`: paths, addresses, camera numbers.

    One that cannot be read is told on standard error and passed over. Raises `UserError` while iterating when it is the
    only one, or when none gave a frame.
    """

    def __init__(self, text: str, targets: list[str | int]):
        self.text, self.targets = text, targets
        self._streams: list[LiveFrames] = []
        self._stopped = False

    def __len__(self) -> int:
        return len(self.targets)

    def __iter__(self) -> Iterator[Frame]:
        self._streams, self._stopped = [], False
        seen = 0
        for target in self.targets:
            if self._stopped:
                return
            try:
                for frame in _frames(target, self._streams):
                    seen += 1
                    yield frame
            except UserError as error:
                if len(self.targets) == 1:
                    raise
                print(f"{error}; passed over", file=sys.stderr)
        if not seen:
            raise UserError(f"{self.text}: none of its {len(self.targets)} pictures and videos can be read")

    def stop(self) -> None:
        """End an iteration that runs in another thread, soon: no other target is begun, and no frame of a stream awaited."""
        self._stopped = True
        for stream in self._streams:
            stream.stop()


def open_source(*sources: str | int | Path) -> Source:
    """What `--source` means: a picture, a video, a folder (its own files), a pattern (`**` goes down), a `.txt` list of
    these (a line each, relative to the list or to here), a stream's address, or a camera's number; or several of these, as
    the shell makes of a pattern. What is named twice is looked at once.

    Raises `UserError` when one of them is not there, or is nothing of a known kind.
    """
    targets = [_targets(str(source)) for source in sources]
    text = str(sources[0]) + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")
    return Source(text, targets[0] if len(targets) == 1 else _once(sum(targets, [])))


def _targets(text: str) -> list[str | int]:
    """What one source stands for."""
    if not text.strip():
        raise UserError(
            "--source: is empty; expected a picture, video, folder, pattern, list, address or camera number"
        )
    path = Path(text).expanduser()
    if text.isdecimal() and not path.exists():
        return [int(text)]
    if _is_address(text):
        return [text]
    if path.is_file() and path.suffix.lower() in (".txt", ".streams"):
        return _once(_listed(path))
    return _files(text)


def _once(targets: list[str | int]) -> list[str | int]:
    """`targets` less those that are there already, perhaps written otherwise."""
    first = {}
    for target in targets:
        first.setdefault(target if isinstance(target, int) or _is_address(target) else os.path.abspath(target), target)
    return list(first.values())


def _is_address(text: str) -> bool:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if match and match[1].lower() not in SCHEMES:
        hint = did_you_mean(match[1], SCHEMES)
        raise UserError(f"{text}: unknown kind of address '{match[1]}'{hint or '; known: ' + ', '.join(SCHEMES)}")
    return bool(match)


def _files(text: str) -> list[str]:
    """The picture and video files that a path or pattern stands for, sorted."""
    path = Path(text).expanduser()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = [str(entry) for entry in path.iterdir() if entry.is_file()]
        what = f"{text}: this folder has"
    elif glob.has_magic(text):
        found = [entry for entry in glob.glob(str(path), recursive=True) if Path(entry).is_file()]
        what = f"{text}: this pattern finds"
    else:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{text}: no such file or folder{did_you_mean(path.name, siblings)}")
    known = sorted(entry for entry in found if _suffix(entry) in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    if not known:
        kinds = "none of a known kind (.jpg, .png, .mp4, ...)" if found else "none at all"
        raise UserError(f"{what} no pictures or videos: {len(found)} files, {kinds}")
    return known


def _listed(path: Path) -> list[str | int]:
    """The sources a list file names; a line that names nothing is told and passed over."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path}: expected a text file with a path or address a line") from None
    targets, wrong = [], []
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if not line or line.startswith("#"):
            continue
        beside = path.parent / Path(line).expanduser()
        try:
            if _is_address(line) or line.isdecimal() and not beside.exists():
                targets.append(int(line) if line.isdecimal() else line)
            else:
                found = beside.exists() or glob.has_magic(line) and glob.glob(str(beside), recursive=True)
                targets += _files(str(beside) if found else line)
        except UserError as error:
            wrong.append(f"{path}, line {number}: {error}")
    if not targets:
        raise UserError(wrong[0] if wrong else f"{path}: this list is empty")
    for line in wrong:
        print(f"{line}; passed over", file=sys.stderr)
    return targets


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _frames(target: str | int, streams: list[LiveFrames]) -> Iterator[Frame]:
    """The frames of one file, address or camera; what is live goes into `streams`. Raises `UserError` when it has none."""
    if isinstance(target, int) or _is_address(target):
        yield from _live(target, streams)
    elif _suffix(target) in VIDEO_SUFFIXES:
        yield from _video(target)
    else:
        image = read_image(target)
        yield Frame(image, target, None, SourceInfo("picture"))


def _video(path: str) -> Iterator[Frame]:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise UnreadableImage(path, f"cannot be read ({error.strerror})") from None
    capture = open_capture(path)
    if not capture.isOpened():
        capture.release()
        raise UnreadableImage(path, "is not a video OpenCV can read")
    yield from _numbered(read_frames(capture), path, "video", frame_rate(capture), frame_count(capture))


def _live(target: str | int, streams: list[LiveFrames]) -> Iterator[Frame]:
    """A stream or camera, live; an address that has an end (a file behind http) is read frame by frame."""
    name = f"camera {target}" if isinstance(target, int) else target
    capture = open_capture(target)
    count = frame_count(capture) if capture.isOpened() and not isinstance(target, int) else None
    if count:
        yield from _numbered(read_frames(capture), name, "video", frame_rate(capture), count)
        return
    live = LiveFrames(target, capture=capture)
    streams.append(live)
    try:
        yield from _numbered(iter(live), name, "stream", live.fps, None)
    finally:
        live.close()


def _numbered(images: Iterator[np.ndarray], path: str, kind: str, fps: float, count: int | None) -> Iterator[Frame]:
    info, index = SourceInfo(kind, fps, count), None
    for index, image in enumerate(images):
        yield Frame(image, path, index, info)
    if index is None:
        raise UnreadableImage(path, "has no frame that can be read")
