"""Files that cannot be loaded: the message names what they are."""

import pytest
import torch

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.__main__ import main
from graftdet.models.weights.transfer import build_from_weights, load_into
from graftdet.models.weights.weights_file import WeightsFile, load_weights
from graftdet.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.mnn", "MNN"), ("a.engine", "TensorRT"), ("a.param", "ncnn")],
)
def test_files_of_other_runtimes_are_named(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"x")
    for read in (load_model, load_weights, lambda path: main(["summary", str(path)])):
        with pytest.raises(UserError, match=f"{name}: is .*{kind}.*use the .pt or .onnx file"):
            read(tmp_path / name)


def test_folders_of_other_runtimes_are_named(tmp_path):
    for folder, file, text in (
        ("best_openvino_model", "best.xml", "OpenVINO model; give its file, .*best.xml"),
        ("best_saved_model", "saved_model.pb", "TensorFlow SavedModel"),
        ("best_ncnn_model", "model.ncnn.param", "an ncnn model"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"x")
        with pytest.raises(UserError, match=f"{folder}: is .*{text}"):
            load_weights(tmp_path / folder)


def test_pruned_models_and_landmarks_are_named(tiny_yaml):
    spec = ModelSpec.from_text(tiny_yaml, "tiny.yaml")
    state = build_model(spec).state_dict()
    pruned = {**state, "model.1.conv.weight": state["model.1.conv.weight"][:, :3]}
    with pytest.raises(UserError, match=r"a\.pt: .* 1 of its layers are narrower .* pruned"):
        build_from_weights(WeightsFile("a.pt", "published", pruned, tiny_yaml, nc=3))
    faces = dict(state)
    for name in [name for name in state if name.startswith("model.8.m.")]:
        faces[name] = torch.cat((state[name], state[name], state[name]))[: 3 * (5 + 3 + 10)]
    with pytest.raises(UserError, match="predicts 5 landmarks per box"):
        build_from_weights(WeightsFile("a.pt", "published", faces, tiny_yaml, nc=3))


def test_weights_of_another_architecture_are_named():
    weights = build_model("yolov5n.yaml")
    file = WeightsFile("yolov5n.pt", "checkpoint", weights.state_dict(), weights.yaml_text, nc=80)
    with pytest.raises(UserError, match="another architecture: v5Lite-e.yaml consists of .*Shuffle_Block.*omit --cfg"):
        load_into(build_model("v5Lite-e.yaml"), file)


def test_a_state_dict_that_does_not_fit_names_cfg_and_into():
    file = WeightsFile("backbone.pth", "state dict", {"conv_stem.weight": torch.zeros(3, 3, 3, 3)})
    with pytest.raises(UserError, match="none of its 1 tensor fits .*; give the model YAML .* --cfg, or with --into"):
        load_into(build_model("yolov5n.yaml"), file)


def test_openvino_files_start_no_training(tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(UserError, match=r"model\.xml: is an exported OpenVINO model, .*need the \.pt or \.onnx file"):
        load_weights(tmp_path / "model.xml")
