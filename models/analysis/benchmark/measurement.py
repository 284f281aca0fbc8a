"""Speed and memory of one weights file, measured in a process of its own that does nothing else."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftdet.models.backends.loading import load_model
from graftdet.utils.environment import module_environment
from graftdet.utils.errors import UserError

WARMUP = 5
LATENCY_SECONDS = 4.0
THROUGHPUT_SECONDS = 3.0
MIN_CALLS, MAX_CALLS = 10, 200
TIMEOUT = 600  # seconds for one file


@dataclass(frozen=True)
class Measurement:
    """What one file needs.

    Attributes:
        runtime: what runs it.
        half: whether it computes in float16 or bfloat16.
        load_seconds: from the call of `load_model` to a model that can be called, import of its runtime included.
        latency_ms, p95_ms: median and 95th percentile of calls with one image, decoding of boxes included.
        cpu_ms: median CPU time of the same calls, of all threads together; changes less than the latency while other
            programs run.
        calls: number of timed calls.
        images_per_second: with batches of all images; None where the file takes no batch of that size.
        peak_megabytes: largest resident memory of the process until the end of the calls with one image, interpreter
            and runtime included; None where the system does not report it.
    """

    runtime: str
    half: bool
    load_seconds: float
    latency_ms: float
    p95_ms: float
    cpu_ms: float
    calls: int
    images_per_second: float | None
    peak_megabytes: float | None


def measure_in_process(
    file: Path, images: Path, precision: str = "float32", plugins: tuple[str, ...] = ()
) -> Measurement | None:
    """Measure a weights file in a new process.

    Args:
        file: a `.pt` or an exported file.
        images: a `.npy` file of images (B, 3, H, W) uint8 RGB, of a size that the file takes.
        precision: "float32" or "half".
        plugins: files or packages with blocks of a `.pt` file.

    Returns:
        What was measured; None where half precision has no effect.

    Raises:
        UserError: the file cannot be run, or takes longer than `TIMEOUT`.
    """
    request = {"file": str(file), "images": str(images), "precision": precision, "plugins": plugins}
    command = [sys.executable, "-P", "-m", __name__]
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": TIMEOUT, "env": module_environment()}
    try:
        done = subprocess.run(command, input=json.dumps(request), **settings)
    except subprocess.TimeoutExpired:
        raise UserError(f"{file}: the measurement was stopped after {TIMEOUT} seconds") from None
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        raise UserError(f"{file}: cannot be measured ({lines[-1]})") from None
    if answer and "error" in answer:
        raise UserError(answer["error"])
    return Measurement(**answer) if answer else None


def measure(file: str, images: np.ndarray, precision: str, plugins: tuple[str, ...]) -> Measurement | None:
    """Measure a weights file in this process. The arguments are those of `measure_in_process`, the images loaded."""
    start = time.perf_counter()
    model = load_model(file, precision=precision, plugins=plugins)
    loaded = time.perf_counter() - start
    if precision == "half" and not model.half:
        return None
    seconds, cpu_seconds = _time_calls(model, images[:1], LATENCY_SECONDS)
    peak = peak_megabytes()
    throughput = None
    if getattr(model, "fixed_batch", None) in (None, len(images)):
        try:
            throughput = len(images) / statistics.median(_time_calls(model, images, THROUGHPUT_SECONDS)[0])
        except UserError:
            throughput = None  # a runtime that takes single images only
    return Measurement(
        runtime=model.backend,
        half=model.half,
        load_seconds=loaded,
        latency_ms=1e3 * statistics.median(seconds),
        p95_ms=1e3 * float(np.percentile(seconds, 95)),
        cpu_ms=1e3 * statistics.median(cpu_seconds),
        calls=len(seconds),
        images_per_second=throughput,
        peak_megabytes=peak,
    )


def peak_megabytes() -> float | None:
    """The largest resident memory of this process so far [MB].

    Linux passes the peak of getrusage on from the process that started this one, so /proc is read there.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def _time_calls(model: Any, images: np.ndarray, limit: float) -> tuple[list[float], list[float]]:
    """Seconds, and seconds of CPU time, per call with images (B, 3, H, W)."""
    for _ in range(WARMUP):
        model.forward(images)
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while len(seconds) < MIN_CALLS or (sum(seconds) < limit and len(seconds) < MAX_CALLS):
        start, cpu_start = time.perf_counter(), time.process_time()
        model.forward(images)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return seconds, cpu_seconds


def main() -> None:
    """Measure what the JSON on standard input asks for; the last line of the output is the answer as JSON."""
    request = json.load(sys.stdin)
    images = np.load(request["images"])
    try:
        measured = measure(request["file"], images, request["precision"], tuple(request["plugins"]))
        answer = asdict(measured) if measured else None
    except UserError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # a runtime that fails while it is unloaded does not spoil the measurement


if __name__ == "__main__":
    main()
