"""Whole backbones against the published counts: parameters, multiply-adds at 224x224, widths at strides 8, 16, 32."""

import copy
import itertools

import pytest
import torch
from torch import nn

from graftdet.models import BLOCKS, build_model
from graftdet.models.analysis.summary import summarize
from graftdet.utils.errors import UserError

ALL = [8, 16, 32]


def linear(*widths):
    """Parameters (and, but for the biases, multiply-adds) of linear layers."""
    return sum(a * b + b for a, b in itertools.pairwise(widths))


# module, arguments after the input width, widths of the classifier, parameters, M multiply-adds, widths of the maps.
# Published counts are those of timm and torchvision with 1000 classes.
PUBLISHED = [
    ("MobileNetV1", [1.0], (1024, 1000), 4_231_976, 589, [256, 512, 1024]),
    ("MobileNetV2", [1.0, ALL, True], (1280, 1000), 3_504_872, 328, [32, 96, 1280]),
    ("MobileNetV3", ["small", 1.0, ALL, True], (576, 1024, 1000), 2_542_856, 62, [24, 48, 576]),
    ("MobileNetV3", ["large", 1.0, ALL, True], (960, 1280, 1000), 5_483_032, 234, [40, 112, 960]),
    ("ShuffleNetV2", [0.5, ALL, True], (1024, 1000), 1_366_792, 45, [48, 96, 1024]),
    ("ShuffleNetV2", [1.0, ALL, True], (1024, 1000), 2_278_604, 153, [116, 232, 1024]),
    ("ShuffleNetV2", [1.5, ALL, True], (1024, 1000), 3_503_624, 307, [176, 352, 1024]),
    ("ShuffleNetV2", [2.0, ALL, True], (2048, 1000), 7_393_996, 598, [244, 488, 2048]),
    ("InceptionV1", [1.0], (1024, 1000), 6_624_904, 1510, [480, 832, 1024]),
    ("InceptionV3", [1.0], (2048, 1000), 23_834_568, None, [288, 768, 2048]),
    ("Xception", [1.0], (2048, 1000), 22_855_952, None, [256, 728, 2048]),
    ("MobileViT", ["xxs", 1.0, ALL, True], (320, 1000), 1_272_024, None, [48, 64, 320]),
    ("MobileViT", ["xs", 1.0, ALL, True], (384, 1000), 2_317_848, None, [64, 80, 384]),
    ("MobileViT", ["s", 1.0, ALL, True], (640, 1000), 5_578_632, None, [96, 128, 640]),
]
# The same where the paper states a rounded count, which is given as well.
OWN = [
    ("MobileNeXt", [1.0], (1280, 1000), 3_535_416, 3.4e6, [192, 384, 1280]),
    ("ShuffleNetV1", [1.0, 3], (960, 1000), 1_865_728, None, [240, 480, 960]),
    ("BlazeFace", [1.0, [8, 16]], (), 59_760, None, [96, 96]),
    ("BlazeFace", [1.0], (), 84_024, None, [96, 96, 96]),
]
WITHOUT_LAST = [
    ("MobileNetV2", [], [32, 96, 320]),
    ("MobileNetV3", ["small"], [24, 48, 96]),
    ("MobileNetV3", [], [40, 112, 160]),
    ("ShuffleNetV2", [], [116, 232, 464]),
    ("MobileViT", [], [64, 80, 96]),
]
# narrow forms that keep each test quick
NARROW = {
    "MobileNetV1": [0.25],
    "MobileNetV2": [0.25],
    "MobileNetV3": ["small", 0.5],
    "MobileNeXt": [0.25],
    "ShuffleNetV1": [0.5, 3],
    "ShuffleNetV2": [0.5],
    "InceptionV1": [0.25],
    "InceptionV3": [0.125],
    "Xception": [0.125],
    "BlazeFace": [0.5],
    "MobileViT": ["xxs"],
}


def detector(block_name, args):
    row = {
        "nc": 1,
        "anchors": 3,
        "backbone": [[-1, 1, block_name, args]],
        "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
    }
    return build_model(row)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("block_name", "args", "classifier", "count", "macs", "widths"), PUBLISHED, ids=lambda v: str(v)[:24]
)
def test_counts_equal_published_ones(block_name, args, classifier, count, macs, widths):
    model = detector(block_name, args)
    assert parameters(model.model[0]) + linear(*classifier) == count
    row = summarize(model, (224, 224))[0]
    assert list(row.shapes) == [(c, 224 // s, 224 // s) for c, s in zip(widths, ALL, strict=True)]
    if macs:
        assert row.macs / 1e6 + linear(*classifier) / 1e6 == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("block_name", "args", "classifier", "count", "stated", "widths"), OWN, ids=lambda v: str(v)[:24]
)
def test_counts_are_close_to_the_paper(block_name, args, classifier, count, stated, widths):
    model = detector(block_name, args)
    assert parameters(model.model[0]) + linear(*classifier) == count
    assert stated is None or count == pytest.approx(stated, rel=0.05)
    assert [shape[0] for shape in summarize(model, (128, 128))[0].shapes] == widths


@pytest.mark.parametrize(("block_name", "args", "widths"), WITHOUT_LAST, ids=lambda v: str(v)[:24])
def test_widths_without_the_last_convolution(block_name, args, widths):
    with torch.device("meta"):
        maps = BLOCKS[block_name](3, *args).eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[1] for m in maps] == widths


