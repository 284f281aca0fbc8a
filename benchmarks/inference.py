"""Latency per image of all backends, compared with the fused float32 model in torch.

Also the difference of their boxes, how boxes in bfloat16 agree with float32, and the time from process start to the
first detection of an exported file.
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

from benchmarks.table import ROOT, Table, parser
from graftdet.data.synthetic.contours import ContoursGenerator
from graftdet.models import DetectionModel, build_model, load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import noise_images
from graftdet.models.backends.selection.agreement import agreement
from graftdet.models.backends.selection.ways import installed_backends, onnx_backends, possible_ways
from graftdet.utils.processor import has_bfloat16

CFG = "yolov5n.yaml"
SIDE = 640
BURST = 3  # runs in a row
WEIGHTS = "graft-n"  # trained on such images as are drawn here
DRAWN = 16  # images
LIMITS = {"onnxruntime": 0.7, "OpenVINO": 0.5, "OpenVINO in bfloat16": 0.35}  # ratio to the reference


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
        rows_of_agreement(table)
        rows_of_start(table, files)
    for name in onnx_backends().keys() - files.keys():
        print(f"{onnx_backends()[name]} is not installed: its rows are skipped")
    return bool(table.short)


def rows_of_speed(
    table: Table, model: DetectionModel, files: dict[str, Path], images: np.ndarray, compiled: bool
) -> None:
    """Time all backends alternately, in bursts: at first, threads of the previous backend may still be spinning."""
    calls = {"torch, float32, contiguous: the reference": torch_call(model, images)}
    calls["torch, channels last"] = torch_call(model, images, channels_last=True)
    if has_bfloat16():
        calls["torch, channels last, bfloat16"] = torch_call(model, images, channels_last=True, bfloat16=True)
    if compiled:
        calls["torch, channels last, compiled"] = torch_call(model, images, channels_last=True, compiled=True)
    limits, loaded = {}, {}
    for name, path in files.items():
        for half in (False, True):
            run = BACKENDS[name].load(path, half=half)
            if half == run.half:
                loaded[run.backend] = run
                calls[run.backend] = functools.partial(run.predictions, images)
                if half == (name == "openvino" and has_bfloat16()):
                    limits[run.backend] = LIMITS[run.backend]
    times = time_bursts(list(calls.values()))
    for what, (wall, cpu) in zip(calls, times, strict=True):
        figure = f"{1000 * wall:.1f} ms, {1000 * cpu:.1f} ms of CPU ({cpu / times[0][1]:.2f})"
        table.add(what, figure, wall / times[0][0], at_most=limits.get(what))

    with torch.inference_mode():
        expected = [part.numpy() for part in fused(model)(torch.from_numpy(images))]
    for what, run in loaded.items():
        pixels, score = (np.abs(found - part).max() for found, part in zip(run(images), expected, strict=True))
        if not run.half:  # bfloat16 is compared by the boxes of trained weights
            table.add(f"{what}: largest difference of boxes", f"{pixels:.5f} pixels", float(pixels), at_most=1)
            table.add(f"{what}: largest difference of scores", f"{score:.5f}", float(score), at_most=0.01)


def time_bursts(calls: list[Callable[[], object]], repeats: int = 9) -> list[tuple[float, float]]:
    """Return the median seconds and the median CPU seconds of one run of each call; the calls take turns."""
    found: list[list[tuple[float, float]]] = [[] for _ in calls]
    for number in range(1 + repeats):
        for call, taken in zip(calls, found, strict=True):
            start, cpu_start = time.perf_counter(), time.process_time()
            for _ in range(BURST):
                call()
            if number:
                taken.append((time.perf_counter() - start, time.process_time() - cpu_start))
    return [tuple(np.median(taken, axis=0) / BURST) for taken in found]


def rows_of_agreement(table: Table) -> None:
    """The boxes of pretrained weights on drawn images: each backend and precision against torch in float32."""
    generator, random = ContoursGenerator(), np.random.default_rng(0)
    images = [generator.draw(random).image for _ in range(DRAWN)]
    reference = load_model(WEIGHTS)
    for way in possible_ways(["torch", *installed_backends()], "auto", "auto")[1:]:
        precision = "half" if way.half else "float32"
        found = agreement(reference, load_model(WEIGHTS, backend=way.backend, precision=precision), images)
        verdict = "agrees" if found.holds else "differs"
        table.add(f"{WEIGHTS} on {DRAWN} drawn images, {way}: boxes like float32", f"{found}: {verdict}", found.iou)


def with_statistics(model: DetectionModel, images: torch.Tensor) -> DetectionModel:
    """Set the batch norms of a new model to the statistics of `images`; otherwise signals vanish and outputs agree."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def fused(model: DetectionModel) -> DetectionModel:
    """Return a fused copy."""
    return copy.deepcopy(model).fuse().requires_grad_(False)


def torch_call(
    model: DetectionModel,
    images: np.ndarray,
    channels_last: bool = False,
    bfloat16: bool = False,
    compiled: bool = False,
) -> Callable[[], None]:
    """Return a call of the fused model on `images` (B, 3, H, W)."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    run = fused(model).to(memory_format=layout)
    run = torch.compile(run) if compiled else run
    inputs = torch.from_numpy(images).contiguous(memory_format=layout)

    def call() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
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
