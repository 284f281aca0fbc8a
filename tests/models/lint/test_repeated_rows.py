"""Stacked blocks, in rows whose number is above 1, and blocks of plugins with something wrong inside."""

from pathlib import Path

import pytest

from graftdet.models import build_model, load_plugins
from graftdet.models.lint.check import check_model
from graftdet.utils.errors import UserError

PLUGIN = Path(__file__).resolve().parents[2] / "fixtures" / "plugins" / "flaws.py"

YAML = """
nc: 2
anchors: 3
backbone: [[-1, 1, Conv, [64]], [-1, 1, Disagrees, [64]]]
head: [[[-1], 1, Detect, [nc, anchors]]]
"""

pytestmark = pytest.mark.usefixtures("restore_registry")


def model_of(*row):
    """A Conv of 64 channels, the row, and a one-level Detect."""
    rows = [[-1, 1, "Conv", [64, 3, 2]], [-1, *row]]
    return build_model({"nc": 2, "anchors": 3, "backbone": rows, "head": [[[-1], 1, "Detect", ["nc", "anchors"]]]})


@pytest.mark.parametrize("args", [[64, 3, 2, 1, 1], [64, 4, 2, 1]], ids=str)
@pytest.mark.parametrize("module", ["DWConvTranspose2d", "nn.ConvTranspose2d"])
def test_a_transposed_convolution_with_a_stride_is_not_repeated(module, args):
    with pytest.raises(UserError, match="its number must be 1, got 2"):
        model_of(2, module, args)
    assert model_of(1, module, args).shapes[1] == (64, 640, 640)
    assert model_of(2, module, [64, 3, 1, 1]).shapes[1] == (64, 320, 320)


def test_convolutions_inside_a_block_are_checked():
    load_plugins([PLUGIN])
    with pytest.raises(UserError, match=r"row 1 .*Dilated: the dilation of 'wide' must be at least 1, got 0"):
        model_of(1, "Dilated", [64, 0])


def test_widths_that_disagree_inside_a_block_are_reported(tmp_path):
    load_plugins([PLUGIN])
    with pytest.raises(
        UserError, match=r"row 1 .*Disagrees: cannot run on 64 channels .*expects 64 channels, but reads 32"
    ):
        model_of(1, "Disagrees", [64])
    path = tmp_path / "x.yaml"
    path.write_text(YAML)
    [problem] = check_model(path)
    assert problem.row == 1 and "expects 64 channels, but reads 32" in problem.message


@pytest.mark.parametrize(
    ("module", "args", "new", "stride"), [("Grows", [], 16, 1), ("InceptionB", [0.25], 120, 2)], ids=str
)
def test_each_block_of_a_stack_takes_the_width_of_the_one_before(module, args, new, stride):
    load_plugins([PLUGIN])
    model = model_of(4, module, args)
    assert model.shapes[1] == (64 + 4 * new, 320 // stride**4, 320 // stride**4)
    assert model.block_calls[1].kwargs["c1"] == 64


@pytest.mark.parametrize("module", ["MobileNetV2", "ESNet", "GhostNet"])
def test_a_whole_network_is_not_repeated(module):
    with pytest.raises(UserError, match=f"row 1 .*{module}: gives 3 maps; its number must be 1, got 2"):
        model_of(2, module, [0.5])
