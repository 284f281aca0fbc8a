"""Training in images per second: a minimal training step, variants of it, the step of train.py, and train.py itself.

Runs on two cores, including the data loader. `--cpu-time` is for busy machines: CPU time of one thread, which loads the
images, too. On CUDA (`--device 0 --img 640 --batch-size 64`) all cores are used, and GPU utilization is printed, too.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from graftdet import train_model
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.models import build_model
from graftdet.utils.device import select_device
from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.processor import cpu_flags
from graftdet.utils.training import trainer
from graftdet.utils.training.acceleration.preparation import prepare_for_training
from graftdet.utils.training.acceleration.step_choice import StepChoice, Work, choose_steps
from graftdet.utils.training.ema import ModelEMA
from graftdet.utils.training.optim import Stepper, make_optimizer
from graftdet.utils.training.schedule import Schedule

from .table import ROOT, Table, data_folder, parser, time_alternately

MODEL = "yolov5n.yaml"
CORES, REPEATS = 2, 7
WITH_BFLOAT16, IN_FLOAT32 = 1.8, 1.3  # limits of train.py against the minimal step in float32, by what it chooses
RECIPES = ("yolov5.yaml", "default.yaml")


def main() -> int:
    """Print the table; returns the exit status."""
    flags = parser("training", __doc__)
    flags.add_argument("--cfg", default=MODEL, help="model YAML")
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--img", type=int, default=320)
    flags.add_argument("--batch-size", type=int, default=16)
    flags.add_argument("--epochs", type=int, default=4, help="epochs of train.py; the first is not counted")
    flags.add_argument("--compile", action="store_true", help="also time torch.compile (takes minutes)")
    flags.add_argument("--cpu-time", action="store_true", help="CPU time of one thread, for busy machines")
    options = flags.parse_args()
    device = select_device(options.device)
    if device.type == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        torch.set_num_threads(1 if options.cpu_time else min(CORES, len(os.sched_getaffinity(0))))
    clock = time.thread_time if options.cpu_time else time.perf_counter
    unit = "; images per second of CPU time, one thread" * options.cpu_time
    table = Table(
        f"Training {options.cfg} at {options.img}, batch {options.batch_size}, {device}{unit}", options.output
    )

    images, targets = random_batch(options, device)
    reference = minimal_step(device, images, targets, cfg=options.cfg)
    steps = {"minimal step, float32, contiguous: the reference": reference}
    steps |= {
        f"the same, {what}": minimal_step(device, images, targets, **how)
        for what, how in variants(options, device).items()
    }
    seconds = time_alternately(list(steps.values()), REPEATS, clock=clock)
    count = len(images)
    for what, taken in zip(steps, seconds, strict=True):
        table.add(what, f"{count / taken:.1f} images/s", seconds[0] / taken)
    choices = {}
    for recipe in RECIPES:
        figure, taken, choice = complete_step(recipe, device, options, images, targets, clock)
        choices[recipe] = choice.training.precision
        what = f"step of train.py, {recipe}, {choice.training}"
        table.add(what, f"{count / taken:.1f} images/s: {figure}", seconds[0] / taken)
    if data_folder("bccd"):
        limit = WITH_BFLOAT16 if set(choices.values()) == {"bfloat16"} else IN_FLOAT32
        limits = {"at_least": limit} if device.type == "cpu" else {}
        now = seconds[0]
        for recipe, precision in choices.items():
            if options.cpu_time:
                rate, compared = cpu_time_of_epochs(recipe, options, precision, reference)
                notes = "images loaded by the same thread"
            else:
                rate, notes = end_to_end(recipe, options)
                before, (now,) = now, time_alternately([reference], REPEATS)
                compared = (before + now) / 2
            table.add(f"train.py on BCCD, {recipe}", f"{rate:.1f} images/s, {notes}", rate * compared / count, **limits)
    return bool(table.short)


def variants(options: argparse.Namespace, device: torch.device) -> dict[str, dict]:
    """Return arguments of `minimal_step` by the name of the variant."""
    faster = {"form": True}
    half = half_type(device)
    units = "" if device.type != "cpu" else " (with AMX)" if "amx_bf16" in cpu_flags() else " (without AMX)"
    found = {"channels last": faster, f"channels last, {str(half)[6:]}{units}": faster | {"mixed": half}}
    return found | ({"channels last, compiled": faster | {"compiled": True}} if options.compile else {})


def half_type(device: torch.device) -> torch.dtype:
    """Return the type of mixed precision on a device."""
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def random_batch(options: argparse.Namespace, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (B, 3, img, img) float and 12 targets per image, (12 B, 6): image, class, cx, cy, w, h."""
    generator, count = torch.Generator().manual_seed(0), options.batch_size
    images = torch.rand(count, 3, options.img, options.img, generator=generator)
    image = torch.arange(count).repeat_interleave(12)[:, None].float()
    label = torch.randint(0, 3, (len(image), 1), generator=generator).float()
    boxes = torch.rand(len(image), 4, generator=generator) * torch.tensor([1, 1, 0.3, 0.3]) + torch.tensor(
        [0, 0, 0.02, 0.02]
    )
    return images.to(device), torch.cat((image, label, boxes), 1).to(device)


def minimal_step(device, images, targets, form=False, mixed=None, compiled=False, cfg=MODEL):
    """Return a call that does one step: forward, the loss of the YOLOv5 recipe, backward, SGD."""
    torch.manual_seed(0)
    recipe = load_hyperparameters("yolov5.yaml")
    model = build_model(cfg, nc=3).to(device).train()
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


