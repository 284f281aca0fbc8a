"""Training: the bare step, the same step faster, ours whole, and train.py end to end with its loader, pictures a second.

On two cores, which the loader shares. On CUDA (`--device 0 --img 640 --batch-size 64`, all cores) the share of the time
that the GPU is busy is told, too.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from graftdet.models import build_model
from graftdet.utils.device import cpu_flags, select_device
from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.training.acceleration import prepare_for_training, mixed_precision
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.schedule import Schedule

from .table import ROOT, Table, data_folder, take_turns

MODEL, CORES, REPEATS = "yolov5n.yaml", 2, 7
RECIPES = ("yolov5.yaml", "default.yaml")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--img", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4, help="of train.py; the first does not count")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: takes minutes")
    options = parser.parse_args()
    device = select_device(options.device)
    if device.type == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        torch.set_num_threads(min(CORES, len(os.sched_getaffinity(0))))
    table = Table(f"Training {MODEL} at {options.img}, batch {options.batch_size}, {device}")

    images, targets = random_batch(options, device)
    reference = bare_step(device, images, targets)
    steps = {"the bare step, float32, contiguous: the reference": reference}
    steps |= {
        f"the same, {what}": bare_step(device, images, targets, **how) for what, how in ways(options, device).items()
    }
    seconds = take_turns(list(steps.values()), REPEATS)
    count = len(images)
    for what, taken in zip(steps, seconds, strict=True):
        table.add(what, f"{count / taken:.1f} a second", seconds[0] / taken)
    for recipe in RECIPES:
        figure, taken = whole_step(recipe, device, options, images, targets)
        table.add(f"our whole step, {recipe}", f"{count / taken:.1f} a second: {figure}", seconds[0] / taken)
    if data_folder("bccd"):
        least = 1.6 if device.type == "cpu" and mixed_precision("auto", device)[0] else 0.95
        ends = {recipe: end_to_end(recipe, options) for recipe in RECIPES}
        now = statistics.mean([seconds[0], *take_turns([reference], REPEATS)])  # before and after
        for recipe, (rate, told) in ends.items():
            limit = {"at_least": least} if device.type == "cpu" else {}
            table.add(f"train.py on BCCD, {recipe}", f"{rate:.1f} a second, {told}", rate * now / count, **limit)
    return bool(table.short)


def ways(options, device) -> dict[str, dict]:
    """The bare step done otherwise, by name: arguments of `bare_step`."""
    faster = {"form": True}
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    units = "" if device.type != "cpu" else " (matrix units)" if "amx_bf16" in cpu_flags() else " (no matrix units)"
    told = {"channels last": faster, f"channels last, {str(half)[6:]}{units}": faster | {"mixed": half}}
    return told | ({"channels last, compiled": faster | {"compiled": True}} if options.compile else {})


def random_batch(options, device):
    """Pictures (B, 3, img, img) float and about 12 boxes a picture, (12 B, 6): image, class, cx, cy, w, h."""
    draw, count = torch.Generator().manual_seed(0), options.batch_size
    images = torch.rand(count, 3, options.img, options.img, generator=draw)
    image = torch.arange(count).repeat_interleave(12)[:, None].float()
    label = torch.randint(0, 3, (len(image), 1), generator=draw).float()
    boxes = torch.rand(len(image), 4, generator=draw) * torch.tensor([1, 1, 0.3, 0.3]) + torch.tensor(
        [0, 0, 0.02, 0.02]
    )
    return images.to(device), torch.cat((image, label, boxes), 1).to(device)


def bare_step(device, images, targets, form=False, mixed=None, compiled=False):
    """A call that does one step: forward, the published loss, backward, SGD."""
    torch.manual_seed(0)
    recipe = load_hyperparameters("yolov5.yaml")
    model = build_model(MODEL, nc=3).to(device).train()
    images = images.contiguous(memory_format=prepare_for_training(model, device)) if form else images
    criterion = model.criterion(recipe, images.shape[-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.937, nesterov=True)
    forward = torch.compile(model, dynamic=False) if compiled else model

    def step():
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
            raw = forward(images)
        (sum(criterion(raw, targets).values()) * len(images)).backward()
        optimizer.step()
        optimizer.zero_grad()
        wait(device)

    return step


def whole_step(recipe_name: str, device, options, images, targets):
    """The step of train.py with `recipe_name`, all of it each batch: (the share of each part as text, seconds)."""
    torch.manual_seed(0)
    count = len(images)
    recipe = load_hyperparameters(recipe_name, ["nominal_batch=0", "warmup_epochs=0"]).for_run(100, 13, count)
    model = build_model(MODEL, nc=3).to(device).train()
    images = images.contiguous(memory_format=prepare_for_training(model, device))
    criterion = model.criterion(recipe, options.img)
    optimizer = make_optimizer(model, recipe.optimizer, recipe, count)
    ema = ModelEMA(model, recipe.ema_decay, recipe.ema_tau, fraction=recipe.ema_fraction)
    mixed, scaler = mixed_precision("auto", device)
    stepper = Stepper(model, optimizer, Schedule(recipe, 100, 13, count), ema, recipe.clip_norm, scaler)
    parts: dict[str, list[float]] = {}

    def timed(part, call):
        def measured(*arguments):
            start = time.perf_counter()
            result = call(*arguments)
            wait(device)
            parts.setdefault(part, []).append(time.perf_counter() - start)
            return result

        return measured

    def forward():
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
            return model(images)

    ema.update, optimizer.step = timed("EMA", ema.update), timed(recipe.optimizer, optimizer.step)
    for number in range(2 + REPEATS):
        stepper.begin(number)
        raw = timed("forward", forward)()
        loss = timed("loss", criterion)(raw, targets)
        timed("backward and clipping", stepper.backward)(sum(loss.values()) * count)
    middle = {part: statistics.median(taken[2:]) for part, taken in parts.items()}
    middle["backward and clipping"] -= middle["EMA"] + middle[recipe.optimizer]  # which it calls
    total = sum(middle.values())
    return ", ".join(f"{part} {taken / total:.1%}" for part, taken in middle.items()), total


def end_to_end(recipe: str, options) -> tuple[float, str]:
    """Pictures a second of train.py itself in a process of its own, the middle of its later epochs; and its peak memory,
    on CUDA how busy the device was, as text."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "--cfg",
            MODEL,
            "--data",
            "bccd.yaml",
            "--hyp",
            recipe,
            "--img",
            options.img,
            "--epochs",
            options.epochs,
        ]
        words += [
            "--batch-size",
            options.batch_size,
            "--device",
            options.device,
            "--noval",
            "--project",
            folder,
            "--name",
            "run",
        ]
        with Busy(options.device) as busy:
            done = subprocess.run(
                [sys.executable, "train.py", *map(str, words)], cwd=ROOT, capture_output=True, text=True
            )
        if done.returncode:
            sys.exit(f"train.py failed:\n{done.stdout}{done.stderr}")
        with open(Path(folder) / "run" / "results.csv", newline="", encoding="utf-8") as file:
            rates = [float(row["train/images_per_s"]) for row in csv.DictReader(file)]
    peak = [line.split("peak memory ")[1] for line in done.stdout.splitlines() if "peak memory " in line]
    return statistics.median(rates[1:] or rates), ", ".join([*(f"peak memory {text}" for text in peak), *busy.told()])


class Busy:
    """How much of the time a CUDA device computed, asked of nvidia-smi five times a second; nothing on other devices."""

    def __init__(self, device: str):
        self.device, self.lines = select_device(device), ""

    def __enter__(self):
        self.process = None
        if self.device.type == "cuda":
            ask = [
                "nvidia-smi",
                "-i",
                str(self.device.index),
                "--query-gpu=utilization.gpu",
                "--format=csv,noheader,nounits",
                "-lms",
                "200",
            ]
            self.process = subprocess.Popen(ask, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.lines = self.process.communicate()[0]

    def told(self) -> list[str]:
        """The mean over the middle half of the time: before it the run starts, behind it the model is measured."""
        shares = [int(line) for line in self.lines.split() if line.isdecimal()]
        middle = shares[len(shares) // 4 : -(len(shares) // 4) or None]
        return [f"GPU busy {statistics.mean(middle):.0f} %"] if middle else []


def wait(device) -> None:
    """Until `device` has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