@pytest.mark.parametrize("block_name", NARROW)
def test_shapes_copies_and_gradients_of_each_backbone(block_name, randomized):
    """One batch and odd sizes, deepcopy, state dict, fused equality, bfloat16, gradients, the same twice."""
    torch.manual_seed(0)
    backbone = randomized(BLOCKS[block_name](3, *NARROW[block_name]))
    x = torch.randn(1, 3, 75, 101)
    with torch.no_grad():
        maps = backbone(x)
        if block_name != "InceptionV1":  # whose pools have no padding: odd sizes are rounded down
            assert [tuple(m.shape[2:]) for m in maps] == [(-(-75 // s), -(-101 // s)) for s in ALL]
        copied = copy.deepcopy(backbone)
        copied.load_state_dict(backbone.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(maps, copied(x), strict=True))
        assert backbone.to(torch.bfloat16)(x.to(torch.bfloat16))[0].dtype == torch.bfloat16
    backbone = copied.train()
    gradients = []
    for _ in range(2):
        backbone.zero_grad()
        sum(m.square().mean() for m in backbone(torch.ones(2, 3, 64, 64) * x[:, :, :64, :64])).backward()
        gradients.append([p.grad.clone() for p in backbone.parameters()])
    assert all(torch.equal(a, b) and a.isfinite().all() for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("block_name", NARROW)
def test_fusing_changes_no_output_and_removes_every_batch_norm(block_name, randomized):
    torch.manual_seed(0)
    model = randomized(detector(block_name, NARROW[block_name]))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = model.model[0](x)
        after = model.fuse().model[0](x)
    assert not [n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() <= 1e-4 * max(1.0, float(a.abs().max()))


@pytest.mark.parametrize("block_name", NARROW)
def test_out_selects_strides_in_order(block_name):
    backbone = BLOCKS[block_name](3, *NARROW[block_name], out=[16, 8])
    with torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[2] for m in maps] == [4, 8]
    assert parameters(backbone) < parameters(BLOCKS[block_name](3, *NARROW[block_name]))  # nothing unused is built


@pytest.mark.parametrize("out", [[8, 7], [], 8, [8, 8], ["8"]])
def test_wrong_strides_are_reported(out):
    with pytest.raises(UserError, match=r"out: expected a list of different strides, some of \[2, 4, 8, 16, 32\]"):
        BLOCKS["MobileNetV2"](3, 0.25, out)


def test_width_multiple_does_not_apply_to_a_backbone():
    spec = {
        "nc": 1,
        "anchors": 3,
        "backbone": [[-1, 1, "MobileNetV2", [1.0]]],
        "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
    }
    assert parameters(build_model({**spec, "width_multiple": 0.25}).model[0]) == parameters(build_model(spec).model[0])


def test_parameter_names_equal_published_ones():
    """A sample of the names of each published state dict."""
    names = {
        ("MobileNetV1", ()): [
            "conv_stem.weight",
            "bn1.weight",
            "blocks.0.0.conv_dw.weight",
            "blocks.3.5.bn2.running_var",
        ],
        ("MobileNetV2", ()): ["features.0.0.weight", "features.1.conv.1.weight", "features.17.conv.3.running_mean"],
        ("MobileNetV3", ()): [
            "features.4.block.2.fc1.bias",
            "features.1.block.0.1.weight",
            "features.15.block.3.0.weight",
        ],
        ("MobileNeXt", ()): ["features.0.0.weight", "features.1.conv.8.weight", "features.20.conv.0.weight"],
        ("ShuffleNetV2", ()): ["conv1.0.weight", "stage2.0.branch1.3.running_var", "stage4.3.branch2.6.bias"],
        ("InceptionV1", ()): [
            "conv1.conv.weight",
            "inception3a.branch2.0.conv.weight",
            "inception5b.branch4.1.bn.bias",
        ],
        ("InceptionV3", ()): [
            "Conv2d_1a_3x3.conv.weight",
            "Mixed_6b.branch7x7dbl_5.bn.weight",
            "Mixed_7c.branch3x3_2a.conv.weight",
        ],
        ("Xception", ()): [
            "conv1.weight",
            "block1.rep.0.conv1.weight",
            "block12.skipbn.bias",
            "block4.rep.7.pointwise.weight",
        ],
        ("MobileViT", ("xs",)): [
            "stem.conv.weight",
            "stages.1.2.conv2_kxk.bn.weight",
            "stages.3.1.transformer.3.attn.qkv.bias",
            "stages.2.1.norm.weight",
            "stages.4.1.conv_fusion.conv.weight",
        ],
    }
    for (block_name, args), wanted in names.items():
        with torch.device("meta"):
            have = BLOCKS[block_name](3, *args).state_dict()
        assert not set(wanted) - set(have), block_name
