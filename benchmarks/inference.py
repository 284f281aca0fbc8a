"""What a picture takes in a model, by each way to run it, beside the fused float32 model in torch; how far their boxes are
apart; and the first box of an exported file from the start of the process."""

import argparse
import copy
import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from graftdet.models import build_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.auto import installed_backends, onnx_backends
from graftdet.models.backends.verify import noise_images
from graftdet.utils.device import cpu_flags

from benchmarks.table import ROOT, Table, take_turns

CFG, SIDE, IN_A_ROW = "yolov5n.yaml", 640, 3
LIMITS = {
    "onnx": 0.7,
    "openvino": 0.5,
}  # of the reference; OpenVINO's in bfloat16 where the CPU has matrix units for it


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, which takes a minute to start")
    options = parser.parse_args()
    torch.manual_seed(0)
    pictures = noise_images(1, (SIDE, SIDE))
    model = spread(build_model(CFG), torch.from_numpy(pictures))
    table = Table(f"inference: {CFG}, batch 1, {SIDE}x{SIDE}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        files = {}
        for word in installed_backends():
            path = Path(folder) / f"model{BACKENDS[word].suffix}"
            files[word] = BACKENDS[word].export(model, path, ExportOptions((SIDE, SIDE), dynamic=True))
        rows_of_speed(table, model, files, pictures, options.compile)
        rows_of_start(table, files)
    for word in onnx_backends().keys() - files.keys():
        print(f"{onnx_backends()[word]} is not installed: its rows are left out")
    return bool(table.short)


def rows_of_speed(table: Table, model, files: dict[str, Path], pictures: np.ndarray, compiled: bool) -> None:
    """Each way in turns: a few pictures in a row, because threads of the one before may still be waiting for work."""
    calls = {"torch, float32: the reference": torch_call(model, pictures)}
    calls["torch, channels last"] = torch_call(model, pictures, channels_last=True)
    calls["torch, channels last, bfloat16"] = torch_call(model, pictures, channels_last=True, dtype=torch.bfloat16)
    if compiled:
        calls["torch, channels last, compiled"] = torch_call(model, pictures, channels_last=True, compiled=True)
    limits, loaded = {}, {}
    for word, path in files.items():
        for half in (False, True):
            run = BACKENDS[word].load(path, half=half)
            if half == run.half:
                loaded[run.backend] = run
                calls[run.backend] = functools.partial(run.predictions, pictures)
                if half == (word == "openvino" and "amx_bf16" in cpu_flags()):
                    limits[run.backend] = LIMITS[word]
    seconds = take_turns([functools.partial(in_a_row, call) for call in calls.values()], repeats=9)
    for what, taken in zip(calls, seconds, strict=True):
        table.add(what, f"{1000 * taken / IN_A_ROW:.1f} ms", taken / seconds[0], at_most=limits.get(what))

    with torch.inference_mode():
        expected = [part.numpy() for part in fused(model)(torch.from_numpy(pictures))]
    for what, run in loaded.items():
        pixels, score = (np.abs(found - part).max() for found, part in zip(run(pictures), expected, strict=True))
        if not run.half:  # bfloat16 is judged by the AP of trained weights
            table.add(f"{what}: boxes moved", f"{pixels:.5f} pixels", float(pixels), at_most=1)
            table.add(f"{what}: scores moved", f"{score:.5f}", float(score), at_most=0.01)


def spread(model, pictures: torch.Tensor):
    """Give the norms of a new model the statistics of `pictures`: with those of a new one its maps fade to nothing, and
    no difference would show."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(pictures)
    return model.eval()


def in_a_row(call) -> None:
    for _ in range(IN_A_ROW):
        call()


def fused(model):
    return copy.deepcopy(model).fuse().requires_grad_(False)


def torch_call(model, pictures, channels_last=False, dtype=torch.float32, compiled=False):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    run = fused(model).to(dtype, memory_format=layout)
    run = torch.compile(run) if compiled else run
    images = torch.from_numpy(pictures).to(dtype).contiguous(memory_format=layout)

    def call():
        with torch.inference_mode():
            run(images)

    return call


def rows_of_start(table: Table, files: dict[str, Path]) -> None:
    """detect.py on one picture, from the start of the process to the line that tells its boxes."""
    for path in files.values():
        picture = path.with_name("picture.jpg")
        image = (255 * noise_images(1, (480, 640))[0].transpose(1, 2, 0)).astype(np.uint8)
        picture.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
        seconds = sorted(until_told(path, picture) for _ in range(4))[
            1
        ]  # the first run reads the packages from the disk
        table.add(f"first box of a {path.suffix} file", f"{seconds:.2f} s", seconds, at_most=1.5)


def until_told(weights: Path, picture: Path) -> float:
    flags = ["--weights", weights, "--source", picture, "--project", weights.with_name("runs"), "--device", "cpu"]
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "detect.py", *flags], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        if not any(line.startswith(str(picture)) for line in process.stdout):
            raise RuntimeError("detect.py tells nothing about the picture")
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
