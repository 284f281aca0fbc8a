"""The activation of a whole model."""

import pytest
from torch import nn

from graftdet.models import ModelSpec, build_model
from graftdet.utils.errors import UserError
from tests.models.graph.small_models import model_of


def test_the_activation_key_applies_to_one_model_only():
    leaky = build_model("yolov5s-LeakyReLU.yaml")
    plain = build_model("yolov5n.yaml")
    assert leaky.model[0].act.negative_slope == 0.1 and isinstance(plain.model[0].act, nn.SiLU)
    with pytest.raises(UserError):
        model_of([-1, 1, "Conv", [16, 3, 0]], activation="nn.ReLU()")
    assert isinstance(build_model("yolov5n.yaml").model[0].act, nn.SiLU)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nn.Hardswish()", nn.Hardswish()),
        ("ReLU6", nn.ReLU6()),
        ("nn.ELU(alpha=0.5)", nn.ELU(0.5)),
        ("torch.nn.LeakyReLU(1e-2, inplace=True)", nn.LeakyReLU(0.01, True)),
        ("nn.GELU('tanh')", nn.GELU("tanh")),
    ],
)
def test_activations_are_read_from_a_table(text, expected):
    model = model_of([-1, 1, "Conv", [16]], activation=text)
    assert repr(model.model[0].act) == repr(expected)


@pytest.mark.parametrize(
    "text", ["nn.Relu7()", "exit()", "nn.ReLU(__import__('os'))", "nn.Sequential()", "", "nn.ReLU(1,2,3)"]
)
def test_invalid_activations_are_reported(text):
    with pytest.raises(UserError, match="activation"):
        model_of([-1, 1, "Conv", [16]], activation=text)


@pytest.mark.parametrize("text", ["nn.Leaky(0.1)", "nn.PReLU(16)", "nn.RReLU(0.9, 0.1)"])
def test_an_invalid_activation_is_reported_with_its_file(text):
    with pytest.raises(UserError, match=r"^x.yaml:2:1: error\[invalid-activation\]: activation: .*" + text[:8]):
        build_model(
            ModelSpec.from_text(
                f"nc: 2\nactivation: {text}\nbackbone: [[-1, 1, Conv, [8]]]\nhead: [[[0], 1, AnchorFreeDetect, [nc]]]",
                "x.yaml",
            )
        )
