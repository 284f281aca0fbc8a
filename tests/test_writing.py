"""Errors of writing are one line: files in the way, read-only folders, full disks."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graftdet import detect, train, val
from graftdet.data.synthetic.drawn_dataset import draw_shapes
from graftdet.utils import cli
from graftdet.utils.checkpoint import save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.files import new_run_folder, write_errors
from graftdet.utils.images.video import VideoWriter
from graftdet.utils.training.results import ResultsTable

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_yaml):
    """A small dataset, the tiny model's YAML, and a file where folders are wanted."""
    folder = tmp_path_factory.mktemp("workspace")
    draw_shapes(folder / "shapes", seed=3, count=8)
    splits = "".join(
        f"{s}: {{images: images/{s}, annotations: annotations/instances_{s}.json}}\n" for s in ("train", "val")
    )
    (folder / "data.yaml").write_text(f"path: '{(folder / 'shapes').as_posix()}'\nformat: coco\n{splits}")
    (folder / "tiny.yaml").write_text(tiny_yaml)
    (folder / "file").write_text("in the way")
    return folder


def error_line(main, capfd):
    """Call `main` as a script does; it must end with status 2. Returns its one line."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    output = capfd.readouterr().err
    assert ended.value.code == 2 and output.count("\n") == 1, output
    return output


def training(workspace, *more):
    arguments = [
        "--cfg",
        workspace / "tiny.yaml",
        "--data",
        workspace / "data.yaml",
        "--weights",
        "none",
        "--img",
        64,
        "--batch-size",
        8,
        "--device",
        "cpu",
    ]
    return [str(argument) for argument in (*arguments, "--epochs", 1, "--workers", 0, *more)]


@pytest.mark.parametrize("name", ["file", "file/below", "file/further/below"])
@pytest.mark.parametrize("flags", [[], ["--exist-ok"]], ids=["", "exist-ok"])
def test_a_file_in_the_way_of_the_project(name, flags, workspace, tiny_weights, capfd):
    project = ["--project", str(workspace / name), *flags]
    source = ["--source", str(workspace / "shapes" / "images" / "val")]
    common = ["--weights", str(tiny_weights), "--device", "cpu", *project]
    for main in (
        lambda: train.main(training(workspace, *project)),
        lambda: val.main(["--data", str(workspace / "data.yaml"), "--workers", "0", *common]),
        lambda: detect.main([*source, *common]),
    ):
        assert str(workspace / "file") in error_line(main, capfd)


def test_a_file_in_the_way_is_reported_on_systems_that_raise_file_exists(tmp_path, monkeypatch):
    """Windows raises it for PROJECT/NAME if PROJECT is a file; the search for a free name would never end."""
    (tmp_path / "runs").write_text("")

    def refuse(self, *args, **kwargs):
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="runs: is a file"):
        new_run_folder(tmp_path / "runs")


@pytest.mark.parametrize("name", ["weights", "results.csv", "config.yaml", "labels.png", "weights/last.pt"])
def test_files_and_folders_in_the_way_inside_a_run(name, workspace, tmp_path, capfd):
    taken = tmp_path / "exp" / name
    taken.parent.mkdir(parents=True)
    taken.write_text("") if name == "weights" else (taken / "folder").mkdir(parents=True)
    arguments = training(workspace, "--project", str(tmp_path), "--exist-ok")
    assert f"{taken}: " in error_line(lambda: train.main(arguments), capfd)


def test_errors_of_checkpoints_and_tables_name_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.last.pt: cannot be written"):
        save_checkpoint(tmp_path / "file" / "last.pt", {})
    table = ResultsTable(tmp_path / "results.csv")
    (tmp_path / "results.csv").unlink()
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(UserError, match="results.csv: cannot be written"):
        table.add({"epoch": 1})
    with pytest.raises(UserError, match=r"runs: cannot be written \(No space"), write_errors("runs"):
        raise OSError(errno.ENOSPC, "No space left on device")


def full_after(kilobytes):
    """Limits the files that this process may write: what a full disk does to them."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kilobytes, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_with_the_file(tmp_path):
    frames = [np.random.default_rng(n).integers(0, 256, (64, 64, 3), np.uint8) for n in range(40)]
    release = full_after(16)
    try:
        with pytest.raises(UserError, match="last.pt: cannot be written"):  # torch's own error is no OSError
            save_checkpoint(tmp_path / "last.pt", {"model": {"weight": torch.zeros(50_000)}})
        with pytest.raises(UserError, match="video.mp4: cannot be written"), VideoWriter(tmp_path / "video") as video:
            for frame in frames:  # OpenCV reports nothing
                video.write(frame)
        with pytest.raises(UserError, match="video.avi: cannot be written"), VideoWriter(tmp_path / "video") as video:
            for frame in frames:
                video.write(frame[:63])
    finally:
        release()
    assert "last.pt" not in os.listdir(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_report_into_a_full_disk():
    with open("/dev/full", "w") as full:
        code = "from graftdet.utils import cli; cli.run(lambda: print('x' * 100_000))"
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert done.returncode == 2 and done.stderr == "error: output: No space left on device\n"
