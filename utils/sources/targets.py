"""What `--source` may be: the files, addresses, cameras and screens that a text stands for."""

import glob
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.files import is_litter, read_regular_file
from graftdet.utils.images.io import IMAGE_SUFFIXES, RARE_SUFFIXES, VIDEO_SUFFIXES
from graftdet.utils.sources.animation import ANIMATION_SUFFIXES
from graftdet.utils.sources.screen import is_screen
from graftdet.utils.text import counted, decode_unicode
from graftdet.utils.untrusted.limits import MAX_LIST

logger = logging.getLogger(__name__)
MAX_WARNINGS = 20  # about lines of a list
MAX_DIGITS = 4  # of the number of a camera

_SUFFIXES = IMAGE_SUFFIXES | RARE_SUFFIXES | VIDEO_SUFFIXES | ANIMATION_SUFFIXES
SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "tcp", "udp", "rtp")


def find_targets(text: str) -> list[str | int]:
    """The targets of one value."""
    if not text.strip():
        raise UserError("--source: is empty; expected an image, video, folder, pattern, list, address or camera number")
    if is_address(text):
        return [text]
    path = _expanded(text)
    if _is_camera(text) and not path.exists():
        return [int(text)]
    if is_screen(text) and not path.exists():
        return [text]
    if path.is_file() and path.suffix.lower() in (".txt", ".streams"):
        return without_duplicates(_read_list(path))
    return [*_find_files(text)]


def is_live(target: str | int) -> bool:
    """Whether a target is a camera, an address or the screen; an address may turn out to be a file."""
    return isinstance(target, int) or is_screen(target) or is_address(target)


def _is_camera(text: str) -> bool:
    return text.isdecimal() and len(text) <= MAX_DIGITS


def join_screen(texts: list[str]) -> list[str]:
    """The values of `--source screen 0 100 100 640 480` as one text; others unchanged."""
    if texts and texts[0] == "screen" and all(text.lstrip("-").isdecimal() for text in texts[1:]):
        return [" ".join(texts)]
    return texts


def without_duplicates(targets: Iterable[str | int]) -> list[str | int]:
    """`targets` without repetitions, even if a path is written differently."""
    unique = {}
    for target in targets:
        key = target if isinstance(target, int) or is_live(target) else os.path.abspath(target)
        unique.setdefault(key, target)
    return list(unique.values())


def is_address(text: str) -> bool:
    """Whether a target is the address of a stream or a file. Raises `UserError` for an unknown kind of address."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if match and match[1].lower() not in SCHEMES:
        hint = did_you_mean(match[1], SCHEMES)
        raise UserError(f"{text}: unknown kind of address '{match[1]}'{hint or '; known: ' + ', '.join(SCHEMES)}")
    return bool(match)


def _expanded(text: str) -> Path:
    """A path without `~`. Raises `UserError` where the system knows no such path."""
    try:
        path = Path(text).expanduser()
        path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL, no such user
        raise UserError(f"{text:.100}: is not a path ({getattr(error, 'strerror', None) or error})") from None
    return path


def _matches(pattern: str) -> list[str]:
    """The paths of a pattern. `**/**` means the same as `**`, but takes exponential time."""
    return glob.glob(re.sub(r"(?:\*\*/)+", "**/", pattern), recursive=True)


def _find_files(text: str) -> list[str]:
    """The image and video files of a path or pattern, sorted."""
    path = _expanded(text)
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        found = [str(entry) for entry in path.iterdir() if not entry.is_dir() and not is_litter(entry.name)]
        what = f"{text}: this folder has"
    elif glob.has_magic(text):
        found = [entry for entry in _matches(str(path)) if not os.path.isdir(entry)]
        found = [entry for entry in found if not any(map(is_litter, set(Path(entry).parts) - set(path.parts)))]
        what = f"{text}: this pattern matches"
    elif path.exists():
        raise UserError(f"{text}: is not a regular file, expected an image, a video, a list or a folder")
    else:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"{text}: no such file or folder{did_you_mean(path.name, siblings)}")
    known = sorted(entry for entry in found if suffix_of(entry) in _SUFFIXES)
    if not known:
        kinds = ", none of a known kind (.jpg, .png, .mp4, ...)" if found else ""
        nested = path.is_dir() and any(entry.is_dir() for entry in path.iterdir())
        hint = f"; subfolders are not searched, expected a pattern such as '{path}/**/*.jpg'" if nested else ""
        raise UserError(f"{what} no images or videos: {counted(len(found), 'file')}{kinds}{hint}")
    return known


def _read_list(path: Path) -> list[str | int]:
    """The targets in a list file; a line without any is skipped with a warning."""
    try:
        lines = decode_unicode(read_regular_file(path, MAX_LIST), str(path), comments=False).splitlines()
    except OSError as error:
        raise UserError(f"{path}: expected a text file with one path or address per line ({error.strerror})") from None
    targets: list[str | int] = []
    errors = []
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            if is_address(line):
                targets.append(line)
                continue
            beside_list = _expanded(str(path.parent / _expanded(line)))
            if is_screen(line) or (_is_camera(line) and not beside_list.exists()):
                targets.append(int(line) if _is_camera(line) else line)
            else:
                matches = _matches(str(beside_list)) if glob.has_magic(line) else []
                targets += _find_files(str(beside_list) if beside_list.exists() or matches else line)
        except UserError as error:
            errors.append(f"{path}, line {number}: {error}")
    if not targets:
        raise UserError(errors[0] if errors else f"{path}: this list is empty")
    for error in errors[:MAX_WARNINGS]:
        logger.warning("%s; skipped", error)
    if len(errors) > MAX_WARNINGS:
        logger.warning("%s: %s skipped", path, counted(len(errors) - MAX_WARNINGS, "further line"))
    return targets


def suffix_of(path: str) -> str:
    """The suffix of a path in lower case."""
    return Path(path).suffix.lower()
