"""Anchor-free heads: training, decoding, export, checkpoints, wrong arguments, transfer of weights."""

import copy
import re

import cv2
import pytest
import torch
from torch import nn

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.analysis.summary import summarize, totals
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.backends.receipt.verify import opencv_difference
from graftdet.models.heads import HEADS
from graftdet.models.heads.anchor_free_base import AnchorFreeHead
from graftdet.models.losses.iou import iou
from graftdet.models.weights.transfer import load_into
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

ANCHOR_FREE_HEADS = [name for name, head in HEADS.items() if issubclass(head, AnchorFreeHead) and name == head.__name__]
TARGETS = torch.tensor([[0, 1, 0.4, 0.4, 0.5, 0.4], [1, 0, 0.55, 0.5, 0.6, 0.5], [2, 2, 0.5, 0.6, 0.4, 0.6]])


@pytest.fixture(params=ANCHOR_FREE_HEADS)
def name(request):
    return request.param


@pytest.fixture
def build(tiny_yaml):
    """`build(name, args, nc)`: the tiny detector with another head."""

    def make(name, args="[nc]", nc=3):
        text = tiny_yaml.replace("Detect, [nc, anchors]", f"{name}, {args}")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build_model(ModelSpec.from_text(text, "tiny.yaml"), nc=nc)

    return make


def make_images(size=64):
    """Three images of gray noise with one bright rectangle each; its channel is the class."""
    images = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0)) * 0.2
    for image, label, *box in TARGETS.tolist():
        x1, y1, x2, y2 = (round(v * size) for v in cxcywh_to_xyxy(torch.tensor(box)).tolist())
        images[int(image), int(label), y1:y2, x1:x2] = 1
    return images


