"""A lock in the folder of a run, so that no two processes write it. Locks of ended processes are taken over."""

import atexit
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from graftdet.utils.errors import UserError
from graftdet.utils.files import write_errors

logger = logging.getLogger(__name__)
FILE_NAME = "run.lock"
HEARTBEAT = 60.0  # seconds between two signs of life, for processes on other machines
SILENCE = 10 * HEARTBEAT  # after which a process on another machine counts as ended


@dataclass(frozen=True)
class Owner:
    """The process that writes a run.

    Attributes:
        pid: process id.
        host: name of its machine.
        started: start of the process in clock ticks since boot, as ids are used again; 0 where it is not known.
    """

    pid: int
    host: str
    started: int = 0

    @classmethod
    def this_process(cls) -> "Owner":
        """The owner that this process is."""
        return cls(os.getpid(), socket.gethostname(), _start_time(os.getpid()))

    def is_running(self, last_sign: float) -> bool:
        """Whether the process still runs.

        Args:
            last_sign: time of its last sign of life, as `time.time()`; all that is known of other machines.
        """
        if self.host != socket.gethostname():
            return time.time() - last_sign < SILENCE
        return _exists(self.pid) and self.started in (0, _start_time(self.pid))


class RunLock:
    """The lock of a run's folder.

    Args:
        folder: folder of the run.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder) / FILE_NAME
        self._released = threading.Event()

    def acquire(self) -> None:
        """Lock the folder until `release` or the end of this process.

        Raises:
            UserError: another process that still runs writes this run.
        """
        content = json.dumps(asdict(Owner.this_process()))
        for _ in range(10):
            check_not_running(self.path.parent)
            self._remove_outdated()
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                continue
            except OSError as error:
                raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
            with write_errors(self.path), open(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
            atexit.register(self.release)
            threading.Thread(target=self._show_life, name="run lock", daemon=True).start()
            return
        raise UserError(f"{self.path}: cannot be taken over; remove it if no process writes this run")

    def release(self) -> None:
        """Remove the lock. Without effect if it is not this process's."""
        self._released.set()
        atexit.unregister(self.release)
        owner = read_owner(self.path)
        if owner == Owner.this_process():
            self.path.unlink(missing_ok=True)

    def _remove_outdated(self) -> None:
        """Remove the lock of a process that has ended; not that of one that has taken it over in this moment."""
        if _is_being_written(self.path):
            time.sleep(0.2)
            return
        aside = self.path.with_name(f"{FILE_NAME}-{secrets.token_hex(8)}")
        try:
            os.rename(self.path, aside)
        except OSError:
            return
        owner = read_owner(aside)
        if owner and owner != Owner.this_process():
            if owner.is_running(aside.stat().st_mtime):
                os.replace(aside, self.path)
                return
            logger.info("%s: process %d on %s has ended; its lock is taken over", self.path, owner.pid, owner.host)
        if aside.is_dir():
            os.rename(aside, self.path)
            raise UserError(f"{self.path}: is a folder, expected a file; remove it if no process writes this run")
        aside.unlink(missing_ok=True)

    def _show_life(self) -> None:
        while not self._released.wait(HEARTBEAT):
            try:
                os.utime(self.path)
            except OSError:  # the folder was removed or moved
                return


def _is_being_written(path: Path) -> bool:
    """Whether a lock is empty and new: another process has created it and writes its content in this moment."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_size == 0 and abs(time.time() - status.st_mtime) < 1


def check_not_running(folder: str | Path) -> None:
    """Raise `UserError` if another process that still runs writes the run in this folder."""
    path = Path(folder) / FILE_NAME
    owner = read_owner(path)
    if owner is None or owner == Owner.this_process():
        return
    try:
        last_sign = path.stat().st_mtime
    except OSError:
        return
    if owner.is_running(last_sign):
        raise UserError(
            f"{folder}: this run is still being written by process {owner.pid} on {owner.host}; stop it or wait for "
            "its end"
        )


def read_owner(path: str | Path) -> Owner | None:
    """The owner of a lock; None where there is no lock, or a malformed one."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        owner = Owner(int(values["pid"]), str(values["host"]), int(values.get("started", 0)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return owner if 0 < owner.pid < 1 << 32 else None


def _exists(pid: int) -> bool:
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # more than the system's largest id
        return False
    except PermissionError:
        return True  # of another user
    return True


def _start_time(pid: int) -> int:
    """Start of a process in clock ticks since boot; 0 where the system does not report it (only Linux does)."""
    try:
        return int(
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
        )
    except (OSError, ValueError, IndexError):
        return 0
