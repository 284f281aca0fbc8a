"""Where a run writes: `runs/train/exp`, `exp2`, `exp3` ... No torch."""

import contextlib
import itertools
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graftdet.utils.errors import UserError


def new_run_folder(project: str | Path, name: str = "exp", exist_ok: bool = False) -> Path:
    """Make and return PROJECT/NAME; a name that exists gets a number from 2 on, unless `exist_ok`.

    Two runs that start together get different folders. Raises `UserError` when it cannot be made.
    """
    project = Path(project)
    check_run_name(name)
    for number in itertools.count(1):
        folder = project / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
            return folder
        except FileExistsError:
            if exist_ok or not os.path.lexists(folder):  # it is a file, or one above it is
                what = folder if os.path.lexists(folder) else project
                raise UserError(f"{what}: is a file, expected a folder to write into") from None
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --project") from None
    raise AssertionError("the numbers never end")


def check_run_name(name: str) -> None:
    """Raise `UserError` when `name` is none for a folder below --project: before the work rather than after it."""
    if not Path(name).parts or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"--name '{name}': expected the name of a folder below --project")


def cache_folder() -> Path:
    """The user's cache folder for this project: $GRAFTDET_CACHE, else the platform's, else, where there is no home or
    nothing can be written into it, a temporary one."""
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
    return Path(tempfile.gettempdir()) / "graftdet"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` under a temporary name and move it to `path`, so that no reader sees half a file."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(8)}")
        with open(beside, "xb") as file:
            temporary = beside  # ours to take away again
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Whatever the system refuses inside (no room, no permission, a file where a folder belongs) is a `UserError` that
    names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
