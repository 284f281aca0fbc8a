"""Building: known architectures, channel rules, scaling, strides, errors with their row, fusing."""

import copy

import pytest
import torch
from torch import nn

from graftdet.models import ModelSpec, build_model
from graftdet.models.graph.arguments import scale_depth
from graftdet.models.spec.scales import scale_width
from graftdet.utils.config import CONFIGS
from graftdet.utils.errors import UserError

# parameter counts of the published architectures at 80 classes
PUBLISHED = {
    "yolov5n": 1872157,
    "yolov5s": 7235389,
    "yolov5m": 21190557,
    "yolov5l": 46563709,
    "yolov5n6": 3246940,
    "yolov5s6": 12626620,
    "yolov5m6": 35731932,
    "yolov5s-ghost": 3897605,
    "yolov5s-transformer": 7235645,
    "yolov5s-LeakyReLU": 7235389,
    "yolov3-tiny": 8852366,
    "yolov3": 61949149,
    "yolov3-spp": 62998749,
    "yolov5-fpn": 41117565,
    "yolov5-panet": 46563709,
    "yolov5-p2": 47493372,
}
ANCHORS = [[10, 13, 16, 30, 33, 23]]


def model_of(*rows, nc=2, head=None, **keys):
    """A small model: `rows` and a one-level Detect on the last of them."""
    head = head or [[[-1], 1, "Detect", ["nc", "anchors"]]]
    return build_model({"nc": nc, "anchors": ANCHORS, "backbone": list(rows), "head": head, **keys})


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    with torch.device("cpu"):
        model = build_model(f"{name}.yaml")
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


def test_strides_of_many_levels():
    assert build_model("yolov3-tiny.yaml").stride.tolist() == [16, 32]
    assert build_model("yolov5-p34.yaml").stride.tolist() == [8, 16]
    assert build_model("yolov5n6.yaml").stride.tolist() == [8, 16, 32, 64]


def test_a_stride_that_does_not_fit_the_probe_size():
    rows = [[-1, 1, "Conv", [8, 3, 2]]] * 9
    assert model_of(*rows).stride.tolist() == [512]


def test_strides_that_do_not_divide_the_probe_size_are_integers():
    model = model_of([-1, 1, "Conv", [8, 3, 3]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]])
    assert model.stride.tolist() == [12] and model.size_multiple == 12


@pytest.mark.parametrize(
    ("width", "multiple", "expected"), [(116, 1.0, 120), (64, 0.25, 16), (255, 1.0, 256), (8, 0.1, 8)]
)
def test_scale_width(width, multiple, expected):
    assert scale_width(width, multiple) == expected


@pytest.mark.parametrize(
    ("number", "multiple", "expected"), [(1, 3.0, 1), (3, 0.33, 1), (9, 0.33, 3), (6, 0.33, 2), (3, 1.33, 4)]
)
def test_scale_depth(number, multiple, expected):
    assert scale_depth(number, multiple) == expected


def test_width_is_scaled_whatever_its_value():
    # 21 = anchors * (5 + nc): an output width like that of a head is scaled like any other
    model = model_of([-1, 1, "Conv", [21, 1, 1]], width_multiple=0.5)
    assert model.shapes[0][0] == 16


def test_only_the_first_of_repeated_blocks_changes_stride_and_width():
    model = model_of([-1, 3, "Conv", [32, 3, 2]])
    assert model.shapes[0] == (32, 320, 320)
    assert [m.conv.in_channels for m in model.model[0]] == [3, 32, 32]


def test_number_is_an_argument_of_c3_and_stacks_other_blocks():
    model = model_of([-1, 4, "C3", [16]], [-1, 4, "Bottleneck", [16]], depth_multiple=0.5)
    assert len(model.model[0].m) == 2 and len(model.model[1]) == 2


def test_torch_layers_by_name():
    model = model_of(
        [-1, 1, "nn.Conv2d", [16, 3, 2, 1]],
        [-1, 1, "nn.BatchNorm2d", [999]],
        [-1, 1, "nn.ReLU", []],
        [-1, 1, "nn.ConvTranspose2d", [8, 2, 2]],
        [-1, 1, "nn.GroupNorm", [4]],
        [-1, 1, "nn.PixelUnshuffle", [2]],
    )
    assert [s[0] for s in model.shapes[:6]] == [16, 16, 16, 8, 8, 32]


