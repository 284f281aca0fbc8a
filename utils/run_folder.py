"""Where a run writes: `runs/train/exp`, `exp2`, `exp3` ... No torch."""

import itertools
import os
from pathlib import Path

from .errors import UserError


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
