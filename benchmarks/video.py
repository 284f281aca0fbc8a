"""detect.py on a 1920x1080 video, from process start to the last written frame.

The reference is the same number of forward passes of the fused float32 model in torch at 640x640, without reading,
preprocessing, drawing and writing.
"""

import copy
import os
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
from graftdet.utils.checkpoint import save_checkpoint
from graftdet.utils.images.letterbox import letterbox, to_chw
from graftdet.utils.images.video import VideoWriter, open_capture, read_frames

CFG = "yolov5n.yaml"
SIDE = 640
FRAMES = 250
WIDTH, HEIGHT = 1920, 1080
LIMIT = 0.62  # ratio to the reference
RUNS = 2  # the fastest one counts
CANDIDATES = 100  # anchors with detections per frame, of which 20 are drawn


def main() -> int:
    """Print the table; returns the exit status."""
    options = parser("video", __doc__).parse_args()
    torch.manual_seed(0)
    title = f"Video: {FRAMES} frames of {WIDTH}x{HEIGHT}, {CFG} at {SIDE}, {os.cpu_count()} cores"
    table = Table(title, options.output)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        video = make_video(Path(folder) / "shapes.mp4")
        model = build_detector(video)
        weights = Path(folder) / "model.pt"
        content = {"yaml": model.yaml_text, "names": model.names, "nc": model.nc, "model": model.state_dict()}
        save_checkpoint(weights, {**content, "options": {"img": SIDE}})
        detect(weights, video, "--backend", "auto", "--no-save")  # exports the model and selects the fastest backend

        reference = forward_pass(model)
        passes, best = [], (float("inf"), "")
        for _ in range(RUNS):
            passes += time_alternately([reference], repeats=15)
            start = time.perf_counter()
            output = detect(weights, video, "--max-det", "20")
            best = min(best, (time.perf_counter() - start, output))
        seconds, output = best
        whole = FRAMES * float(np.median(passes))
        table.add("reference", f"{FRAMES} passes of {1000 * whole / FRAMES:.1f} ms: {whole:.2f} s", 1.0)
        backend = next(line for line in output.splitlines() if "run by" in line).split("run by ")[1].split(";")[0]
        table.add(
            f"detect.py, run by {backend}",
            f"{seconds:.2f} s, {1000 * seconds / FRAMES:.1f} ms per frame",
            seconds / whole,
            at_most=LIMIT,
        )
        print(f"\n{output.splitlines()[-1].split('; saved')[0]}")
        written = sum(1 for _ in read_frames(open_capture(str(next(Path(folder).rglob("exp*/*.mp4"))))))
        table.add("frames written", str(written), written / FRAMES, at_least=1)
    return bool(table.short)


def make_video(path: Path) -> Path:
    """Write a video of circles and rectangles that move over a smooth background; returns its path."""
    random = np.random.default_rng(0)
    coarse = random.integers(60, 200, (HEIGHT // 40, WIDTH // 40, 3), np.uint8)
    background = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    shapes = [
        (
            random.uniform(0, (WIDTH, HEIGHT)),
            random.uniform(-12, 12, 2),
            int(random.integers(30, 160)),
            random.integers(0, 255, 3).tolist(),
        )
        for _ in range(12)
    ]
    with VideoWriter(path, 25.0) as writer:
        for index in range(FRAMES):
            frame = background.copy()
            for number, (position, speed, size, color) in enumerate(shapes):
                x, y = ((position + index * speed) % (WIDTH, HEIGHT)).astype(int).tolist()
                if number % 2:
                    cv2.circle(frame, (x, y), size, color, -1)
                else:
                    cv2.rectangle(frame, (x, y), (x + size, y + size), color, -1)
            writer.write(frame)
    return writer.path


def build_detector(video: Path) -> DetectionModel:
    """Return an untrained model whose head is set so that about `CANDIDATES` anchors per frame have detections."""
    frame = next(read_frames(open_capture(str(video))))
    image = torch.from_numpy(to_chw(letterbox(frame, SIDE, auto=True)[0]))[None] / 255
    model = build_model(CFG)
    with torch.no_grad():
        model.train()
        for _ in range(60):  # batch statistics, without which signals vanish before the head
            model.raw_outputs(image[..., ::2, ::2])
        levels = model.eval().raw_outputs(image)
        for conv, level in zip(model.head.m, levels, strict=True):
            objectness = level[..., 4] - conv.bias.view(-1, 5 + model.nc)[:, 4].view(1, -1, 1, 1)
            factor = 3 / objectness.std()
            conv.weight *= factor
            bias = conv.bias.view(-1, 5 + model.nc)
            bias[:, 4] = -1 - factor * objectness.flatten().sort(descending=True).values[CANDIDATES // len(levels)]
            bias[:, 5:] += 8
    return model


def forward_pass(model: DetectionModel) -> Callable[[], None]:
    """Return a call of the fused float32 model on one image."""
    fused = copy.deepcopy(model).fuse().requires_grad_(False)
    image = torch.rand(1, 3, SIDE, SIDE)

    def call() -> None:
        with torch.inference_mode():
            fused(image)

    return call


def detect(weights: Path, source: Path, *more: str) -> str:
    """Run detect.py in its own process and return its output."""
    flags = [
        "--weights",
        weights,
        "--source",
        source,
        "--img",
        SIDE,
        "--device",
        "cpu",
        "--project",
        weights.with_name("runs"),
        *more,
    ]
    done = subprocess.run([sys.executable, "detect.py", *map(str, flags)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
