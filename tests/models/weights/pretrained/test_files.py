"""Pretrained weights by name, in every place that takes a weights file; what is in configs/weights fits in the wheel."""

import shutil

import numpy as np
import pytest

from graftdet import export, val
from graftdet.models import load_model
from graftdet.models.backends.selection import export_cache, remembered
from graftdet.models.backends.selection.ways import installed_backends
from graftdet.models.weights.pretrained.card import card_markdown
from graftdet.models.weights.pretrained.files import find_weights, list_pretrained, weights_files
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.config import CONFIGS
from graftdet.utils.errors import UserError

MAX_BYTES, MAX_BYTES_TOGETHER = 4_000_000, 16_000_000


@pytest.mark.parametrize("path", weights_files(), ids=lambda path: path.name)
def test_files_of_the_repository_are_small_complete_and_usable(path):
    weights = load_weights(path.stem)
    model = build_from_weights(weights)
    card = weights.card
    assert path.stat().st_size <= MAX_BYTES
    assert card.license == "Apache-2.0" and card.trained_on and card.limits and card.runs and card.ap
    assert all(run.command and run.commit and run.images and run.hours for run in card.runs)
    assert card.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (CONFIGS / "models" / card.model).is_file()
    assert path.with_suffix(".md").read_text(encoding="utf-8") == card_markdown(path.stem, card)


def test_files_of_the_repository_together():
    folder = CONFIGS / "weights"
    assert sum(path.stat().st_size for path in weights_files()) <= MAX_BYTES_TOGETHER
    others = {path.name for path in folder.iterdir()} - {path.name for path in weights_files()}
    assert others == {"README.md", *(f"{path.stem}.md" for path in weights_files())}


def test_a_local_file_comes_before_the_pretrained_one(shipped, tmp_path, monkeypatch):
    path = shipped("tiny-n")
    monkeypatch.chdir(tmp_path)
    assert find_weights("tiny-n") == find_weights("tiny-n.safetensors") == path
    (tmp_path / "tiny-n").mkdir()  # a folder is not a weights file
    assert find_weights("tiny-n") == path
    local = shutil.copy(path, tmp_path / "tiny-n.safetensors")
    assert find_weights("tiny-n.safetensors").absolute() == local and find_weights("tiny-n") == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny-m", "tiny-m: no such file; weights are never downloaded, .* did you mean 'tiny-n'?"),
        ("tiny-n.pt", "tiny-n.pt: no such file; weights are never downloaded"),
        ("runs/tiny-n", "runs/tiny-n: no such file$"),
        ("xyzzy", "xyzzy: no such file; weights are never downloaded, expected the path of a file$"),
        (
            "yolox_s.pth",
            "yolox_s.pth: no such file; .*YOLOX: published in releases of .*YOLOX on GitHub, license Apache",
        ),
        ("v9-s.pt", r"YOLOv9 \(MIT\): published in releases of MultimediaTechLab/YOLO on GitHub, license MIT$"),
        ("yolov5nu.pt", "YOLOv8, .*: published in releases of ultralytics/assets"),
        ("nanodet-plus-m_416.pth", "NanoDet-Plus: published in releases of RangiLyu/nanodet"),
        ("picodet_s_320_coco.pdparams", "PicoDet: published in configs/picodet of PaddlePaddle/PaddleDetection"),
        ("rtmdet_tiny.pth", "RTMDet: published in configs/rtmdet of open-mmlab/mmdetection"),
        ("mobilenet_v2-b0353104.pth", "backbones of torchvision: published in pytorch/vision"),
        ("PPLCNet_x1_0_pretrained.pdparams", "backbones of PaddlePaddle: published in PaddlePaddle/PaddleClas"),
        ("mobilenetv3_small_100.safetensors", "models of timm: published in timm on Hugging Face"),
    ],
)
def test_unknown_names(name, message, shipped):
    shipped("tiny-n")
    with pytest.raises(UserError, match=message):
        load_model(name)


def test_malformed_pretrained_files_are_reported(shipped):
    shipped("tiny-n").write_bytes(b"")
    with pytest.raises(UserError, match="tiny-n.safetensors: is empty"):
        list_pretrained()


def test_the_scripts_take_the_name(shipped, workspace, tmp_path, monkeypatch):
    path = shipped("tiny-n", nc=3, names=["circle", "square", "triangle"])
    monkeypatch.chdir(tmp_path)
    detector = load_model("tiny-n")
    assert detector.names == ["circle", "square", "triangle"] and detector.train_size == 64
    common = ["--weights", "tiny-n", "--data", str(workspace / "data.yaml"), "--workers", "0", "--device", "cpu"]
    for weights in ("tiny-n", str(path)):
        common[1] = weights
        assert val.main([*common, "--project", str(tmp_path), "--conf", "0.001"]).images == 6
    result = export.export_model("tiny-n")
    assert [file.path.name for file in result.files] == ["tiny-n.onnx"] and (tmp_path / "tiny-n.onnx").is_file()


def test_cached_exports_of_pretrained_weights_are_in_the_users_cache(shipped, tmp_path, monkeypatch):
    path = shipped("tiny-n", nc=3)
    for module in (export_cache, remembered):
        monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    name = next(iter(installed_backends()))
    one, other = (load_model("tiny-n", backend=way).predict(image, conf=0, nms="none")[0] for way in (name, "torch"))
    assert len(one) == len(other) and np.abs(one.scores - other.scores).max() < 0.01
    assert not (path.parent / "exported").exists() and len(list((tmp_path / "cache").rglob("tiny-n-*.onnx"))) == 1
