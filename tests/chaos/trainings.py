"""Short trainings in forked processes, and what must not depend on how a run came about."""

import csv
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml

from graftdet import train
from graftdet.data.synthetic.drawn_dataset import draw_shapes
from graftdet.utils import cli
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.reporting.run_report import RunReport
from graftdet.utils.visualization import batch_images, evaluation_plots, plots

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
WEIGHTS = ("last.pt", "last.previous.pt")


def nothing() -> None:
    """Nothing happens to a training."""


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

    def run_folder(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / name

    def log(self, name: str) -> str:
        """What a training has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def start(
        self,
        name: str,
        before: Callable[[], object] = nothing,
        resume: bool = False,
        environment: dict[str, str] | None = None,
    ) -> int:
        """Train, or resume, in a forked process; return its id.

        Args:
            name: Name of the run.
            before: Called in that process before the training.
            resume: Resume the run.
            environment: Further environment variables.
        """
        values = {"--cfg": "tiny.yaml", "--data": "data.yaml"}
        arguments = [item for flag, file in values.items() for item in (flag, str(self.folder / file))]
        arguments += f"--weights none --img 64 --batch 8 --device cpu --workers 0 --epochs {self.epochs}".split()
        arguments += ["--project", str(self.folder / "runs"), "--name", name, "--exist-ok"]
        if resume:
            arguments = ["--resume", str(self.run_folder(name))]
        process = os.fork()
        if process:
            return process
        status = 1
        try:
            output = os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
            os.environ.update(environment or {})
            _draw_nothing()
            before()
            cli.run(lambda: train.main(arguments))
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)

    def start_ranks(self, name: str, resume: bool = False, count: int = 2) -> list[int]:
        """Train, or resume, in several processes with the environment that torchrun gives them; return their ids."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        group["TORCHELASTIC_RUN_ID"] = "chaos"
        ranks = range(count)
        return [
            self.start(name, resume=resume, environment={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in ranks
        ]

    def outcome(self, name: str) -> tuple[list[dict], dict]:
        """What must not depend on how a run came about: the table without its times, and the weights."""
        folder = self.run_folder(name)
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

    def check(self, name: str, expected: tuple[list[dict], dict], ranks: bool = False) -> str:
        """Resume a run that was ended, or start it again if it has no checkpoint yet; what differs, empty if equal."""
        weights = [self.run_folder(name) / "weights" / file for file in WEIGHTS]
        found = next((path for path in weights if path.exists()), None)
        name = name if found else f"{name}-again"
        if not found or not load_checkpoint(found).get("finished"):
            resume = found is not None
            processes = self.start_ranks(name, resume) if ranks else [self.start(name, resume=resume)]
            if any([wait(process) for process in processes]):
                return f"the resumed run failed: {self.log(name)[-500:]}"
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


def wait_for_all(processes: Sequence[int], seconds: float) -> list[int] | None:
    """The exit statuses of processes; None, after they were killed, where one still runs after this time."""
    end, statuses = time.monotonic() + seconds, {}
    while len(statuses) < len(processes):
        for process in processes:
            if process not in statuses and os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                statuses[process] = wait(process)
        if time.monotonic() > end:
            for process in set(processes) - set(statuses):
                os.kill(process, signal.SIGKILL)
                wait(process)
            return None
        time.sleep(0.02)
    return [statuses[process] for process in processes]
