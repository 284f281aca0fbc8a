"""Where the cached export of a `.pt` file is: `exported/NAME-KEY.onnx`, and what is known about it in `NAME-KEY.json`.

The folder `exported` is beside the weights, or in the user's cache folder where they or their folder are read-only or
they come with GraftDet. KEY is a hash of the weights and of the code that builds them, so that neither replaced weights
nor changed blocks run in an old export.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from graftdet.models.weights.pretrained.files import find_weights, is_pretrained
from graftdet.utils.errors import UserError, missing_weights
from graftdet.utils.files import (
    cache_folder,
    check_size,
    read_regular_file,
    regular_file,
    remove_temporary_files,
    write_atomically,
)
from graftdet.utils.untrusted.limits import MAX_WEIGHTS

_MODELS = Path(__file__).parents[2]


def export_path(weights: Path, plugins: Iterable[str] = ()) -> Path:
    """The path of the cached .onnx of `weights`, which need not exist.

    Args:
        weights: a `.pt` or `.safetensors` file, or the name of a file in `configs/weights`.
        plugins: the plugins that it needs, already loaded.

    Raises:
        UserError: the weights cannot be read.
    """
    weights = find_weights(weights)
    name = f"{weights.stem}-{cache_key(weights, plugins)}.onnx"
    parent = weights.absolute().parent
    folder = parent / "exported"
    writable = _is_writable(weights) and _is_writable(folder if folder.exists() else parent)
    if (folder / name).is_file() or (writable and not is_pretrained(weights)):
        return folder / name
    return cache_folder() / "exported" / hashlib.sha256(os.fsencode(parent)).hexdigest()[:16] / name


def _is_writable(path: Path) -> bool:
    """Whether a file or folder is writable, also by its mode: an administrator may write everything."""
    try:
        return os.access(path, os.W_OK) and bool(path.stat().st_mode & 0o222)
    except OSError:
        return False


def cache_key(weights: Path, plugins: Iterable[str] = ()) -> str:
    """A hash of the weights, of all code below `models` and of the plugins' code. Raises `UserError`."""
    digest = hashlib.sha256()
    for folder in (_MODELS, *map(_plugin_folder, plugins)):
        pattern = "**/*.py" if (folder / "__init__.py").is_file() else "*.py"
        for source in sorted(folder.glob(pattern)):
            digest.update(source.read_bytes())
    try:
        with open(weights, "rb", opener=regular_file) as file:
            check_size(os.fstat(file.fileno()).st_size, weights, MAX_WEIGHTS)
            digest.update(hashlib.file_digest(file, "sha256").digest())
    except FileNotFoundError:
        raise missing_weights(weights) from None
    except OSError as error:
        raise UserError(f"{weights}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()[:16]


def _plugin_folder(plugin: str) -> Path:
    """The folder of the code of one value of --plugins, which is already loaded."""
    path = Path(plugin)
    if path.suffix == ".py" or path.is_dir():
        return path.parent if path.suffix == ".py" else path
    spec = importlib.util.find_spec(plugin)
    return Path(spec.origin).parent if spec.origin else Path(spec.submodule_search_locations[0])  # no __init__.py


def read_notes(path: Path) -> dict:
    """What is known about the export at `path`; {} where nothing is, or the notes are malformed.

    Keys: `runtimes` (processor and versions), and `verified` (list of backends that reproduce the model) with `sha256`
    of the file, or `failed` (why there is no export).
    """
    try:
        notes = json.loads(read_regular_file(path.with_suffix(".json")))
    except (OSError, ValueError):
        return {}
    valid = isinstance(notes, dict) and ("failed" in notes or isinstance(notes.get("verified"), list))
    return notes if valid else {}


def notes_time(path: Path) -> float:
    """When the notes about the export at `path` were written, as `time.time()`; 0 where there are none."""
    try:
        return path.with_suffix(".json").stat().st_mtime
    except OSError:
        return 0.0


def file_hash(path: Path) -> str | None:
    """SHA-256 of a file; None where it cannot be read."""
    try:
        with open(path, "rb", opener=regular_file) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def write_notes(path: Path, notes: dict) -> None:
    """Write what is known about the export at `path`. Raises `UserError`."""
    write_atomically(path.with_suffix(".json"), json.dumps(notes, indent=1).encode())


def remove_outdated(path: Path, stem: str) -> None:
    """Remove exports of earlier weights of the same name from the folder of `path`."""
    remove_temporary_files(path.parent, age=3600)
    for other in path.parent.iterdir() if path.parent.is_dir() else ():
        if re.fullmatch(re.escape(stem) + r"-[0-9a-f]{16}\.(onnx|json)", other.name):
            with contextlib.suppress(OSError):  # another process may run it
                other.unlink()
