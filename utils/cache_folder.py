"""Where what can be made again is kept."""

import os
import sys
import tempfile
from pathlib import Path


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
