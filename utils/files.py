"""Run folders, the cache folder, and files that are written completely or not at all. No torch."""

import contextlib
import errno
import functools
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.limits import MAX_FILE, MAX_LABELS, limit

PathType = TypeVar("PathType", str, Path)


def new_run_folder(project: str | Path, name: str = "exp", exist_ok: bool = False) -> Path:
    """Create and return PROJECT/NAME. If it exists, a number is appended: exp, exp2, exp3 ...

    Runs that start at the same time get different folders.

    Args:
        project: Folder of runs; created if missing.
        name: Folder name below `project`.
        exist_ok: Return an existing folder instead of appending a number.

    Raises:
        UserError: If `name` is not a folder name below `project`, or the folder cannot be created.
    """
    project = Path(project)
    check_run_name(name)
    for number in itertools.count(1):
        folder = project / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
            return folder
        except FileExistsError:
            if exist_ok or not os.path.lexists(folder):  # the folder, or one of its parents, is a file
                file = folder if os.path.lexists(folder) else project
                raise UserError(f"{file}: is a file, expected a folder to write into") from None
        except OSError as error:
            raise UserError(f"{folder}: cannot be created ({error.strerror}); choose another --project") from None
    raise AssertionError("unreachable: the count has no end")


def check_run_name(name: str) -> None:
    """Raise `UserError` if `name` is not a folder name below --project. Called before the work starts."""
    if not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"--name '{name}': expected a folder name below --project")


def newest_run_file(project: str | Path, name: str) -> Path | None:
    """Return the most recently changed file `name`, such as "weights/last.pt", of all runs below `project`, if any."""
    found = sorted(Path(project).glob(f"**/{name}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def spread_sample(paths: Sequence[PathType], limit: int) -> list[PathType]:
    """Return at most `limit` of the paths, spread evenly over the list, in its order."""
    count = min(len(paths), limit)
    return [paths[index * len(paths) // count] for index in range(count)]


def regular_file(path: str, flags: int) -> int:
    """The `opener` of `open` for files that may come from strangers: opens regular files only.

    Opening a pipe would wait for its other end, and reading a device may never end.

    Raises:
        OSError: it is a folder, a pipe, a device or a socket, or cannot be opened.
    """
    if stat.S_ISREG(os.stat(path).st_mode):
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0), 0o666)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # still: it may have been replaced
            return descriptor
        os.close(descriptor)
    elif os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "is not a regular file", path)


def read_regular_file(path: str | Path, most: int = MAX_FILE) -> bytes:
    """The content of a regular file.

    Args:
        path: The file.
        most: Bytes that are read; `--allow-large` raises this limit.

    Raises:
        OSError: It is larger, or of any other kind, see `regular_file`.
    """
    with open(path, "rb", opener=regular_file) as file:
        check_size(os.fstat(file.fileno()).st_size, path, most)
        return file.read()


def check_size(size: int, path: str | Path, most: int) -> None:
    """Raise `OSError` if a file of `size` bytes has more than `most`, a limit that `--allow-large` raises."""
    if size > limit(most):
        reason = f"has {size} bytes, more than {limit(most)}; --allow-large reads larger files"
        raise OSError(errno.EFBIG, reason, str(path))


LFS_POINTER = "is a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"
"""What is reported of a file that `is_lfs_pointer`, after its path."""


def is_lfs_pointer(start: bytes) -> bool:
    """Whether a file that starts with these bytes is what Git leaves in place of a file in Git LFS."""
    return start.lstrip(b"\xef\xbb\xbf").startswith(b"version https://git-lfs.github.com/spec/")


def refuse_lfs_pointer(path: str | Path, start: bytes) -> None:
    """Raise `UserError` if the file at `path`, which starts with these bytes, is a Git LFS pointer."""
    if is_lfs_pointer(start):
        raise UserError(f"{path}: {LFS_POINTER}")


def refuse_lfs_file(path: str | Path) -> None:
    """As `refuse_lfs_pointer`, for a file that is not open. One that cannot be opened is reported where it is read."""
    with contextlib.suppress(OSError), open(path, "rb", opener=regular_file) as file:
        refuse_lfs_pointer(path, file.read(64))


def cache_folder() -> Path:
    """Return the user's cache folder for this project.

    $GRAFTDET_CACHE if set, else the cache folder of the platform, else (no home, or not writable) a temporary folder
    that nobody else can write into.
    """
    if os.environ.get("GRAFTDET_CACHE"):
        return Path(os.environ["GRAFTDET_CACHE"]).expanduser()
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir())
    base = {
        "win32": os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local",
        "darwin": home / "Library" / "Caches",
    }.get(sys.platform, os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    folder = Path(base) / "graftdet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return _private_temporary_folder()


@functools.cache
def _private_temporary_folder() -> Path:
    """A folder of this user alone in the shared temporary folder; a new one where its name is taken by another user."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"graftdet-{user}"
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        status = os.lstat(folder)
        is_own = sys.platform == "win32" or (status.st_uid == user and not status.st_mode & 0o077)
        if stat.S_ISDIR(status.st_mode) and is_own:
            return folder
    try:
        return Path(tempfile.mkdtemp(prefix="graftdet-"))
    except OSError:  # reported where something is written
        return folder


@contextlib.contextmanager
def atomic_file(path: str | Path, sync: bool = False, copy_mode: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file for writing; it replaces `path` when the block ends without an error.

    Readers see the old file or the new one, never an incomplete one.

    Args:
        path: File to write; its folder is created if missing.
        sync: Flush the data to the disk before the file is replaced.
        copy_mode: Give the new file the permissions of the one that it replaces.

    Raises:
        UserError: If the system refuses any of it (also inside the block); names `path`.
    """
    path, temporary = Path(path), None
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        candidate = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}")
        try:
            with open(candidate, "x+b") as file:
                temporary = candidate  # created here, so it is removed here
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            if copy_mode and path.exists():
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        finally:
            if temporary:
                temporary.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes | str, sync: bool = False) -> None:
    """Write `data` (text as UTF-8) to `path` through `atomic_file`; with `sync` it is on the disk before.

    Raises:
        UserError: If it cannot be written.
    """
    with atomic_file(path, sync) as file:
        file.write(data.encode() if isinstance(data, str) else data)


