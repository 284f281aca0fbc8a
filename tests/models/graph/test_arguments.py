"""Wrong values in a row's args are reported when the row is built, whether or not torch would accept them."""

import re

import pytest
import torch

from graftdet.models import BLOCKS
from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.graph.plugins import load_plugins
from graftdet.utils.errors import UserError
from tests.models.graph import small_models


def model_of(*rows):
    """A small model: a Conv of 64 channels, `rows`, and a one-level Detect."""
    return small_models.model_of([-1, 1, "Conv", [64, 3, 2]], *rows)


CONVOLUTIONS = [  # torch runs these on an empty batch, and fails with one
    ("Conv", [64, 3, 1, -1], "argument 'p' must be at least 0, got -1"),
    ("Focus", [64, 3, 1, -1], "argument 'p' must be at least 0, got -1"),
    ("SeparableConv", [64, 3, 1, -1], "argument 'p' must be at least 0, got -1"),
    ("BasicConv2d", [64, 3, 1, [0, -1]], "argument 'p' must be at least 0, got [0, -1]"),
    ("DynamicConv", [64, 3, 1, -1], "argument 'p' must be at least 0, got -1"),
    ("nn.Conv2d", [64, 3, 1, -1], "the padding must be at least 0, got -1"),
    ("BasicRFB", [64, 1, 0.1, 0], "argument 'visual' must be a whole number of at least 1, got 0"),
    ("BasicRFB", [64, 1, 0.1, -1], "argument 'visual' must be a whole number of at least 1, got -1"),
    ("DWConvTranspose2d", [64, 4, 2, 1, -1], "argument 'p2' must be at least 0, got -1"),
    ("DWConvTranspose2d", [64, 4, 2, 1, 2], "the output padding must be at least 0 and below the stride 2, got 2"),
    ("nn.ConvTranspose2d", [64, 4, 2, 1, 3], "the output padding must be at least 0 and below the stride 2, got 3"),
]
WHOLE, ABOVE = "must be a whole number of at least 1, got", "must be above 0, got"
NUMBERS = [  # with which a module cannot be built, or does nothing sensible
    ("MobileViTBlock", [64, 96, -1], f"argument 'depth' {WHOLE} -1"),
    ("MobileViTBlock", [64, 96, 0], f"argument 'depth' {WHOLE} 0"),
    ("MobileViTBlock", [64, 96, 2, 0], f"argument 'heads' {WHOLE} 0"),
    ("SandGlass", [64, 1, -6], f"argument 't' {ABOVE} -6"),
    ("SandGlass", [64, 1, 0], f"argument 't' {ABOVE} 0"),
    ("ESBlock", [64, 1, 0], f"argument 'ratio' {ABOVE} 0"),
    ("ESBlock", [64, 1, -1], f"argument 'ratio' {ABOVE} -1"),
    ("SqueezeExcite", [-1], f"argument 'ratio' {ABOVE} -1"),
    ("SqueezeExcite", [0.25, -1], f"argument 'divisor' {WHOLE} -1"),
    ("SEModule", [0], f"argument 'ratio' {ABOVE} 0"),
    ("SEModule", [-1], f"argument 'ratio' {ABOVE} -1"),
    ("SqueezeExcitation", [-1], f"argument 'r' {WHOLE} -1"),
    ("SqueezeExcitation", [4, 0], f"argument 'hidden' {WHOLE} 0"),
    ("SE", [64, 0], f"argument 'r' {WHOLE} 0"),
    ("InceptionA", [0], f"argument 'pool_features' {WHOLE} 0"),
    ("InceptionC", [-1], f"argument 'channels_7x7' {WHOLE} -1"),
    ("SimAM", [64, 0], f"argument 'e_lambda' {ABOVE} 0"),
    ("Contract", [0], f"argument 'gain' {WHOLE} 0"),
    ("C3", [64, True, 1, -1], f"argument 'e' {ABOVE} -1"),
    ("MBConv", [64, 3, 1, -1], f"argument 'expansion' {ABOVE} -1"),
    ("FasterNetBlock", [4, -1], f"argument 'mlp_ratio' {ABOVE} -1"),
    ("DynamicConv", [64, 3, {"num_experts": 0}], f"argument 'num_experts' {WHOLE} 0"),
    ("SEBlock", ["x"], f"argument 'hidden' {WHOLE} 'x'"),
    ("Inception", [64, 96, "128", 16, 32, 32], f"argument 'n3x3' {WHOLE} '128'; write 128 without quotes"),
    ("mobilev3_bneck", [64, [72]], f"argument 'hidden' {WHOLE} [72]"),
]

