"""The first opening of an exported file: in a process of its own, with limits of memory and time.

Runtimes allocate and compute whatever a file asks for, and some crash on malformed files. What no header shows, a trial
does: the file is opened and run once where that harms nothing. Files that passed are remembered in the cache folder by
their digest, so the next opening starts no process. Memory is limited on Linux only, processor time where the system
has `resource`; elsewhere, and for a process that waits for ever, the clock decides.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from graftdet.models.backends import BACKENDS, Backend
from graftdet.utils.environment import module_environment
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder, regular_file, write_cached_json
from graftdet.utils.untrusted.limits import MAX_FILE, is_large_allowed

MEMORY = 1_200_000_000  # bytes, interpreter and runtime included, beside what the size of file and input adds
MEMORY_PER_BYTE = 4  # of the file
MEMORY_PER_NUMBER = 128  # of the input: maps of yolov5x have 80 float32 per number of an image, some exist at once
SECONDS = 10.0  # of processor time
SECONDS_PER_START = 15.0  # of what the start of the process takes, on slow processors
SECONDS_PER_BYTE = 1e-7  # of the file
SECONDS_PER_NUMBER = 5e-7  # of the input
CLOCK_SECONDS = 45.0  # beside twice the processor time: slow disks, other processes
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
    if is_large_allowed():
        return
    size = _size(path, backend)
    if size > MAX_FILE:
        raise UserError(f"{path}: has {size} bytes, more than {MAX_FILE}; --allow-large opens it without limits")
    passed = _record(path, backend)
    if passed is None or passed.is_file():
        return
    seconds = SECONDS + SECONDS_PER_BYTE * size
    limits = [str(MEMORY + MEMORY_PER_BYTE * size), str(seconds)]
    command = [sys.executable, "-P", "-m", __name__, _name(backend), str(path), *limits]
    single = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**module_environment(), **single},
    )
    late = UserError(f"{path}: opening and running it takes more than {seconds:.0f} seconds; {_HINT}")
    try:
        output = _problem(process.communicate(timeout=CLOCK_SECONDS + 2 * seconds)[0])
    except subprocess.TimeoutExpired:
        raise late from None
    finally:
        process.kill()
        process.wait()
    if _ending(process.returncode) == "SIGXCPU":  # out of processor time
        raise late
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


def _problem(output: bytes) -> str | None:
    """What the process reports: "" where the file passed, what is wrong with it, None where the process crashed."""
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


def _limit(memory: int, seconds: float) -> None:
    """Limit the memory of this process and its processor time from now on, as far as the system does."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        for kind, value in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_DATA, memory),
            (resource.RLIMIT_CPU, math.ceil(time.process_time() + seconds)),
        ):
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def _run_once(name: str, path: str, memory: int, seconds: float) -> None:
    """Open a file and run it with an input of its own size, or of a small one."""
    seconds = max(seconds, SECONDS_PER_START * time.process_time())
    _limit(memory, seconds)
    model = BACKENDS[name].load(path)
    side = -(-_DYNAMIC_SIDE // model.stride) * model.stride
    images = np.zeros((model.fixed_batch or 1, model.channels, *(model.fixed_size or (side, side))), np.uint8)
    numbers = min(images.size, _MAX_NUMBERS)
    _limit(memory + MEMORY_PER_NUMBER * numbers, seconds + SECONDS_PER_NUMBER * numbers)
    model.predictions(images)


def _main() -> None:
    name, path, memory, seconds = sys.argv[1:]
    problem = ""
    try:
        _run_once(name, path, int(memory), float(seconds))
    except UserError as error:
        problem = str(error)
    except MemoryError:
        problem = f"{path}: takes more memory than a file of its size should; {_HINT}"
    print(json.dumps(problem), flush=True)
    os._exit(0)  # runtimes may crash where they are freed


if __name__ == "__main__":
    _main()
