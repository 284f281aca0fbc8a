"""Trainings that are killed at exact or random points, and what must be equal after they were resumed.

`make chaos` runs the long version: `python -m tests.chaos.kill_harness --exact 25 --random 20`. A training runs in a
forked process, so that torch is imported once; POSIX only, and in a process of one thread only: others may hold locks.
"""

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
import yaml

from graftdet import train
from graftdet.data.synthetic.drawn_dataset import draw_shapes
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.reporting.run_report import RunReport
from graftdet.utils.visualization import batch_images, evaluation_plots, plots

CALLS = ("replace", "fsync", "link", "unlink")  # functions of `os` at which a process is killed
MODEL = """nc: 3
anchors:
  - [10,13, 16,30, 33,23]
backbone:
  - [-1, 1, Conv, [8, 6, 4, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [-1, 1, Conv, [16, 3, 2]]
  - [[2], 1, Detect, [nc, anchors]]
"""


class Trainings:
    """Trainings of a tiny model on a drawn dataset.

    Args:
        folder: An empty folder.
        epochs: Length of each training.
    """

    def __init__(self, folder: Path, epochs: int = 3):
        self.folder, self.epochs = folder, epochs
        draw_shapes(folder / "shapes", seed=3, count=12)
        data: dict = {"path": str(folder / "shapes"), "format": "coco"}
        for split in ("train", "val"):
            data[split] = {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}
        (folder / "data.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        (folder / "tiny.yaml").write_text(MODEL, encoding="utf-8")

    def start(self, name: str, before: Callable[[], object] = lambda: None, resume: bool = False) -> int:
        """Train, or resume, in a forked process; return its id. `before` is called in that process."""
        values = {"--cfg": "tiny.yaml", "--data": "data.yaml"}
        arguments = [item for flag, file in values.items() for item in (flag, str(self.folder / file))]
        arguments += f"--weights none --img 64 --batch 8 --device cpu --workers 0 --epochs {self.epochs}".split()
        arguments += ["--project", str(self.folder / "runs"), "--name", name]
        if resume:
            arguments = ["--resume", str(self.folder / "runs" / name)]
        process = os.fork()
        if process:
            return process
        status = 1
        try:
            output = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            _draw_nothing()
            before()
            train.main(arguments)
            status = 0
        finally:
            os._exit(status)

    def outcome(self, name: str) -> tuple[list[dict], dict]:
        """What must not depend on how a run came about: the table without its times, and the weights."""
        folder = self.folder / "runs" / name
        with open(folder / "results.csv", newline="", encoding="utf-8") as file:
            rows = [
                {k: v for k, v in row.items() if k not in ("time", "train/images_per_s")}
                for row in csv.DictReader(file)
            ]
        left = [
            path.name for part in (folder, folder / "weights") for path in part.iterdir() if path.name.startswith(".")
        ]
        assert not left, f"temporary files stay: {left}"
        return rows, {kind: load_checkpoint(folder / "weights" / f"{kind}.pt")["ema"] for kind in ("best", "last")}

    def check(self, name: str, expected: tuple[list[dict], dict]) -> str:
        """Resume a run that was killed, or start it again if it has no checkpoint yet; what differs, empty if equal."""
        weights = self.folder / "runs" / name / "weights"
        resumable = any((weights / file).exists() for file in ("last.pt", "last.previous.pt"))
        if not resumable:
            name = f"{name}-again"
        elif load_checkpoint(
            next(path for path in (weights / "last.pt", weights / "last.previous.pt") if path.exists())
        ).get("finished"):
            resumable = False
        if resumable or name.endswith("-again"):
            status = wait(self.start(name, resume=resumable))
            if status:
                return f"exit status {status}: {(self.folder / f'{name}.log').read_text()[-500:]}"
        rows, states = self.outcome(name)
        if rows != expected[0]:
            return "results.csv differs"
        for kind, state in states.items():
            other = expected[1][kind]
            if state.keys() != other.keys() or not all(torch.equal(value, other[key]) for key, value in state.items()):
                return f"{kind}.pt differs"
        return ""


def _draw_nothing() -> None:
    """Omit charts and images of batches, which take most of the time of such short trainings."""
    for module in (plots, evaluation_plots, batch_images):
        for name in [name for name in vars(module) if name.startswith("plot_")]:
            setattr(module, name, lambda *_, **__: None)
    batch_images.ValidationImages.write = lambda *_: None
    RunReport.finish = RunReport.refresh = lambda *_: None


def wait(process: int) -> int:
    """The exit status of a process, 128 + the number of the signal that ended it."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return 128 - status if status < 0 else status


def kill_at(function: str, number: int, after: bool) -> Callable[[], None]:
    """What kills the process in which it is called before, or after, a call of a function of `os`.

    Args:
        function: One of `CALLS`.
        number: Which call, from 0.
        after: After the call instead of before it.
    """

    def prepare() -> None:
        original, count = getattr(os, function), 0

        def call(*arguments, **keywords):
            nonlocal count
            is_last, count = count == number, count + 1
            if is_last and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **keywords)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(os, function, call)

    return prepare


def main() -> int:
    """Run the long version and print one line per kill; 1 if a resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact", type=int, default=25, help="number of exact points")
    parser.add_argument("--random", type=int, default=20, help="number of random points")
    parser.add_argument("--epochs", type=int, default=3, help="length of each training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    draw, failures = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        trainings = Trainings(Path(folder), options.epochs)
        start = time.monotonic()
        assert not wait(trainings.start("whole")), (Path(folder) / "whole.log").read_text()
        seconds, expected = time.monotonic() - start, trainings.outcome("whole")
        for number in range(options.exact + options.random):
            name = f"run{number}"
            if number < options.exact:
                point = CALLS[number % len(CALLS)], number // len(CALLS), bool(draw.getrandbits(1))
                status = wait(trainings.start(name, kill_at(*point)))
            else:
                point = ("seconds", round(draw.random() * seconds, 2))
                process = trainings.start(name)
                time.sleep(point[1])
                os.kill(process, signal.SIGKILL)
                status = wait(process)
            problem = trainings.check(name, expected)
            failures += bool(problem)
            print(f"{name}: {point}, status {status}: {problem or 'equal'}", flush=True)
    print(f"{options.exact + options.random - failures} of {options.exact + options.random} resumed runs are equal")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
