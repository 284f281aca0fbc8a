"""Training and inference on a GPU: images per second, parts of a step, precision, CUDA graphs, compilation, AP, memory.

Takes less than five minutes; what does not fit is reported as skipped. Without a GPU nothing is measured.
"""

import argparse
import copy
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import training
from benchmarks.table import ROOT, Table, parser, time_alternately
from graftdet.models import build_model
from graftdet.utils.device import select_device
from graftdet.utils.errors import first_line

SECONDS, REPEATS = 280, 10  # time for everything; timed runs of each step
SHAPES = {"cfg": "graft-n.yaml", "data": "shapes.yaml", "weights": "none", "img": 160, "epochs": 6, "batch-size": 16}
AP_DIFFERENCE = 0.05  # between the same short training on the GPU and on the CPU
HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def main() -> int:
    """Print the table; returns the exit status."""
    flags = parser("gpu", __doc__)
    flags.add_argument("--device", default="0")
    flags.add_argument("--img", type=int, default=640)
    flags.add_argument("--batch-size", type=int, default=64)
    flags.add_argument("--epochs", type=int, default=4, help="epochs of train.py; the first is not counted")
    flags.add_argument("--compiled-step", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    options = flags.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("gpu: no CUDA device is available; nothing was measured")
        return 0
    device = select_device(options.device)
    if options.compiled_step:
        print(json.dumps(compiled_step(options, device)))
        return 0
    deadline = time.monotonic() + SECONDS
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    table = Table(f"{name}: {training.MODEL} at {options.img}, batch {options.batch_size}", options.output)
    reference = rows_of_steps(table, options, device)
    rows_of_inference(table, options, device)
    rows_of_parts(table, options, device)
    for section in (row_of_compilation, rows_of_ap, row_of_training):
        left = deadline - time.monotonic()
        if left > 20:
            section(table, options, reference, left)
        else:
            table.add(section.__name__, f"skipped: less than 20 of {SECONDS} s left")
    return bool(table.short)


def rows_of_steps(table: Table, options: argparse.Namespace, device: torch.device) -> float:
    """Add rows with the training step in each precision; returns the seconds of the first, the reference."""
    images, targets = training.random_batch(options, device)
    calls, memory = {}, {}
    for what, how in {
        "float32, contiguous: the reference": {},
        "float32, channels-last": {"form": True},
        **{f"{kind}, channels-last": {"form": True, "mixed": dtype} for kind, dtype in HALF.items()},
    }.items():
        step = training.minimal_step(device, images, targets, **how)
        memory[what] = peak_memory(device, step)
        calls[what] = step
    seconds = time_alternately(list(calls.values()), REPEATS)
    for what, taken in zip(calls, seconds, strict=True):
        figure = f"{options.batch_size / taken:.0f} images/s, {memory[what]}"
        table.add(f"training step, {what}", figure, seconds[0] / taken)
    return seconds[0]


def rows_of_inference(table: Table, options: argparse.Namespace, device: torch.device) -> None:
    """Add rows with the fused model in each precision, one image and a batch, and as a CUDA graph."""
    torch.manual_seed(0)
    model = build_model(training.MODEL).eval().fuse().requires_grad_(False)
    for count in (1, options.batch_size):
        images = torch.rand(count, 3, options.img, options.img, device=device)
        calls: dict[str, Callable[[], object]] = {}
        for kind, dtype in {"float32": torch.float32, **HALF}.items():
            run = copy.deepcopy(model).to(device, dtype, memory_format=torch.channels_last)
            inputs = images.to(dtype, memory_format=torch.channels_last)
            calls[kind] = functools.partial(forward, run, inputs, device)
            if device.type == "cuda" and kind != "float32":
                try:
                    calls[f"{kind}, CUDA graph"] = graph_of(run, inputs)
                except Exception as error:  # whatever a module does that a graph cannot hold
                    table.add(f"inference of {count}, {kind}, CUDA graph", f"failed: {first_line(error)}")
        seconds = time_alternately(list(calls.values()), REPEATS)
        for what, taken in zip(calls, seconds, strict=True):
            figure = f"{1e3 * taken:.2f} ms, {count / taken:.0f} images/s"
            table.add(f"inference of {count}, {what}", figure, taken / seconds[0])


@torch.inference_mode()
def forward(model: torch.nn.Module, images: torch.Tensor, device: torch.device) -> None:
    """Run the model on images (B, 3, H, W) and wait."""
    model(images)
    training.wait(device)


def graph_of(model: torch.nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Return a call that replays a CUDA graph of the model on `images` (B, 3, H, W)."""
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # kernels are chosen and caches filled before the capture
            for _ in range(3):
                model(images)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(images)

    def replay() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return replay


def rows_of_parts(table: Table, options: argparse.Namespace, device: torch.device) -> None:
    """Add rows with the fraction of each part of the step of train.py."""
    images, targets = training.random_batch(options, device)
    for recipe in training.RECIPES:
        parts, taken = training.complete_step(recipe, device, options, images, targets)[:2]
        table.add(f"step of train.py, {recipe}", f"{options.batch_size / taken:.0f} images/s: {parts}")


def row_of_compilation(table: Table, options: argparse.Namespace, reference: float, left: float) -> None:
    """Add a row with the compiled step, in a process of its own that is ended when the time is over."""
    flags = ["--device", options.device, "--img", options.img, "--batch-size", options.batch_size, "--compiled-step"]
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, flags)]
    what = "training step, float16, channels-last, compiled"
    limit = left / 2
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        table.add(what, f"not compiled within {limit:.0f} s")
        return
    if done.returncode:
        table.add(what, f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        return
    first, taken, memory = json.loads(done.stdout.splitlines()[-1])
    figure = f"{options.batch_size / taken:.0f} images/s, {memory}, first step after {first:.0f} s"
    table.add(what, figure, reference / taken)


def compiled_step(options: argparse.Namespace, device: torch.device) -> tuple[float, float, str]:
    """Return the seconds of the first step and of later ones, and their memory."""
    images, targets = training.random_batch(options, device)
    step = training.minimal_step(device, images, targets, form=True, mixed=training.half_type(device), compiled=True)
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    return first, time_alternately([step], REPEATS)[0], peak_memory(device, step)


def rows_of_ap(table: Table, options: argparse.Namespace, reference: float, left: float) -> None:
    """Add rows with the AP of the same short training on the GPU and on the CPU."""
    scores = {}
    for device in dict.fromkeys((options.device, "cpu")):
        start = time.monotonic()
        try:
            scores[device], _ = train({**SHAPES, "device": device}, left / 2)
        except RuntimeError as error:
            table.add(f"AP50-95 of shapes, device {device}", f"failed: {first_line(error)}")
            return
        table.add(f"AP50-95 of shapes, device {device}", f"{scores[device]:.3f}, {time.monotonic() - start:.0f} s")
    difference = max(scores.values()) - min(scores.values())
    table.add("the same, difference", f"{difference:.3f}", difference, at_most=AP_DIFFERENCE)


def row_of_training(table: Table, options: argparse.Namespace, reference: float, left: float) -> None:
    """Add a row with train.py at full size: images per second with the loader, utilization and memory."""
    values = {**SHAPES, "cfg": training.MODEL, "img": options.img, "batch-size": options.batch_size}
    values |= {"epochs": options.epochs, "device": options.device}
    with training.Busy(options.device) as busy:
        try:
            _, output = train(values, left)
        except RuntimeError as error:
            table.add("train.py on shapes", f"failed: {first_line(error)}")
            return
    rate, peak = output
    notes = ", ".join([f"{rate:.0f} images/s", f"peak memory {peak}", *busy.summary()])
    table.add("train.py on shapes, loader and validation included", notes, rate * reference / options.batch_size)


def train(values: dict[str, object], seconds: float) -> tuple[float, tuple[float, str]]:
    """Run train.py.

    Args:
        values: Its flags.
        seconds: When to end it.

    Returns:
        The best AP50-95; images per second, the median of all epochs but the first, and peak memory as text.

    Raises:
        RuntimeError: If it fails or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        flags = [text for flag, value in values.items() for text in (f"--{flag}", str(value))]
        command = [sys.executable, "train.py", *flags, "--project", folder, "--name", "run"]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not finished within {seconds:.0f} s") from None
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
        rows = training.read_results(Path(folder) / "run" / "results.csv")
    scores = [float(row["val/AP50-95"]) for row in rows if row.get("val/AP50-95")]
    return max(scores, default=0.0), (training.median_rate(rows), training.printed_peak_memory(done.stdout))


def peak_memory(device: torch.device, call: Callable[[], object]) -> str:
    """Return the memory that `call` needs at most, as text; of a CPU it is not known."""
    if device.type != "cuda":
        call()
        return "memory unknown"
    torch.cuda.reset_peak_memory_stats(device)
    call()
    return f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB"


if __name__ == "__main__":
    sys.exit(main())
