"""train.py from the command line: what a run leaves, how it goes on after a kill, what it says to mistakes."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import train
from data.shapes import draw_shapes
from utils import cli
from utils.checkpoint import load_checkpoint
from utils.runs import Run

ROOT = Path(train.__file__).parent
COLUMNS = (
    "epoch,time,lr,train/box,train/obj,train/cls,train/images_per_s,val/AP50-95,val/AP50,val/precision,val/recall"
).split(",")


@pytest.fixture(autouse=True)
def one_thread():
    """Runs are compared to the last digit, and sums over several threads may differ there from run to run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_yaml):
    """A folder with blanks and umlauts that holds a data set of 24 + 6 pictures, its YAML and a tiny model's."""
    folder = tmp_path_factory.mktemp("träin here")
    draw_shapes(folder / "pictures", seed=3, count=24)
    data = {"path": str(folder / "pictures"), "format": "coco"}
    for split in ("train", "val"):
        data[split] = {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}
    (folder / "data.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    (folder / "tiny.yaml").write_text(tiny_yaml, encoding="utf-8")
    return folder


def words(place, *more):
    """A command line for a short run below `place`; later flags win."""
    start = ["--cfg", place / "tiny.yaml", "--data", place / "data.yaml", "--img", 64, "--batch", 8, "--device", "cpu"]
    return [str(word) for word in (*start, "--project", place / "runs", "--workers", 0, *more)]


@pytest.fixture
def go(place, monkeypatch):
    """Runs train.py in this process; gives the run's folder."""

    def call(name, *more):
        monkeypatch.setattr("sys.argv", ["train.py", *words(place, "--name", name, "--exist-ok", *more)])
        train.main()
        return place / "runs" / name

    return call


@pytest.fixture
def resume(monkeypatch):
    def call(*more):
        monkeypatch.setattr("sys.argv", ["train.py", *map(str, more)])
        train.main()

    return call


def command(*more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return {"args": [sys.executable, str(ROOT / "train.py"), *map(str, more)], "env": environment}


def rows(folder):
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def outcome(folder):
    """What must not depend on how the run came about: the table without its times, and the weights."""
    table = [{key: row[key] for key in row if key not in ("time", "train/images_per_s")} for row in rows(folder)]
    return table, {name: load_checkpoint(folder / "weights" / f"{name}.pt")["ema"] for name in ("best", "last")}


def assert_same(one, other):
    assert one[0] == other[0]
    for name in ("best", "last"):
        assert one[1][name].keys() == other[1][name].keys()
        assert all(torch.equal(tensor, other[1][name][key]) for key, tensor in one[1][name].items()), name


@pytest.fixture(scope="module")
def whole(place):
    """A run of 8 epochs that nothing interrupted, in a process of its own; gives its folder and what it printed."""
    done = subprocess.run(**command(*words(place, "--name", "whole", "--epochs", 8)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place / "runs" / "whole", done.stdout


def test_what_a_run_leaves(whole, place):
    folder, told = whole
    table = rows(folder)
    assert list(table[0]) == COLUMNS and [row["epoch"] for row in table] == list("12345678")
    assert all(float(row[key]) >= 0 for row in table for key in COLUMNS)
    times = [float(row["time"]) for row in table]
    assert times == sorted(times)
    assert float(table[-1]["train/obj"]) < float(table[0]["train/obj"]) * 1.5
    pictures = ["labels.png", "results.png", "train_batch0.jpg", "train_batch1.jpg", "train_batch2.jpg"]
    assert all((folder / name).stat().st_size > 1000 for name in pictures)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["options"]["epochs"] == 8 and config["options"]["data"] == str(place / "data.yaml")
    assert config["hyperparameters"]["momentum"] == 0.937 and config["versions"]["torch"] and "commit" in config["versions"]
    assert "epoch 8/8" in told and "triangle" in told and "best possible recall" in told


def test_what_a_checkpoint_holds(whole):
    from models import load_model

    folder, _ = whole
    best = torch.load(folder / "weights" / "best.pt", weights_only=True)
    assert (best["names"], best["nc"], best["finished"]) == (["circle", "square", "triangle"], 3, True)
    assert best["options"]["img"] == 64 and best["hyperparameters"]["lr0"] == 0.01 and "optimizer" not in best
    assert {"format", "version", "yaml", "model", "ema", "epoch", "best", "versions"} <= set(best)
    scores = [0.1 * float(row["val/AP50"]) + 0.9 * float(row["val/AP50-95"]) for row in rows(folder)]
    assert best["best"] == pytest.approx(max(scores), abs=1e-5) and best["epoch"] == scores.index(max(scores)) + 1
    model = load_model(folder / "weights" / "best.pt")
    boxes, found = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert boxes.shape[2] == 4 and found.shape[2] == 3 and model.names == best["names"]


def test_same_seed_same_run_whatever_the_workers(whole, go):
    assert_same(outcome(go("again", "--epochs", 8, "--workers", 2)), outcome(whole[0]))


def test_interrupted_run_goes_on_as_if_nothing_had_been(whole, go, resume, place, monkeypatch):
    class Stop(Exception):
        pass

    finish_epoch = Run.finish_epoch

    def stop_after_three(run, *results):
        finish_epoch(run, *results)
        if run.state.epoch == 3:
            raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(Run, "finish_epoch", stop_after_three)
        go("interrupted", "--epochs", 8)
    folder = place / "runs" / "interrupted"
    assert len(rows(folder)) == 3
    with open(folder / "results.csv", "a") as file:  # the run died after the row and before its checkpoint
        file.write("4,9,0,0,0,0,0,0,0,0,0\n")
    resume("--resume", folder)
    assert_same(outcome(folder), outcome(whole[0]))
    times = [float(row["time"]) for row in rows(folder)]
    assert times == sorted(times)


def test_killed_run_with_workers_goes_on_too(whole, place, resume):
    folder = place / "runs" / "killed"
    last = folder / "weights" / "last.pt"
    settings = command(*words(place, "--name", "killed", "--epochs", 8, "--workers", 2))
    with subprocess.Popen(**settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not last.exists():
            time.sleep(0.02)
        process.kill()
    assert process.returncode != 0, "the run was over before it could be killed"
    assert 1 <= load_checkpoint(last)["epoch"] < 8
    resume("--resume", "--project", folder, "--workers", 2)
    assert_same(outcome(folder), outcome(whole[0]))


def test_finished_run_says_so(whole, capsys, monkeypatch):
    assert_told(["--resume", whole[0]], "finished, 8 epochs", capsys, monkeypatch)


def test_noval_measures_at_the_end_alone(go):
    folder = go("noval", "--epochs", 2, "--noval", "--save-period", 1)
    first, last = rows(folder)
    assert first["val/AP50"] == "" and last["val/AP50"] != ""
    assert sorted(path.name for path in (folder / "weights").iterdir()) == ["best.pt", "epoch1.pt", "epoch2.pt", "last.pt"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--multi-scale", "--cos-lr", "--optimizer", "AdamW", "--set", "lr0=1e-3"],
        ["--rect", "--image-weights", "--set", "close_mosaic=1", "mixup=0.5"],
        ["--single-cls", "--amp", "on", "--imgsz", "50"],
        ["--set", "anchors=2", "--cache", "disk", "--patience", "1"],
    ],
    ids=" ".join,
)
def test_flags(go, flags):
    folder = go("flags", "--epochs", 2, *flags)
    assert len(rows(folder)) == 2
    best = load_checkpoint(folder / "weights" / "best.pt")
    assert best["names"] == (["object"] if "--single-cls" in flags else ["circle", "square", "triangle"])
    anchors = next(tensor for name, tensor in best["ema"].items() if name.endswith("anchors"))
    assert anchors.shape == (2, 2 if "anchors=2" in flags else 3, 2)
    assert best["options"]["img"] == 64  # 50 is no multiple of the stride
    from models import load_model

    load_model(folder / "weights" / "best.pt")


def test_weights_of_other_classes_and_frozen_rows(whole, go, capsys):
    weights = whole[0] / "weights" / "best.pt"
    folder = go("tuned", "--epochs", 1, "--weights", weights, "--single-cls", "--freeze", "4", "--cfg", "")
    assert "class outputs of the head begin anew" in capsys.readouterr().out
    before, after = load_checkpoint(weights)["ema"], load_checkpoint(folder / "weights" / "last.pt")["ema"]
    for name, tensor in after.items():
        row = int(name.split(".")[1])
        if row < 4:
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(after["model.7.cv1.conv.weight"], before["model.7.cv1.conv.weight"])


def test_plugin_block_trains_and_resumes(place, go, tiny_yaml, tmp_path):
    plugin = tmp_path / "my_blocks.py"
    plugin.write_text("import torch.nn as nn\nclass Doubling(nn.Module):\n    def forward(self, x):\n        return 2 * x\n")
    model = tmp_path / "model.yaml"
    model.write_text(tiny_yaml.replace("[-1, 1, C3, [16]]", "[-1, 1, Doubling, []]"))
    assert len(rows(go("plugin", "--cfg", model, "--plugins", plugin, "--epochs", 1))) == 1


def test_two_processes_share_a_run(place):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    settings = command(*words(place, "--name", "two", "--epochs", 2))
    done = subprocess.run(torchrun + settings["args"][1:], env=settings["env"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epoch 2/2") == 1
    folder = place / "runs" / "two"
    assert len(rows(folder)) == 2 and not (place / "runs" / "two2").exists()


def assert_told(flags, told, capsys, monkeypatch):
    """`train.py flags` ends with exit status 2 and one line on standard error that holds `told`."""
    monkeypatch.setattr("sys.argv", ["train.py", *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        cli.run(train.main)
    error = capsys.readouterr().err
    assert end.value.code == 2 and told in error and len(error.strip().splitlines()) == 1, error


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--epocs", "3"], "did you mean '--epochs'"),
        (["--epochs", "0"], "expected a whole number of at least 1, got '0'"),
        (["--img", "big"], "got 'big'"),
        (["--optimizer", "Sgd2"], "--optimizer"),
        (["--cfg", "yolov5q.yaml"], "yolov5q.yaml: no such file"),
        (["--data", "shape.yaml"], "did you mean 'shapes.yaml'"),
        (["--hyp", "yolo.yaml"], "no such file"),
        (["--set", "lro=1"], "unknown hyperparameter 'lro'"),
        (["--weights", "no.pt"], "no.pt: no such file"),
        (["--device", "cuda:77"], "--device cuda:77"),
        (["--freeze", "99"], "rows 0 to 8"),
        (["--plugins", "no.py"], "no.py"),
        (["--resume", "nowhere"], "nowhere"),
        (["--name", "../x"], "--name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(flags, told, place, capsys, monkeypatch):
    start = [] if "--resume" in flags else words(place, "--epochs", 1)
    assert_told(start + flags, told, capsys, monkeypatch)
    assert "--name" in flags or not (place / "runs" / "exp").exists()


def test_text_file_named_like_weights(place, capsys, monkeypatch):
    fake = place / "fake.pt"
    fake.write_text("no weights")
    assert_told(words(place, "--weights", fake), str(fake), capsys, monkeypatch)


def test_a_process_of_its_own_ends_alike(place):
    done = subprocess.run(**command(*words(place, "--data", "none.yaml")), capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "none.yaml" in done.stderr


def test_weights_of_a_backbone_go_into_their_row(place, go, capsys):
    from models.blocks import BLOCKS

    torch.manual_seed(5)
    published = {name: tensor + 1 for name, tensor in BLOCKS["Conv"](3, 8, 6, 2, 2).state_dict().items()}
    torch.save(published, place / "backbone.pt")
    go("into", "--epochs", 1, "--weights", place / "backbone.pt", "--into", 0, "--set", "lr0=0", "warmup_bias_lr=0", "lrf=0")
    assert "into row 0" in capsys.readouterr().out
    state = load_checkpoint(place / "runs/into/weights/best.pt")["ema"]
    assert torch.equal(state["model.0.conv.weight"], published["conv.weight"])
    for flags in (["--into", 0], ["--min-transfer", 0.5]):
        with pytest.raises(cli.UserError, match="--weights"):
            go("into", "--epochs", 1, *flags)
    with pytest.raises(cli.UserError, match="row 99: the model has no such row"):
        go("into", "--epochs", 1, "--weights", place / "backbone.pt", "--into", 99)


@pytest.mark.parametrize("flag", [("--epochs", 100), ("--batch-size", 16), ("--seed", 0), ("--rect",)])
def test_resume_takes_no_other_flag_even_with_its_default(place, resume, flag):
    with pytest.raises(cli.UserError, match=f"{flag[0]} is as the run was started"):
        resume("--resume", place / "runs", *flag)