def test_keyword_arguments_and_names():
    model = model_of(
        [-1, 1, "Conv", {"c2": 16, "k": 3, "s": 2}, "p1"],
        [-1, 1, "Conv", [16, {"act": "nn.ReLU()"}]],
        [["p1", -1], 1, "Concat", [1]],
    )
    assert isinstance(model.model[1].act, nn.ReLU) and model.shapes[2][0] == 32


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


BAD_ROWS = [
    (["Convv", [16]], "row 1 (backbone row 1): 'Convv' is not a known module; did you mean 'Conv'?"),
    (["nn.Conv3", [16]], "torch.nn has no layer 'Conv3'"),
    (["Conv", []], "row 1 (backbone row 1) Conv: argument 'c2' is missing"),
    (["Conv", [16, 3, 1, None, 1, 1, True, 9]], "takes at most 7 arguments"),
    (["Conv", [16, {"kk": 3}]], "has no argument 'kk'"),
    (["Conv", ["16"]], "output width (c2) must be a whole number"),
    (["Conv", [16, 3, 1, None, 3]], "groups"),
    (["C3", [16, {"n": 3}]], "filled in by the parser"),
    (["GhostBottleneck", [24, 3, 1]], "at stride 1 the width stays"),
    (["Concat", [1]], "Concat: cannot run on 16 channels"),
    (["nn.Flatten", []], "expected a map"),
    (["Detect", ["nc", "anchors"]], "must be the last row"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_errors_name_the_row(row, message):
    with pytest.raises(UserError) as caught:
        model_of([-1, 1, "Conv", [16]], [-1, 1, *row])
    assert message in str(caught.value)


def test_join_of_different_sizes_names_both_rows():
    rows = [[-1, 1, "Conv", [16, 3, 2], "p1"], [-1, 1, "Conv", [16, 3, 2]], [[-1, "p1"], 1, "Concat", [1]]]
    with pytest.raises(UserError) as caught:
        model_of(*rows)
    assert (
        "row 2 (backbone row 2) Concat: inputs differ in size: row 1 is 160x160 and row 0 ('p1') is 320x320 at 640x640"
        in str(caught.value)
    )


def test_head_levels_and_anchors_must_agree():
    with pytest.raises(UserError, match="anchors for 1 levels, but 'from' names 2"):
        model_of([-1, 1, "Conv", [16]], [-1, 1, "Conv", [16]], head=[[[0, 1], 1, "Detect", ["nc", "anchors"]]])
    with pytest.raises(UserError, match="last row must be a head"):
        model_of([-1, 1, "Conv", [16]], head=[[-1, 1, "Conv", [16]]])


@pytest.mark.parametrize("name", ["yolov5n", "yolov5s-ghost", "yolov5s-transformer", "yolov3-tiny"])
def test_fuse_preserves_the_outputs(name):
    torch.manual_seed(0)
    model = build_model(f"{name}.yaml")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    model.eval()
    fused = copy.deepcopy(model).fuse()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        for before, after in zip(model.raw_outputs(images), fused.raw_outputs(images), strict=True):
            assert (before - after).abs().max() <= 1e-4 * before.abs().max()


def test_batch_norms_follow_the_recipe():
    layers = [m for m in build_model("yolov5n.yaml").modules() if isinstance(m, nn.BatchNorm2d)]
    assert layers and all((m.eps, m.momentum) == (1e-3, 0.03) for m in layers)


def test_all_yamls_build_and_name_their_file():
    for path in sorted((CONFIGS / "models").glob("*.yaml")):
        if path.stem.endswith(("x", "x6", "l6", "p7", "p6")):  # the same rows at other multiples
            continue
        assert build_model(path.name).spec.file == path.name


def test_other_channels_and_classes():
    model = build_model("yolov5n.yaml", nc=4, ch=1)
    boxes, scores = model.eval()(torch.rand(1, 1, 64, 96))
    assert boxes.shape == (1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 4) and scores.shape[-1] == 4
    assert model.names == ["0", "1", "2", "3"]


def test_powers_of_ten_without_a_point_are_numbers():
    """YAML reads 1e-4 as text."""
    rows = [-1, 1, "SimAM", [16, "1e-4"]], [-1, 1, "C3", [16, {"e": "5E-1"}]], [-1, 1, "nn.LeakyReLU", ["-1e-1"]]
    model = model_of([-1, 1, "Conv", [16]], *rows)
    assert (
        model.model[1].e_lambda == 1e-4
        and model.model[2].cv1.conv.out_channels == 8
        and model.model[3].negative_slope == -0.1
    )
    with pytest.raises(UserError, match="'k' must be a whole number"):
        model_of([-1, 1, "Conv", [16, "3e0"]])


def test_lazy_layers_get_their_width():
    model = model_of([-1, 1, "Conv", [16]], [-1, 1, "nn.LazyConv2d", [24, 3, 1, 1]], [-1, 1, "nn.LazyBatchNorm2d", []])
    assert model.shapes[2][0] == 24 and model.train()(torch.rand(2, 3, 32, 32))


def test_huge_numbers_are_reported_without_building_the_row():
    for spec, message in (
        (
            {"depth_multiple": 1e6},
            "row 0 (backbone row 0) C3: its number 3 x the depth multiple 1e+06 is 3000000, expected at most 1000",
        ),
        ({"rows": [[-1, 2000, "C3", [16]]]}, "number must be at most 1000, got 2000"),
        ({"rows": [[-1, 1, "Conv", [2**21]]]}, "the output width (c2) must be at most 1048576, got 2097152"),
        ({"head": [[[0], 1, "PicoHead", ["nc", 101]]]}, "before the last, must be at most 100, got 101"),
    ):
        values = {
            "nc": 2,
            "backbone": spec.pop("rows", [[-1, 3, "C3", [16]]]),
            "head": [[[0], 1, "AnchorFreeDetect", ["nc"]]],
            **spec,
        }
        with pytest.raises(UserError) as caught:
            build_model(values)
        assert message in str(caught.value)


def test_a_join_is_not_repeated():
    with pytest.raises(UserError, match="row 2 .* Concat: joins maps; its number must be 1, got 3"):
        model_of([-1, 1, "Conv", [16]], [-1, 1, "Conv", [16]], [[-1, 0], 3, "Concat", [1]])


@pytest.mark.parametrize("text", ["nn.Leaky(0.1)", "nn.PReLU(16)", "nn.RReLU(0.9, 0.1)"])
def test_an_invalid_activation_is_reported_with_its_file(text):
    with pytest.raises(UserError, match=r"^x.yaml:2:1: error\[invalid-activation\]: activation: .*" + text[:8]):
        build_model(
            ModelSpec.from_text(
                f"nc: 2\nactivation: {text}\nbackbone: [[-1, 1, Conv, [8]]]\nhead: [[[0], 1, AnchorFreeDetect, [nc]]]",
                "x.yaml",
            )
        )


def test_a_head_written_for_other_classes_is_reported():
    head = [[[-1], 1, "Detect", [80, "anchors"]]]
    assert model_of([-1, 1, "Conv", [16]], nc=80, head=head).nc == 80
    with pytest.raises(UserError, match="row 1 \\(head row 0\\) Detect: is written for 80 classes, but nc is 2"):
        model_of([-1, 1, "Conv", [16]], head=head)


LIST_FROM = [
    ([[-1], 1, "Conv", [16, 3]], "Conv: reads one map, but 'from' is a list; write -1"),
    (
        [[-1, 0], 1, "Conv", [16, 3]],
        "Conv: reads one map, but 'from' is a list; join them first: [[-1, 0], 1, Concat, [1]]",
    ),
    ([[-1], 1, "nn.Upsample", ["None", 2, "nearest"]], "nn.Upsample: reads one map, but 'from' is a list; write -1"),
    ([-1, 1, "C3", [16, "Flase"]], "argument 'shortcut' must be True or False, got 'Flase'; did you mean 'False'?"),
    ([-1, 1, "Conv", [16, "three"]], "argument 'k' must be a whole number of at least 1, got 'three'"),
]


@pytest.mark.parametrize(("row", "message"), LIST_FROM)
def test_lists_and_text_where_one_map_or_a_number_is_expected(row, message):
    with pytest.raises(UserError) as caught:
        model_of([-1, 1, "Conv", [16]], row)
    assert message in str(caught.value)


def test_misspelled_anchors_in_args_are_reported():
    with pytest.raises(UserError, match="got 'anchor'; did you mean 'anchors'?"):
        model_of([-1, 1, "Conv", [16]], head=[[[-1], 1, "Detect", ["nc", "anchor"]]])


def test_comments_in_other_encodings_are_accepted(tmp_path):
    text = (CONFIGS / "models" / "yolov5n.yaml").read_text(encoding="utf-8")
    (tmp_path / "gbk.yaml").write_bytes("# 模型\n".encode("gbk") + text.encode())
    assert build_model(tmp_path / "gbk.yaml").nc == 80
