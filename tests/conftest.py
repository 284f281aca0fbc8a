"""Fixtures of several test files: real images if available, a tiny detector, short training runs."""

import os
import sys
from pathlib import Path

import pytest
import yaml

from graftdet.utils.cli import configure_logging

configure_logging()  # tests that call a script's `main` read its log messages from standard output and error

TINY_YAML = """
nc: 3
anchors:
  - [10,13, 16,30, 33,23]
  - [30,61, 62,45, 59,119]
backbone:
  - [-1, 1, Conv, [8, 6, 2, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C3, [16]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [24, 3, 2]]
head:
  - [-1, 1, nn.Upsample, [None, 2, 'nearest']]
  - [[-1, 3], 1, Concat, [1]]
  - [-1, 1, C3, [16, False]]
  - [[7, 4], 1, Detect, [nc, anchors]]
"""


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """A new cache folder for all tests: they neither read nor change what the user's programs remember."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFTDET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def one_thread():
    """One thread of torch: another number sums in another order, and the last digits differ."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def window(monkeypatch):
    """A window of OpenCV without a display: `shown` are the titles and images, `press` returns the code of a key."""
    from types import SimpleNamespace

    import cv2

    window = SimpleNamespace(shown=[], press=lambda milliseconds: -1, visible=1.0)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: window.visible)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: window.shown.append((title, image)))
    monkeypatch.setattr(cv2, "waitKeyEx", lambda milliseconds: window.press(milliseconds))
    return window


@pytest.fixture(scope="session")
def datasets_dir():
    """The folder of real datasets; the test is skipped where it is not there."""
    folder = Path(os.environ.get("DATASETS_DIR", "datasets"))
    if not (folder / "coco_tiny").is_dir():
        pytest.skip(f"no real images: {folder / 'coco_tiny'} is not there (set DATASETS_DIR)")
    return folder.resolve()


@pytest.fixture(scope="session")
def tiny_yaml():
    """The YAML text of a detector of 3 classes, strides 8 and 16, a few thousand parameters."""
    return TINY_YAML


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """A checkpoint of that detector with random weights which detects something everywhere."""
    import torch

    from graftdet.models import ModelSpec, build_model
    from graftdet.utils.checkpoint import save_checkpoint

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(ModelSpec.from_text(TINY_YAML, "tiny.yaml"))
        with torch.no_grad():
            for _ in range(60):  # batch statistics, so that signals reach the head
                model.train().raw_outputs(torch.rand(2, 3, 1, 1).expand(2, 3, 64, 64) * torch.rand(2, 1, 64, 64))
            for conv in model.head.m:
                conv.weight *= 60
                conv.bias.view(3, 8)[:, 4:] = 0
    names = ["circle", "square", "triangle"]
    content = {"yaml": TINY_YAML, "names": names, "nc": 3, "model": model.state_dict(), "options": {"img": 64}}
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "tiny näme.pt", content)


@pytest.fixture
def run_detect(tmp_path):
    """`run_detect(weights, source, *flags)`: runs detect.py by torch in this process; gives the run's folder."""
    from graftdet import detect

    def call(weights, source, *more):
        argv = ["--weights", *(weights if isinstance(weights, list) else [weights]), "--source", source]
        argv += ["--project", tmp_path / "runs", "--device", "cpu", "--backend", "torch", "--conf", 0.3, "--iou", 0.3]
        detect.main([str(argument) for argument in [*argv, *more]])
        return sorted((tmp_path / "runs").iterdir(), key=lambda p: p.stat().st_mtime_ns)[-1]

    return call


@pytest.fixture
def make_card():
    """`make_card(**fields)`: a complete card, with other values of these fields."""
    from dataclasses import replace

    from graftdet.models.weights.pretrained.card import ApComparison, TrainingRecord, WeightsCard

    run = TrainingRecord("python train.py --cfg tiny.yaml", "0123456789abcdef", 7, 8, 12_000, 0.8)
    comparison = ApComparison("BCCD test, 30 epochs", 0.62, 0.591)

    def make(**values):
        card = WeightsCard(
            "tiny.yaml", 1000, "synthetic contours", "Apache-2.0", 320, [run], [comparison], "Small objects."
        )
        return replace(card, **values)

    return make