OMIT_WIDTH_HINT = "; the width is filled in, omit it"
WIDTHS = [  # where a module that does not change the width has something else
    ("ConvNextBlock", [32], f"layer_scale_init_value must be at most 1, got 32{OMIT_WIDTH_HINT}"),
    ("PConv", [32], f"n_div 32 leaves 2 of 64 channels to the convolution{OMIT_WIDTH_HINT}"),
    ("FasterNetBlock", [32], f"n_div 32 leaves 2 of 64 channels to the convolution{OMIT_WIDTH_HINT}"),
    ("SELayer", [128], f"a reduction of 128 leaves no channels of 64{OMIT_WIDTH_HINT}"),
    ("ES_SEModule", [128], f"a reduction of 128 leaves no channels of 64{OMIT_WIDTH_HINT}"),
    ("SqueezeExcitation", [128], f"a reduction of 128 leaves no channels of 64{OMIT_WIDTH_HINT}"),
    ("SEModule", [128], f"a reduction of 128 leaves no channels of 64{OMIT_WIDTH_HINT}"),
    ("SqueezeExcite", [32], f"the ratio must be above 0 and at most 1, got 32{OMIT_WIDTH_HINT}"),
    ("GhostNetBottleneck", [64, 128, 3, 1, -0.5], "the ratio must be above 0 and at most 1, got -0.5"),
    ("DynamicGhostBottleneck", [64, 3, 1, -0.5], "the ratio must be above 0 and at most 1, got -0.5"),
    ("SEModule", [0.5], "a reduction must be at least 1, got 0.5"),
]

KINDS = [  # of values
    ("MixConv2d", [64, 3], "takes a list of kernels, such as [5, 9, 13], got 3"),
    ("MixConv2d", [64, [2, 4]], "odd kernels alone; expected whole numbers such as 5, got 2"),
    ("SPPCSPC", [64, {"k": 5}], "takes a list of kernels, such as [5, 9, 13], got 5"),
    ("SPPCSPC", [64, {"k": []}], "takes a list of kernels, such as [5, 9, 13], got []"),
    ("SPPCSPC", [64, {"k": [4, 8, 12]}], "odd kernels alone; expected whole numbers such as 5, got 4"),
    ("DynamicConv", [64, [1, 3]], "k must be one number, got [1, 3]"),
    ("DynamicConvBnAct", [64, [1, 3]], "k must be one number, got [1, 3]"),
    ("InceptionConv", [64, [3, 3]], "k must be one number, got [3, 3]"),
    ("MobileOneBlock", [64, [3, 3]], "k must be one number, got [3, 3]"),
    ("GBNeck", [64, 128, 3, 1, True, 1.5], "the ratio must be a whole number of at least 1, got 1.5"),
    (
        "MobileNetV2",
        [{"out": [[8]]}],
        "out: expected a list of different strides, some of [2, 4, 8, 16, 32], got [[8]]",
    ),
    ("GhostNet", [{"stages": [[8]]}], "stages: expected a list of different numbers from 0 to 9, got [[8]]"),
    ("ECA", [4], "keeps the width: 64 channels in, 8 asked for; other arguments are named, as {k_size: 3}"),
    ("CBAM", [6], "keeps the width: 64 channels in, 8 asked for; other arguments are named, as {kernel_size: 7}"),
    ("C3", [64, [True]], "argument 'shortcut' is [True], expected true or false"),
    ("FusedMBConv", [64, 3, 1, 1, 0.25], "se_ratio is for an expansion above 1, got 0.25 and 1; write 0"),
    ("InceptionConv", [64, 3, 1, [[1, 1], [1, 2], [2, 1], [2, 2]], 64], "out_channels must be divisible by groups"),
    ("GhostConv", [64, 1, 1, 64], "out_channels must be divisible by groups"),
]


@pytest.mark.parametrize(("module", "args", "message"), [*CONVOLUTIONS, *NUMBERS, *WIDTHS, *KINDS], ids=str)
def test_wrong_numbers_are_reported(module, args, message):
    with pytest.raises(UserError) as caught:
        model_of([-1, 1, module, args])
    text = str(caught.value)
    assert f"] row 1 (backbone row 1) {module}: " in text and text.endswith(message)


