"""Several processes on one run, as torchrun starts them: they are one process, and they end together."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graftdet import train
from graftdet.data.dataset import DetectionDataset
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.loader import val_loader
from graftdet.models import load_model
from graftdet.utils.evaluation.evaluator import evaluate

ROOT = Path(train.__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def table(folder):
    with open(folder / "results.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("head", ["Detect, [nc, anchors]", "AnchorFreeDetect, {nc: nc, width: 16}"])
def test_training_with_two_processes_equals_one_process(workspace, tiny_yaml, train_arguments, run_train, head):
    model = workspace / "two.yaml"
    model.write_text(tiny_yaml.replace("Detect, [nc, anchors]", head), encoding="utf-8")
    arguments = ["--cfg", model, "--hyp", "yolov5.yaml", "--epochs", 2]
    started = subprocess.run(
        [*TORCHRUN, str(ROOT / "train.py"), *train_arguments("--name", "two", "--exist-ok", *arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, f"{started.stderr[:3000]} ... {started.stderr[-1000:]}"
    assert started.stdout.count("epoch 2/2") == 1 and not (workspace / "runs" / "two2").exists()
    both, alone = table(workspace / "runs" / "two"), table(run_train("one", *arguments))
    for together, single in zip(both, alone, strict=True):
        for key in set(single) - {"time", "train/images_per_s"}:  # rounding in the weights moves a few weak detections
            is_loss = key.startswith("val/") and key.replace("val", "train") in single  # mean over other batches
            limits = {"rel": 0.02 if is_loss else 1e-5, "abs": 1e-5 if key[:5] == "train" else 2e-3}
            assert together[key] == pytest.approx(single[key], **limits), key


class Part:
    """Stands for one of several processes: what it gathers goes into one list, which the last of them gets."""

    def __init__(self, box, world_size):
        self.box, self.world_size, self.is_main = box, world_size, False

    def broadcast_state(self, model):
        pass

    def gather(self, value):
        self.box.append(value)
        return self.box if len(self.box) == self.world_size else None


def test_validation_in_parts_equals_validation_in_one_process(workspace, tiny_weights):
    split = open_split(load_data_config(workspace / "data.yaml"), "train")
    about = {"ground_truth": split.ground_truth(), "category_ids": split.category_ids, "progress": False}
    dataset, box = DetectionDataset(split, 64, rect=True), []
    model = load_model(tiny_weights).model.double()  # a batch's last bits depend on its size: below what is compared
    in_one_process = evaluate(model, val_loader(dataset, 5), **about)
    loaders = [val_loader(dataset, 5, rank=rank, world_size=3) for rank in range(3)]
    *none, parts = [evaluate(model, loader, ranks=Part(box, 3), **about) for loader in loaders]
    assert none == [None, None] and len(in_one_process.predictions) > 100
    assert (
        parts.predictions == in_one_process.predictions
        and parts.metrics == in_one_process.metrics
        and parts.images == 24
    )
    last = [len(list(loader)) for loader in loaders]
    assert last == [5, 5, 5] and [len(list(val_loader(dataset, 23, rank=rank, world_size=2))) for rank in (0, 1)] == [
        2,
        1,
    ]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_process_that_dies_ends_the_other_with_a_message(workspace, train_arguments):
    """Without torchrun's agent, which would end it: as on two machines."""
    group = {**ENVIRONMENT, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = train_arguments("--name", "dying", "--epochs", 500, "--noval")
    main, other = (
        subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *arguments],
            env={**group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    )
    try:
        last = workspace / "runs" / "dying" / "weights" / "last.pt"
        while not last.exists() and main.poll() is None and other.poll() is None:
            time.sleep(0.05)
        other.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        message = main.communicate(timeout=60)[1]
    finally:
        for process in (main, other):
            process.kill()
            process.wait()
    assert main.returncode == 2 and "process 0 of 2: another process" in message and "Traceback" not in message


def test_the_older_launcher_with_its_flags(workspace, train_arguments):
    """`torch.distributed.launch`, as YOLOv5's documentation writes it, appends --local-rank to the command line."""
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.launch",
        "--nproc_per_node",
        "2",
        "--master_port",
        str(free_port()),
    ]
    arguments = train_arguments("--name", "launched", "--epochs", 1, "--noval", "--batch", "4")
    done = subprocess.run(
        [*launch, str(ROOT / "train.py"), *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(table(workspace / "runs" / "launched")) == 1


def test_torchrun_ends_when_a_process_dies(workspace, train_arguments, tmp_path):
    plugin = tmp_path / "dying.py"
    plugin.write_text("import os\nif os.environ.get('RANK') == '1':\n    os._exit(7)\n", encoding="utf-8")
    arguments = train_arguments("--name", "dies", "--epochs", 500, "--plugins", plugin)
    done = subprocess.run(
        [*TORCHRUN, str(ROOT / "train.py"), *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and "exitcode  : 7" in done.stderr
