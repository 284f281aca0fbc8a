"""DetectX: published names and counts, known boxes, training, export with its objectness, wrong arguments."""

import re

import pytest
import torch

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.heads import HEADS
from graftdet.models.losses.iou import iou
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

TARGETS = torch.tensor([[0, 1, 0.4, 0.4, 0.5, 0.4], [1, 0, 0.55, 0.5, 0.6, 0.5], [2, 2, 0.5, 0.6, 0.4, 0.6]])


@pytest.fixture
def build(tiny_yaml):
    """`build(args)`: the tiny detector with DetectX."""

    def make(args="[nc]"):
        text = tiny_yaml.replace("Detect, [nc, anchors]", f"DetectX, {args}")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build_model(ModelSpec.from_text(text, "tiny.yaml"))

    return make


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_of_yolox_s_and_nano_are_the_published_ones():
    """The heads of the published models: 256 x width multiple wide, two 3x3 convolutions per branch and level."""
    c, widths = 128, (128, 256, 512)
    outputs = 3 * ((c + 1) * 80 + (c + 1) * 4 + (c + 1))
    small = sum(w * c + 2 * c for w in widths) + 12 * (9 * c * c + 2 * c) + outputs
    assert parameters(HEADS["DetectX"](80, ch=widths)) == small == 1_920_895
    nano = HEADS["DetectX"](80, depthwise=True, ch=(64, 128, 256))
    c = 64
    separable = (9 * c + 2 * c) + (c * c + 2 * c)
    assert parameters(nano) == sum(w * c + 2 * c for w in (64, 128, 256)) + 12 * separable + 3 * 85 * (c + 1)


def test_names_are_the_published_ones():
    names = list(HEADS["DetectX"](80, ch=(64, 128)).state_dict())
    groups = ["stems", "cls_convs", "reg_convs", "cls_preds", "reg_preds", "obj_preds"]
    assert list(dict.fromkeys(name.split(".")[0] for name in names)) == groups
    assert {"stems.1.conv.weight", "cls_convs.0.1.conv.weight", "reg_convs.1.0.bn.bias", "obj_preds.1.bias"} <= set(
        names
    )
    nano = list(HEADS["DetectX"](80, depthwise=True, ch=(64,)).state_dict())
    assert {"cls_convs.0.0.dconv.conv.weight", "cls_convs.0.0.pconv.bn.weight"} <= set(nano)


def test_decodes_known_boxes(build):
    head = build().head
    raw = [torch.zeros(1, 8, 2, 3), torch.zeros(1, 8, 1, 2)]
    raw[0][0, :, 1, 2] = torch.tensor([0.5, -1.0, 1.0, 0.0, 100.0, 0.0, 100.0, -100.0])
    rows, (boxes, scores) = head.decode_rows(raw), head.decode(raw)
    torch.testing.assert_close(rows[0, 5], torch.tensor([20.0, 0, 8 * torch.e, 8, 1, 0.5, 1, 0]))
    torch.testing.assert_close(rows[0, 7], torch.tensor([16.0, 0, 16, 16, 0.5, 0.5, 0.5, 0.5]))
    torch.testing.assert_close(boxes[0, 7], torch.tensor([8.0, -8, 24, 8]))
    torch.testing.assert_close(scores[0, 7], torch.full((3,), 0.25))


def test_initial_objectness_and_class_probabilities_are_the_prior(build):
    for biases in build().head.output_biases():
        assert [len(bias) for bias in biases] == [1, 3]
        assert all(torch.allclose(bias.sigmoid(), torch.tensor(0.01)) for bias in biases)


def test_overfits_one_batch(build):
    model, images = build(), torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2
    for image, label, *box in TARGETS.tolist():
        x1, y1, x2, y2 = (round(v * 64) for v in cxcywh_to_xyxy(torch.tensor(box)).tolist())
        images[int(image), int(label), y1:y2, x1:x2] = 1
    criterion = model.train().criterion(Hyperparameters(), 64)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.01), []
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 80)
        optimizer.zero_grad()
        losses.append(sum(criterion(model(images), TARGETS).values()))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        boxes, scores = model.head.decode(model(images))
    for image, label, *box in TARGETS.tolist():
        best = scores[int(image)].flatten().argmax().item()
        assert best % 3 == label
        wanted = cxcywh_to_xyxy(torch.tensor([box])) * 64
        assert iou(boxes[int(image), best // 3][None], wanted).item() > 0.75


@pytest.mark.parametrize("targets", [TARGETS, torch.zeros(0, 6)], ids=["boxes", "no boxes"])
def test_every_parameter_has_a_gradient(build, targets):
    model = build("{nc: nc, depthwise: True}").train()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sum(model.criterion(Hyperparameters(), 64)(model(images), targets).values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_exported_file_has_the_objectness(build, tmp_path):
    pytest.importorskip("onnx")
    model = build().eval()
    model.names = ["circle", "square", "triangle"]
    path = BACKENDS["onnx"].export(model, tmp_path / "x.onnx", ExportOptions((64, 96), 1, 17, True))
    loaded, images = load_model(path), torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        expected = model.head.decode_rows(model.raw_outputs(images)).numpy()
    assert loaded.needs_nms and abs(loaded.predictions(images) - expected).max() < 2e-3
    assert expected[..., 4].max() < 0.5


@pytest.mark.parametrize("args", ["[nc, anchors]", "[nc, 1]", "{nc: nc, anchors: anchors}"])
def test_anchors_are_accepted_and_ignored(build, args):
    model = build(args)
    assert model.head.anchors is None and parameters(model) == parameters(build())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("{nc: nc, depthwise: 3}", "depthwise, .* must be True or False, got 3"),
        ("{nc: nc, width: 0}", "width, that of the branches, must be .* at least 1, got 0"),
        ("[4]", "is written for 4 classes, but nc is 3"),
    ],
)
def test_wrong_args_are_reported_with_their_row(build, args, message):
    with pytest.raises(UserError, match=message) as error:
        build(args)
    assert re.match(r"tiny.yaml:16:\d+: error.* row 8 ", str(error.value)) and "\n" not in str(error.value)