def complete_step(recipe_name: str, device, options, images, targets, clock) -> tuple[str, float, StepChoice]:
    """Time the step of train.py with a recipe.

    Returns:
        The percentage of each part as text, the seconds of the step, and how it computes.
    """
    torch.manual_seed(0)
    count = len(images)
    recipe = load_hyperparameters(recipe_name, ["nominal_batch=0", "warmup_epochs=0"]).for_run(100, 13, count)
    model = build_model(options.cfg, nc=3).to(device).train()
    layout = prepare_for_training(model, device)
    criterion = model.criterion(recipe, options.img)
    optimizer = make_optimizer(model, recipe.optimizer, recipe, count)
    work = Work(model, model, criterion, optimizer, tuple(images.shape), 1000, device)
    choice = choose_steps("auto", work, layout)
    choice.apply(work)
    mixed = choice.training.autocast_type
    images = images.contiguous(memory_format=choice.training.layout)
    ema = ModelEMA(model, recipe.ema_decay, recipe.ema_tau, fraction=recipe.ema_fraction)
    schedule = Schedule(recipe, 100, 13, count)
    stepper = Stepper(model, optimizer, schedule, ema, recipe.clip_norm, choice.scaler())
    parts: dict[str, list[float]] = {}

    def timed(part, call):
        def timed_call(*arguments):
            start = clock()
            result = call(*arguments)
            wait(device)
            parts.setdefault(part, []).append(clock() - start)
            return result

        return timed_call

    def forward():
        with torch.autocast(device.type, dtype=mixed, enabled=mixed is not None):
            return model(images)

    ema.update, optimizer.step = timed("EMA", ema.update), timed(recipe.optimizer, optimizer.step)
    for number in range(2 + REPEATS):
        stepper.begin(number)
        raw = timed("forward", forward)()
        loss = timed("loss", criterion)(raw, targets)
        timed("backward and clipping", stepper.backward)(sum(loss.values()) * count)
    medians = {part: statistics.median(taken[2:]) for part, taken in parts.items()}
    medians["backward and clipping"] -= medians["EMA"] + medians[recipe.optimizer]  # called by it
    total = sum(medians.values())
    return ", ".join(f"{part} {taken / total:.1%}" for part, taken in medians.items()), total, choice


def cpu_time_of_epochs(recipe: str, options, precision: str, reference: Callable[[], None]) -> tuple[float, float]:
    """Train in this process, whose only thread loads the images, too; time the reference after each epoch.

    Returns:
        Images per second of CPU time, and seconds of the reference: medians of all epochs but the first.
    """
    original, epochs, references = trainer.train_one_epoch, [], []

    def timed(*args, **kwargs):
        start = time.process_time()
        result = original(*args, **kwargs)
        epochs.append(time.process_time() - start)
        references.extend(time_alternately([reference], 3, 1, time.process_time))
        return result

    trainer.train_one_epoch = timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            amp = "on" if precision == "bfloat16" else "off"
            train_model(**train_flags(recipe, options, folder), noval=True, workers=0, amp=amp)
    finally:
        trainer.train_one_epoch = original
    images = len(open_split(load_data_config("bccd.yaml"), "train"))
    return images / statistics.median(epochs[1:]), statistics.median(references[1:])


def end_to_end(recipe: str, options) -> tuple[float, str]:
    """Run train.py in its own process.

    Returns:
        Images per second, the median of all epochs but the first; peak memory and, on CUDA, GPU utilization as text.
    """
    with tempfile.TemporaryDirectory() as folder:
        values = train_flags(recipe, options, folder).items()
        flags = ["--noval", *(text for flag, value in values for text in (f"--{flag.replace('_', '-')}", value))]
        with Busy(options.device) as busy:
            done = subprocess.run(
                [sys.executable, "train.py", *map(str, flags)], cwd=ROOT, capture_output=True, text=True
            )
        if done.returncode:
            sys.exit(f"train.py failed:\n{done.stdout}{done.stderr}")
        rows = read_results(Path(folder) / "run" / "results.csv")
    return median_rate(rows), ", ".join([f"peak memory {printed_peak_memory(done.stdout)}", *busy.summary()])


def train_flags(recipe: str, options, folder: str) -> dict[str, Any]:
    """Flags of train.py by name."""
    return {
        "cfg": options.cfg,
        "data": "bccd.yaml",
        "weights": "none",
        "hyp": recipe,
        "img": options.img,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "device": options.device,
        "project": folder,
        "name": "run",
    }


def printed_peak_memory(output: str) -> str:
    """Return the peak memory that train.py printed last."""
    _, found, text = output.rpartition("peak memory ")
    return text.splitlines()[0] if found else "unknown"


def read_results(path: Path) -> list[dict[str, str]]:
    """Return the rows of a results.csv."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def median_rate(rows: list[dict[str, str]], skipped: int = 1) -> float:
    """Return the median images per second of training, without the first epochs."""
    rates = [float(row["train/images_per_s"]) for row in rows]
    return statistics.median(rates[skipped:] or rates)


class Busy:
    """Samples the utilization of a CUDA device by nvidia-smi five times per second; does nothing on other devices."""

    def __init__(self, device: str):
        self.device, self.lines = select_device(device), ""

    def __enter__(self):
        self.process = None
        if self.device.type == "cuda":
            query = "--query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 200"
            command = ["nvidia-smi", "-i", str(self.device.index), *query.split()]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.terminate()
            self.lines = self.process.communicate()[0]

    def summary(self) -> list[str]:
        """Return the mean utilization in the middle half of the time, without start and end of the run, as text."""
        percentages = [int(line) for line in self.lines.split() if line.isdecimal()]
        middle = percentages[len(percentages) // 4 : -(len(percentages) // 4) or None]
        return [f"GPU busy {statistics.mean(middle):.0f} %"] if middle else []


def wait(device: torch.device) -> None:
    """Wait until all work on `device` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