_TEMPORARY = re.compile(r"\..+-[0-9a-f]{16}|run\.lock-[0-9a-f]{16}|\.[^.]+\.previous\.pt")


def remove_temporary_files(*folders: str | Path, age: float = 0) -> None:
    """Remove what `atomic_file` and others leave in folders when their process is killed.

    Args:
        folders: Their own files only; they may not exist. No other process may write into them, unless an age is given.
        age: Seconds since the last change of a file.
    """
    for folder in map(Path, folders):
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                status = path.lstat()
                is_old = stat.S_ISREG(status.st_mode) and status.st_mtime <= time.time() - age
                if is_old and _TEMPORARY.fullmatch(path.name):
                    path.unlink()


def read_cached_json(path: Path) -> Any:
    """Return the content of a JSON file in the cache folder; None where it is missing or malformed."""
    try:
        return json.loads(read_regular_file(path, MAX_LABELS))
    except (OSError, ValueError, RecursionError):
        return None


def write_cached_json(path: Path, content: Any) -> None:
    """Write such a file; nothing is written where the cache folder cannot be written."""
    with contextlib.suppress(UserError):
        write_atomically(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turn any `OSError` inside the block (disk full, no permission, ...) into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None


LITTER = frozenset(
    (
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "recycler",
    )
)


def is_litter(name: str) -> bool:
    """Return whether a file is no part of a dataset: hidden, or of an archiver, notebook, office program or NAS."""
    return name.startswith((".", "~$")) or name.lower() in LITTER
