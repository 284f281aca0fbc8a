"""Files of YOLOv8 and its successors: the branches of the head are found under their published names."""

import re

import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.weights.families import convert
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError

YAML = {
    "nc": 3,
    "scales": {"n": [0.5, 0.25, 64], "s": [0.5, 0.5, 64]},
    "scale": "s",
    "end2end": True,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 2, "C2f", [32, True]]],
    "head": [[-1, 1, "Conv", [64, 3, 2]], [[2, 3], 1, "Detect", ["nc"]]],
}


def published(light, module="Detect", reg_max=16):
    """A file of the family, made of a model of ours, and that model."""
    spec = {key: value for key, value in YAML.items() if key != "end2end"}
    arguments = {"nc": "nc", "class_light": light, "class_width": 24, "width": 40}
    spec["head"] = [*YAML["head"][:-1], [[2, 3], 1, "AnchorFreeDetect", arguments]]
    model = build_model(spec).eval()
    state = {}
    for name, tensor in model.state_dict().items():
        if ".branches." in name:
            head, branch, level, layer, rest = re.fullmatch(r"(.+)\.branches\.(\w+)\.(\d)\.(\d)\.(.+)", name).groups()
            if light and branch == "cls":
                layer = "2" if layer == "4" else f"{int(layer) // 2}.{int(layer) % 2}"
            name = ".".join((head, {"box": "cv2", "cls": "cv3"}[branch], level, layer, rest))
        state[name] = tensor
    state["model.4.dfl.conv.weight"] = torch.zeros(1, reg_max, 1, 1)
    yaml = {**YAML, "head": [*YAML["head"][:-1], [[2, 3], 1, module, ["nc"]]]}
    return PublishedWeights(state, yaml, nc=3, size=320), model


@pytest.mark.parametrize("module", ["Detect", "v10Detect"])
@pytest.mark.parametrize("light", [False, True])
def test_every_tensor_of_the_head_is_renamed(light, module, tmp_path):
    weights, model = published(light, module)
    converted = convert(weights, tmp_path / "a.pt")
    assert converted.unused == ["model.4.dfl.conv.weight"] and converted.size == 320 and converted.nc == 3
    rebuilt = build_model(ModelSpec.from_dict(converted.yaml)).eval()
    rebuilt.load_state_dict(converted.state)
    images = torch.rand(1, 3, 64, 96)
    for ours, theirs in zip(rebuilt(images), model(images), strict=True):
        assert torch.equal(ours, theirs)


def test_heads_that_are_not_supported_are_named(tmp_path):
    weights, _ = published(True, "Pose")
    with pytest.raises(UserError, match=r"a\.pt: is a model for keypoints \(Pose\)"):
        convert(weights, tmp_path / "a.pt")
    weights, _ = published(True)
    weights.state = {name: t[:4] if re.search(r"cv2\.\d\.2\.", name) else t for name, t in weights.state.items()}
    with pytest.raises(UserError, match="without distributions"):
        convert(weights, tmp_path / "a.pt")
    weights.yaml["head"][-1][2] = "Classify"
    weights.state = {"model.4.linear.weight": torch.zeros(3, 4)}
    with pytest.raises(UserError, match="classification"):
        convert(weights, tmp_path / "a.pt")


def test_an_anchor_based_file_is_not_of_the_family(tmp_path):
    weights = PublishedWeights({"model.4.m.0.weight": torch.zeros(24, 3, 1, 1)}, YAML)
    assert convert(weights, tmp_path / "a.pt") is None
