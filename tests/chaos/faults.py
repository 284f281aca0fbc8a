"""What happens to a training: signals at exact points, a full disk, a folder that becomes read-only."""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CALLS = ("replace", "fsync", "link", "unlink")  # functions of `os` at which a process receives a signal


def signal_at(function: str, call_number: int, after: bool, number: int = signal.SIGKILL) -> Callable[[], None]:
    """What sends a signal to the process in which it is called before, or after, a call of a function of `os`.

    Args:
        function: One of `CALLS`.
        call_number: Which call, from 0.
        after: After the call instead of before it.
        number: The signal.
    """

    def prepare() -> None:
        original, count = getattr(os, function), 0

        def call(*arguments, **keywords):
            nonlocal count
            is_last, count = count == call_number, count + 1
            if is_last and not after:
                os.kill(os.getpid(), number)
            result = original(*arguments, **keywords)
            if is_last and after:
                os.kill(os.getpid(), number)
            return result

        setattr(os, function, call)

    return prepare


def can_mount(folder: Path) -> bool:
    """Whether this process may mount file systems, tried at a new folder."""
    folder.mkdir()
    done = _mount("-t", "tmpfs", "tmpfs", str(folder))
    if done:
        subprocess.run(["umount", str(folder)], check=True)
    return done


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Callable[[], None]]:
    """Mount a file system of this size at a new folder; what is given frees space."""
    folder.mkdir(parents=True)
    assert _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))

    def enlarge() -> None:
        assert _mount("-o", "remount,size=256m", str(folder))

    try:
        yield enlarge
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def limited_files(kilobytes: int) -> Iterator[Callable[[], None]]:
    """What limits the size of files of the process in which it is called; for systems where nothing can be mounted."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, resource.RLIM_INFINITY))

    yield prepare


def make_read_only(folder: Path, mounted: bool) -> bool:
    """Refuse all further writing below a folder; whether it succeeded within ten seconds.

    Args:
        folder: The folder.
        mounted: Whether a file system is mounted there; otherwise its permissions change.
    """
    if not mounted:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o555)
        return True
    end = time.monotonic() + 10
    while not _mount("-o", "remount,ro", str(folder)):  # a file is being written
        if time.monotonic() > end:
            return False
    return True


def make_writable(folder: Path, mounted: bool) -> None:
    """Undo `make_read_only`."""
    if mounted:
        assert _mount("-o", "remount,rw", str(folder))
        return
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0
    except OSError:
        return False
