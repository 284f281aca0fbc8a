"""The first opening of an exported file: in a process of its own, with limits of memory and time.

Runtimes allocate and compute whatever a file asks for, and some crash on malformed files. What no header shows, a trial
does: the file is opened and run once where that harms nothing. Files that passed are remembered in the cache folder by
their digest, so the next opening starts no process. Memory is limited on Linux only.
"""

import contextlib
import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends import BACKENDS, Backend
from graftdet.utils.environment import module_environment
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder, regular_file, write_cached_json
from graftdet.utils.untrusted.limits import is_large_allowed

MEMORY = 1_200_000_000  # bytes, interpreter and runtime included, beside what the size of file and input adds
MEMORY_PER_BYTE = 4  # of the file
MEMORY_PER_NUMBER = 128  # of the input: maps of yolov5x have 80 float32 per number of an image, some exist at once
SECONDS = 10.0
SECONDS_PER_BYTE = 1e-7
SECONDS_PER_NUMBER = 5e-7
_MAX_NUMBERS = 2**26  # of an input
_DYNAMIC_SIDE = 256
_DATA_SUFFIXES = (".data", "_data", ".weights")


def try_out(path: str | Path, backend: Backend) -> None:
    """Open and run an exported file in a process of its own, unless it passed before or `--allow-large` is given.

    Args:
        path: the file.
        backend: what will run it.

    Raises:
        UserError: it cannot be opened or run there, for the same reason as it could not be here, or because it crashes,
            takes too much memory or too long.
    """
    path = Path(path)
    passed = None if is_large_allowed() else _record(path, backend)
    if passed is None or passed.is_file():
        return
    size = _size(path, backend)
    seconds = SECONDS + SECONDS_PER_BYTE * size
    command = [sys.executable, "-P", "-m", __name__, _name(backend), str(path), str(MEMORY + MEMORY_PER_BYTE * size)]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**module_environment(), **single},
    )
    try:
        output = _read(process, seconds)
    except subprocess.TimeoutExpired:
        raise UserError(f"{path}: opening and running it takes more than {seconds:.0f} seconds; {_HINT}") from None
    finally:
        process.kill()
        process.wait()
    if output is None:
        raise UserError(f"{path}: {backend.package} crashes on it ({_ending(process.returncode)}); {_HINT}")
    if output:
        raise UserError(output)
    write_cached_json(passed, {"file": path.name})


def remember(path: str | Path, backend: Backend) -> None:
    """Remember that a file, such as one that was just exported and run, needs no trial."""
    if (passed := _record(Path(path), backend)) is not None:
        write_cached_json(passed, {"file": Path(path).name})


_HINT = "is it damaged? --allow-large opens it without limits"


def _read(process: subprocess.Popen, seconds: float) -> str | None:
    """What the process reports: "" where the file passed, what is wrong with it, None where the process crashed.

    The first line states the numbers of the input, for which it may take longer.
    """
    assert process.stdout is not None
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        numbers = (error.output or b"").partition(b"\n")[0]
        extra = SECONDS_PER_NUMBER * min(int(numbers), _MAX_NUMBERS) if numbers.isdigit() else 0
        if extra < 1:
            raise
        output, _ = process.communicate(timeout=extra)
    with contextlib.suppress(ValueError):
        problem = json.loads(output.splitlines()[-1] if output else b"")
        return problem if isinstance(problem, str) else None
    return None


def _ending(status: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"status {status}"


def _name(backend: Backend) -> str:
    return next(name for name, one in BACKENDS.items() if one is backend)


def _size(path: Path, backend: Backend) -> int:
    files = [*backend.files(path), *(path.with_name(path.name + suffix) for suffix in _DATA_SUFFIXES)]
    return sum(file.stat().st_size for file in files if file.is_file())


def _record(path: Path, backend: Backend) -> Path | None:
    """Where it is remembered that a file passed; None where it cannot be read, which its reader reports."""
    digest = hashlib.sha256(f"{_name(backend)} {_version(backend.package)}".encode())
    files = backend.files(path)
    try:
        for file in files:
            with open(file, "rb", opener=regular_file) as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    except OSError:
        return None
    return cache_folder() / "tried" / f"{digest.hexdigest()}.json" if files else None


@functools.cache
def _version(package: str) -> str:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return "unknown"


def _limit_memory(allowed: int) -> None:
    """Limit the memory of this process, as far as the system does."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _run_once(model: Any, allowed: int) -> None:
    """Run a file with an input of its own size, or of a small one."""
    side = -(-_DYNAMIC_SIDE // model.stride) * model.stride
    images = np.zeros((model.fixed_batch or 1, model.channels, *(model.fixed_size or (side, side))), np.uint8)
    print(images.size, flush=True)
    _limit_memory(allowed + MEMORY_PER_NUMBER * min(images.size, _MAX_NUMBERS))
    model.predictions(images)


def _main() -> None:
    name, path, allowed = sys.argv[1:]
    _limit_memory(int(allowed))
    problem = ""
    try:
        _run_once(BACKENDS[name].load(path), int(allowed))
    except UserError as error:
        problem = str(error)
    except MemoryError:
        problem = f"{path}: takes more memory than a file of its size should; {_HINT}"
    print(json.dumps(problem), flush=True)
    os._exit(0)  # runtimes may crash where they are freed


if __name__ == "__main__":
    _main()