def with_statistics(model, images):
    """The model in eval mode, with batch statistics of these images."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def test_overfits_one_batch(name, build):
    model, images = build(name), make_images()
    criterion = model.train().criterion(Hyperparameters(), 64)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.01), []
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 80)  # converges to the same end on every processor
        optimizer.zero_grad()
        losses.append(sum(criterion(model(images), TARGETS).values()))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    boxes, scores = with_statistics(model, images)(images)
    for image, label, *box in TARGETS.tolist():
        best = scores[int(image)].flatten().argmax().item()
        assert best % 3 == label
        predicted = boxes[int(image), best // 3][None]
        assert iou(predicted, cxcywh_to_xyxy(torch.tensor([box])) * 64).item() > 0.75


def test_initial_scores_are_the_prior_and_boxes_are_some_strides_wide(name, build):
    model = with_statistics(build(name, nc=20), make_images())
    boxes, scores = model(make_images())
    unsuppressed = scores[scores > 1e-3]  # all but the cells of OneToOneDetect that are no local maximum
    assert 0.005 < unsuppressed.median() < 0.03
    widths = (boxes[0, :, 2] - boxes[0, :, 0]) / torch.tensor([8.0] * 64 + [16.0] * 16)
    assert 3 < widths.median() < 7
    for distances, classes in model.head.output_biases():
        assert torch.allclose(classes.sigmoid(), torch.tensor(0.01))
        assert len(distances) == model.head.box_channels and len(classes) == 20


def test_decode_and_decode_rows_agree(name, build):
    model = with_statistics(build(name), make_images())
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        raw = model.raw_outputs(images)
        boxes, scores = model.head.decode(raw)
        rows = model.head.decode_rows(raw)
    assert rows.shape == (2, 8 * 12 + 4 * 6, 5 + 3)
    torch.testing.assert_close(rows[..., 4], scores.amax(-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(cxcywh_to_xyxy(rows[..., :4]), boxes, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(rows[..., 4:5] * rows[..., 5:], scores)


def test_decodes_known_distances(build):
    head = build("AnchorFreeDetect").head
    raw = [torch.zeros(1, 4 * 16 + 3, 2, 3), torch.zeros(1, 4 * 16 + 3, 1, 2)]
    for direction, distance in enumerate((1, 0, 3, 2)):  # left, top, right, bottom of the cell in row 1, column 2
        raw[0][0, direction * 16 + distance, 1, 2] = 100
    raw[0][0, 64:, 1, 2] = torch.tensor([0.0, 100.0, -100.0])
    boxes, scores = head.decode(raw)
    assert boxes.shape == (1, 8, 4)
    torch.testing.assert_close(boxes[0, 5], torch.tensor([20 - 8, 12 - 0, 20 + 24, 12 + 16.0]))
    torch.testing.assert_close(scores[0, 5], torch.tensor([0.5, 1.0, 0.0]))
    torch.testing.assert_close(
        boxes[0, 6], torch.tensor([8.0, 8, 8, 8]) + 7.5 * 16 * torch.tensor([-1.0, -1, 1, 1])
    )  # even


@pytest.mark.parametrize("dynamic", [False, True])
def test_exported_file_gives_the_same_rows(name, build, tmp_path, dynamic):
    pytest.importorskip("onnx")
    model = with_statistics(build(name), make_images())
    model.names = ["circle", "square", "triangle"]
    options = ExportOptions((64, 96), 1, 17, dynamic)
    path = BACKENDS["onnx"].export(model, tmp_path / "häd.onnx", options)
    loaded = load_model(path)
    if int(cv2.__version__.split(".")[0]) >= 5:
        assert opencv_difference(loaded, path, options) < 1e-4
    assert loaded.needs_nms == model.needs_nms == (name != "OneToOneDetect") and loaded.names == model.names
    for shape in [(1, 64, 96)] + [(3, 96, 32)] * dynamic:
        images = torch.rand(shape[0], 3, *shape[1:])
        with torch.no_grad():
            expected = [output.numpy() for output in model(images)]
        assert all(abs(a - b).max() < 2e-3 for a, b in zip(loaded.forward(images), expected, strict=True))
        assert abs(loaded.predictions(images)[..., 4] - expected[1].max(-1)).max() < 1e-3
    assert name != "OneToOneDetect" or model.head.one_to_many is not None  # the model itself is unchanged


def test_a_copy_a_fused_copy_and_a_checkpoint_are_the_same(name, build, tmp_path):
    model, images = with_statistics(build(name), make_images()), make_images()
    path = save_checkpoint(
        tmp_path / "w.pt", {"yaml": model.yaml_text, "nc": 3, "names": list("abc"), "model": model.state_dict()}
    )
    with torch.no_grad():
        expected = model(images)
        for other in (copy.deepcopy(model), copy.deepcopy(model).fuse(), load_model(path)):
            for a, b in zip(other(images), expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert list(load_checkpoint(path)["model"]) == list(model.state_dict())


@pytest.mark.parametrize("name", ["AnchorFreeDetect", "OneToOneDetect"])
def test_distances_without_distributions(build, name):
    """With `reg_max` 1 there is one output per distance, no distribution loss, and boxes of any size can be learned."""
    model = build(name, "{nc: nc, reg_max: 1}").train()
    raw = model(make_images())
    maps = raw["one_to_many"] if isinstance(raw, dict) else raw
    assert maps[0].shape[1] == 4 + 3 and "dfl" not in model.criterion(Hyperparameters())(raw, TARGETS)
    branches = model.head.one_to_many if name == "OneToOneDetect" else model.head.branches
    for branch, bias in zip(branches.box, branches.output_biases(), strict=True):
        assert torch.nn.functional.softplus(bias[0]).allclose(torch.tensor(2.5))
        torch.nn.init.zeros_(branch[-1].weight)
        branch[-1].bias.data = torch.tensor([40.0, 50, 60, 70])
    model.eval()
    with torch.no_grad():
        raw = model.raw_outputs(make_images())
        boxes, rows = model.head.decode(raw)[0], model.head.decode_rows(raw)[..., :4]
    assert (boxes[0, 0] / 8).allclose(torch.tensor([0.5 - 40, 0.5 - 50, 0.5 + 60, 0.5 + 70]))
    torch.testing.assert_close(cxcywh_to_xyxy(rows), boxes, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("targets", [TARGETS, torch.zeros(0, 6)], ids=["boxes", "no boxes"])
def test_every_parameter_has_a_gradient(name, build, targets):
    """Processes that train together wait for the gradients of all parameters."""
    model = build(name).train()
    losses = model.criterion(Hyperparameters(), 64)(model(make_images()), targets)
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_gains_are_those_of_the_recipe(build):
    model = build("AnchorFreeDetect").train()
    with torch.no_grad():
        raw = model(make_images())
        once = model.criterion(Hyperparameters(af_box=1, af_cls=1, af_dfl=1))(raw, TARGETS)
        more = model.criterion(Hyperparameters(af_box=2, af_cls=3, af_dfl=5))(raw, TARGETS)
    for name, factor in {"box": 2, "cls": 3, "dfl": 5}.items():
        assert more[name].item() == pytest.approx(factor * once[name].item(), rel=1e-5)


@pytest.mark.parametrize("name", ["AnchorFreeDetect", "OneToOneDetect"])
@pytest.mark.parametrize(
    "choice",
    [{"af_iou_loss": "giou"}, {"af_iou_loss": "siou"}, {"af_cls_loss": "quality_focal"}, {"af_cls_loss": "varifocal"}],
)
def test_losses_are_selected_by_the_recipe(build, name, choice):
    model = build(name).train()
    with torch.no_grad():
        raw = model(make_images())
        usual, other = (model.criterion(Hyperparameters(**h))(raw, TARGETS) for h in ({}, choice))
    changed = {name.removeprefix("o2o_") for name in usual if usual[name] != other[name]}
    assert changed == {"box" if "af_iou_loss" in choice else "cls"}


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("AnchorFreeDetect", "[nc, anchors]", r"takes no anchors; write \[nc\] for its args"),
        ("AnchorFreeDetect", "[ncc]", "argument 'nc' must be a number, got 'ncc'"),
        ("AnchorFreeDetect", "[4]", "is written for 4 classes, but nc is 3"),
        ("AnchorFreeDetect", "[nc, 0]", "reg_max, .* at least 1, got 0"),
        ("PicoHead", "[nc, 2, 1]", "reg_max, .* at least 2, got 1"),
        ("AnchorFreeDetect", "[nc, 16, 3]", "light, .* must be True or False, got 3"),
        ("AnchorFreeDetect", "{nc: nc, bin: 8}", "bin"),
        ("AnchorFreeDetect", "[nc, 16, False, 0]", "width, .* at least 1, got 0"),
        ("AnchorFreeDetect", "[nc, 16, False, 48, 5]", "argument"),
        ("AnchorFreeDetect", "{nc: nc, box_groups: 3}", r"box_groups: 3 groups need a width of the box branch \(64\)"),
        ("AnchorFreeDetect", "{nc: nc, light: True, box_groups: 4}", "box_groups: 4 groups .* no light box branch"),
        ("OneToOneDetect", "[nc, True]", "reg_max, .* got True"),
        ("PicoHead", "[nc, -1]", "stacked, .* at least 0, got -1"),
        ("PicoHead", "[nc, 2, 8, 4]", "k, the kernel size, must be odd, got 4"),
        ("AnchorFreDetect", "[nc]", "did you mean 'AnchorFreeDetect'"),
    ],
)
def test_wrong_args_are_reported_with_their_row(build, name, args, message):
    with pytest.raises(UserError, match=message) as error:
        build(name, args)
    assert re.match(r"tiny.yaml:16:\d+: error.* row 8 ", str(error.value)) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ANCHOR_FREE_HEADS)
@pytest.mark.parametrize("args", ["[nc, anchors]", "{nc: nc, bins: anchors}"])
def test_anchors_are_not_accepted_for_an_integer_argument(name, args, tiny_yaml):
    if "bins" in args and not HEADS[name].has_distributions:
        pytest.skip("has no bins")
    text = re.sub(r"(?m)^anchors:(\n  - .*)+", "anchors: 3", tiny_yaml).replace(
        "Detect, [nc, anchors]", f"{name}, {args}"
    )
    assert "anchors: 3\n" in text
    with pytest.raises(UserError, match=r"row 8 .*takes no anchors; write \[nc\] for its args"):
        build_model(ModelSpec.from_text(text, "tiny.yaml"))


@pytest.mark.parametrize("name", ANCHOR_FREE_HEADS)
def test_weights_are_transferred_between_numbers_of_classes(build, name):
    """All but the class outputs are transferred; those are initialized to their prior."""
    old, new = build(name, nc=5), build(name, nc=3)
    for parameter in old.parameters():
        nn.init.normal_(parameter, 1)
    report = load_into(new, WeightsFile("old.pt", "checkpoint", old.state_dict(), old.yaml_text, nc=5))
    assert report.fraction > 0.9 and "class outputs: 0 of 3 matched by name" in str(report)
    distances = [b for b, _ in old.head.output_biases()], [b for b, _ in new.head.output_biases()]
    assert all(torch.equal(a, b) for a, b in zip(*distances, strict=True))
    assert all(torch.allclose(classes.sigmoid(), torch.tensor(0.01)) for _, classes in new.head.output_biases())


def test_picodet_has_the_published_size():
    """0.99 M parameters, 0.73 GFLOPs at 320 (Yu et al., 2021, table 3; batch norm is counted differently there)."""
    size = totals(summarize(build_model("picodet.yaml"), (320, 320)))
    assert size["params"] == pytest.approx(0.99e6, rel=0.01) and size["flops"] == pytest.approx(0.73e9, rel=0.03)


def test_model_files_differ_in_the_head_only():
    rows = {name: ModelSpec.read(f"{name}.yaml").rows for name in ("yolov5n", "yolov5n-free", "yolov5n-nms-free")}
    for name in ("yolov5n-free", "yolov5n-nms-free"):
        assert [repr(row) for row in rows[name][:-1]] == [repr(row) for row in rows["yolov5n"][:-1]]
        assert re.fullmatch("AnchorFreeDetect|OneToOneDetect", rows[name][-1].module) and rows[name][-1].args == ("nc",)
