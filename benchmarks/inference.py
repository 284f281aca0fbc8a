"""Latency per image of all backends, compared with the fused float32 model in torch.

Also the difference of their boxes, and the time from process start to the first detection of an exported file.
"""

import copy
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.table import ROOT, Table, parser, time_alternately
from graftdet.models import DetectionModel, build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.selection.ways import installed_backends, onnx_backends
from graftdet.models.backends.verify import noise_images
from graftdet.utils.processor import cpu_flags

CFG, SIDE, BURST = "yolov5n.yaml", 640, 3
LIMITS = {"onnx": 0.7, "openvino": 0.5}  # ratio to the reference; of OpenVINO in bfloat16 on CPUs with AMX


def main() -> int:
    """Print the table; returns the exit status."""
    flags = parser("inference", __doc__)
    flags.add_argument("--compile", action="store_true", help="also time torch.compile (starts after a minute)")
    options = flags.parse_args()
    torch.manual_seed(0)
    images = noise_images(1, (SIDE, SIDE))
    model = with_statistics(build_model(CFG), torch.from_numpy(images))
    table = Table(f"inference: {CFG}, batch 1, {SIDE}x{SIDE}, {torch.get_num_threads()} threads", options.output)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        files = {}
        for name in installed_backends():
            path = Path(folder) / f"model{BACKENDS[name].suffix}"
            files[name] = BACKENDS[name].export(model, path, ExportOptions((SIDE, SIDE), dynamic=True))
        rows_of_speed(table, model, files, images, options.compile)
        rows_of_start(table, files)
    for name in onnx_backends().keys() - files.keys():
        print(f"{onnx_backends()[name]} is not installed: its rows are skipped")
    return bool(table.short)


def rows_of_speed(
    table: Table, model: DetectionModel, files: dict[str, Path], images: np.ndarray, compiled: bool
) -> None:
    """Time all backends alternately, in bursts: at first, threads of the previous backend may still be spinning."""
    calls = {"torch, float32: the reference": torch_call(model, images)}
    calls["torch, channels last"] = torch_call(model, images, channels_last=True)
    calls["torch, channels last, bfloat16"] = torch_call(model, images, channels_last=True, dtype=torch.bfloat16)
    if compiled:
        calls["torch, channels last, compiled"] = torch_call(model, images, channels_last=True, compiled=True)
    limits, loaded = {}, {}
    for name, path in files.items():
        for half in (False, True):
            run = BACKENDS[name].load(path, half=half)
            if half == run.half:
                loaded[run.backend] = run
                calls[run.backend] = functools.partial(run.predictions, images)
                if half == (name == "openvino" and "amx_bf16" in cpu_flags()):
                    limits[run.backend] = LIMITS[name]
    seconds = time_alternately([functools.partial(run_burst, call) for call in calls.values()], repeats=9)
    for what, taken in zip(calls, seconds, strict=True):
        table.add(what, f"{1000 * taken / BURST:.1f} ms", taken / seconds[0], at_most=limits.get(what))

    with torch.inference_mode():
        expected = [part.numpy() for part in fused(model)(torch.from_numpy(images))]
    for what, run in loaded.items():
        pixels, score = (np.abs(found - part).max() for found, part in zip(run(images), expected, strict=True))
        if not run.half:  # bfloat16 is compared by the AP of trained weights
            table.add(f"{what}: largest difference of boxes", f"{pixels:.5f} pixels", float(pixels), at_most=1)
            table.add(f"{what}: largest difference of scores", f"{score:.5f}", float(score), at_most=0.01)


def with_statistics(model: DetectionModel, images: torch.Tensor) -> DetectionModel:
    """Set the batch norms of a new model to the statistics of `images`; otherwise signals vanish and outputs agree."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def run_burst(call: Callable[[], object]) -> None:
    """Call it `BURST` times."""
    for _ in range(BURST):
        call()


def fused(model: DetectionModel) -> DetectionModel:
    """Return a fused copy."""
    return copy.deepcopy(model).fuse().requires_grad_(False)


def torch_call(
    model: DetectionModel,
    images: np.ndarray,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Callable[[], None]:
    """Return a call of the fused model on `images` (B, 3, H, W)."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    run = fused(model).to(dtype, memory_format=layout)
    run = torch.compile(run) if compiled else run
    inputs = torch.from_numpy(images).to(dtype).contiguous(memory_format=layout)

    def call() -> None:
        with torch.inference_mode():
            run(inputs)

    return call


def rows_of_start(table: Table, files: dict[str, Path]) -> None:
    """detect.py on one image, from process start to the line with its detections."""
    for path in files.values():
        image_path = path.with_name("image.jpg")
        image = (255 * noise_images(1, (480, 640))[0].transpose(1, 2, 0)).astype(np.uint8)
        image_path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
        seconds = sorted(first_detection(path, image_path) for _ in range(4))[
            1
        ]  # the first run reads packages from disk
        table.add(f"first detection of a {path.suffix} file", f"{seconds:.2f} s", seconds, at_most=1.5)


def first_detection(weights: Path, image: Path) -> float:
    """Return the seconds until detect.py, run in its own process, prints a line about `image`."""
    flags = ["--weights", weights, "--source", image, "--project", weights.with_name("runs"), "--device", "cpu"]
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "detect.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        if not any(line.startswith(str(image)) for line in process.stdout):
            raise RuntimeError("detect.py printed nothing about the image")
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