@pytest.fixture
def shipped(tmp_path, monkeypatch, tiny_yaml, make_card):
    """`shipped(name, text=tiny_yaml, nc=5, names=None, **card)`: random weights in place of those of configs/weights."""
    import torch

    from graftdet.models import ModelSpec, build_model
    from graftdet.models.weights.pretrained import files
    from graftdet.models.weights.weights_file import WeightsFile, save_weights

    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(files, "FOLDER", folder)

    def add(name, text=tiny_yaml, nc=5, names=None, **card):
        with torch.random.fork_rng():
            torch.manual_seed(len(name))
            model = build_model(ModelSpec.from_text(text, f"{name}.yaml"), nc=nc)
        names = names or [f"contour {index}" for index in range(nc)]
        weights = WeightsFile("x", "checkpoint", model.state_dict(), text, names, nc, 64, card=make_card(**card))
        return save_weights(folder / f"{name}.safetensors", weights)

    return add


@pytest.fixture
def restore_registry(monkeypatch):
    """Remove the modules, packages and search paths that a test's plugins add."""
    from graftdet.models import BLOCKS
    from graftdet.models.graph import plugins

    monkeypatch.setattr(BLOCKS, "_entries", dict(BLOCKS._entries))
    monkeypatch.setattr(BLOCKS, "_options", dict(BLOCKS._options))
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_packages", [])
    monkeypatch.setattr(plugins, "_ambiguous", {})
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory, tiny_yaml):
    """A folder with blanks and umlauts that holds a dataset of 24 + 6 images, its YAML and that of a tiny model."""
    from graftdet.data.synthetic.drawn_dataset import draw_shapes

    folder = tmp_path_factory.mktemp("träin here")
    draw_shapes(folder / "shapes", seed=3, count=24)
    data = {"path": str(folder / "shapes"), "format": "coco"}
    for split in ("train", "val"):
        data[split] = {"images": f"images/{split}", "annotations": f"annotations/instances_{split}.json"}
    (folder / "data.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    (folder / "tiny.yaml").write_text(tiny_yaml, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def train_arguments(workspace):
    """`train_arguments(*more)`: a command line for a short run from scratch below `workspace`; later flags win."""
    start = [
        "--cfg",
        workspace / "tiny.yaml",
        "--data",
        workspace / "data.yaml",
        "--weights",
        "none",
        "--img",
        64,
        "--batch",
        8,
        "--device",
        "cpu",
        "--plots",
        "none",
    ]
    return lambda *more: [
        str(argument) for argument in (*start, "--project", workspace / "runs", "--workers", 0, *more)
    ]


@pytest.fixture
def run_train(workspace, train_arguments):
    """`run_train(name, *flags)`: runs train.py in this process; gives the run's folder."""
    from graftdet import train

    def call(name, *more):
        train.main(train_arguments("--name", name, "--exist-ok", *more))
        return workspace / "runs" / name

    return call


@pytest.fixture
def run_train_until(run_train, workspace, monkeypatch):
    """`run_train_until(epoch, name, *flags)`: as `run_train`, but the run dies right behind that epoch's checkpoint."""
    from graftdet.utils.training.run import Run

    class Stop(Exception):
        pass

    finish_epoch = Run.finish_epoch

    def call(epoch, name, *more):
        def stop(run, *results):
            finish_epoch(run, *results)
            if run.state.epoch == epoch:
                raise Stop

        with monkeypatch.context() as patched, pytest.raises(Stop):
            patched.setattr(Run, "finish_epoch", stop)
            run_train(name, *more)
        return workspace / "runs" / name

    return call