def test_another_dimension_of_a_weighted_concat_is_reported():
    with pytest.raises(UserError, match="row 2 .*BiFPN_Concat2: joins maps along their channels: expected .1., got 0"):
        model_of([-1, 1, "Conv", [64]], [[-1, 0], 1, "BiFPN_Concat2", [0]])


def test_values_that_a_flag_accepts():
    for value in (0, 1, None, True, 128):  # a width, which published files may have there, is warned of
        assert bool(model_of([-1, 1, "C3", [64, value]]).model[1].m[0].add) == bool(value)


@pytest.mark.parametrize(("module", "padding"), [("Conv", []), ("BasicConv2d", None), ("nn.Conv2d", [])], ids=str)
def test_an_invalid_padding_is_reported(module, padding):
    with pytest.raises(UserError, match=rf"row 1 .*{module}: cannot run"):
        model_of([-1, 1, module, [64, 3, 1, padding]])


def test_paddings_and_strides_may_be_lists():
    rows = [["Conv", [64, 3, [2]]], ["nn.ConvTranspose2d", [64, 3, 2, 1, [1, 1]]]]
    assert model_of(*[[-1, 1, *row] for row in rows]).shapes[2] == (64, 320, 320)


SCALED = (
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "MobileNeXt",
    "MobileViT",
    "BlazeFace",
    "Xception",
    "InceptionV1",
    "InceptionA",
    "InceptionB",
    "InceptionC",
    "InceptionD",
    "InceptionE",
    "InceptionV3",
    "InceptionResNetReduction",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "GhostNet",
    "ESNet",
)


@pytest.mark.parametrize("module", SCALED)
@pytest.mark.parametrize("width", [64, 0, -1, True, [0.5], None, float("nan")], ids=str)
def test_the_width_multiple_of_a_backbone_is_not_its_output_width(module, width):
    name = "scale" if module == "ESNet" else "width"
    with (
        torch.device("meta"),
        pytest.raises(UserError, match=f"{name}: expected a number above 0 and at most 8.* multiplies all widths"),
    ):
        BLOCKS[module](3, **{name: width})


def test_ranges_and_defaults_are_declared_by_a_plugin(tmp_path):
    path = tmp_path / "declared.py"
    path.write_text(
        "from torch import nn\n"
        "from models import BLOCKS\n"
        "from graftdet.models.blocks.argument_ranges import NON_NEGATIVE, POSITIVE, POSITIVE_INT\n\n"
        "@BLOCKS.register('Declared', arguments={'depth': POSITIVE_INT, 'e': POSITIVE, 'offset': NON_NEGATIVE},\n"
        "                 defaults_with_module={'SPPF': {'depth': 5}}, defaults_by_scale={'ml': {'flag': True}})\n"
        "class Declared(nn.Identity):\n"
        "    def __init__(self, c1, depth=1, e=0.5, offset=0, flag=False):\n"
        "        super().__init__()\n"
        "        self.depth, self.flag = depth, flag\n"
    )
    load_plugins([path])
    for args, message in (
        ([0], "argument 'depth' must be a whole number of at least 1, got 0"),
        ([1, 0.0], "argument 'e' must be above 0, got 0.0"),
        ([1, 1, -1], "argument 'offset' must be at least 0, got -1"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            model_of([-1, 1, "Declared", args])
    assert model_of([-1, 1, "Declared", []]).model[1].depth == 1
    assert model_of([-1, 1, "Declared", []], [-1, 1, "SPPF", [64]]).model[1].depth == 5
    assert model_of([-1, 1, "Declared", [2]], [-1, 1, "SPPF", [64]]).model[1].depth == 2


def test_defaults_by_scale_apply_to_the_listed_scales_only():
    options = BlockOptions(defaults_by_scale={"ml": {"flag": True}})
    assert options.for_model([], "m").scale_defaults == {"flag": True}
    assert options.for_model([], "n") is options and options.for_model([], None) is options


def test_unknown_options_of_a_registration_are_errors():
    with pytest.raises(TypeError, match="width_uot"):
        BLOCKS.register("Misspelled", width_uot="c2")
    with pytest.raises(ValueError, match="rule must be one of infer, stack, plain, got 'stak'"):
        BLOCKS.register("Misspelled", rule="stak")
