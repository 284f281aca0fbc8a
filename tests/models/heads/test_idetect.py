"""IAuxDetect: published names and counts, auxiliary levels in training only, wrong rows."""

import pytest
import torch

from graftdet.models import ModelSpec, build_model, load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.heads import HEADS
from graftdet.models.lint.check import check_model
from graftdet.models.losses.anchor_based import AnchorBasedCriterion
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

TEXT = """nc: 3
anchors: [[10, 13, 16, 30], [30, 61, 62, 45]]
backbone:
  - [-1, 1, Conv, [8, 3, 8]]
  - [-1, 1, Conv, [12, 3, 2]]
  - [0, 1, Conv, [8, 3]]
  - [1, 1, Conv, [12, 3]]
  - [0, 1, Conv, [10, 3]]
  - [1, 1, Conv, [14, 3]]
  - [4, 1, Conv, [10, 3]]
head:
  - [[2, 3, 6, 5], 1, IAuxDetect, [nc, anchors]]
"""
TARGETS = torch.tensor([[0, 1, 0.4, 0.4, 0.5, 0.4], [1, 0, 0.55, 0.5, 0.6, 0.5]])
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def model_of(text=TEXT):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(ModelSpec.from_text(text, "aux.yaml"))
        for part in (*model.head.ia, *model.head.im):
            torch.nn.init.normal_(part.implicit, 1)
    return model


def test_names_and_counts_of_the_head_of_yolov7_w6():
    """85 outputs for each of three anchors, with one offset per input and one factor per output of the main levels."""
    main, auxiliary = (256, 512, 768, 1024), (320, 640, 960, 1280)
    head = HEADS["IAuxDetect"](80, [[10, 13] * 3] * 4, (*main, *auxiliary))
    assert sum(p.numel() for p in head.parameters()) == 255 * sum(c + 1 for c in main + auxiliary) + sum(main) + 4 * 255
    names = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert names == {"m", "m2", "ia", "im"} and "ia.3.implicit" in head.state_dict()


def test_auxiliary_levels_run_in_train_mode_only():
    model, ran = model_of(), []
    for index, layer in enumerate(model.model):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    assert [y.shape for y in model.train()(IMAGES)] == 2 * [(2, 2, 8, 8, 8), (2, 2, 4, 4, 8)]
    assert ran == [0, 1, 2, 3, 4, 5, 6, 7]
    ran.clear()
    model.eval()
    assert model.head.strides == [8, 16] and [y.shape[2] for y in model.raw_outputs(IMAGES)] == [8, 4]
    assert ran == [0, 1, 2, 3, 7]


def test_rows_that_give_lists_may_be_levels():
    text = TEXT.replace("[0, 1, Conv, [8, 3]]", "[0, 1, CBLinear, [[8]]]")
    model, other = model_of(text).eval(), model_of(text.replace("[2, 3, 6, 5]", "[2, 3]").replace("IAux", "I")).eval()
    assert other.load_state_dict(model.state_dict(), strict=False).missing_keys == []
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES)[0], other(IMAGES)[0], atol=1e-4, rtol=1e-4)


def test_main_levels_are_those_of_idetect():
    model = model_of().eval()
    other = model_of(TEXT.replace("[2, 3, 6, 5]", "[2, 3]").replace("IAuxDetect", "IDetect")).eval()
    assert other.load_state_dict(model.state_dict(), strict=False).missing_keys == []
    with torch.no_grad():
        expected = other(IMAGES)
        for one in (model(IMAGES), model.fuse()(IMAGES)):
            for a, b in zip(one, expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert model.head.m2 is None and sorted(model.head.class_layers()) == ["im.0", "im.1", "m.0", "m.1"]


def test_auxiliary_losses_count_a_quarter_and_reach_further_cells():
    model = model_of()
    raw = model.train()(IMAGES)
    losses = model.criterion(Hyperparameters(), 64)(raw, TARGETS)
    main, coarse = (
        AnchorBasedCriterion.from_hyperparameters(3, model.head.anchors, Hyperparameters(), 64, reach)
        for reach in (0.5, 1)
    )
    expected = main(raw[:2], TARGETS) | {f"aux_{name}": loss / 4 for name, loss in coarse(raw[2:], TARGETS).items()}
    assert list(losses) == ["box", "obj", "cls", "aux_box", "aux_obj", "aux_cls"]
    assert all(losses[name].item() == pytest.approx(loss.item()) for name, loss in expected.items())
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_exported_file_has_the_main_levels_only(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = model_of().eval()
    path = BACKENDS["onnx"].export(model, tmp_path / "aux.onnx", ExportOptions((64, 64), 1, 17, True))
    with torch.no_grad():
        expected = model.head.decode_rows(model.raw_outputs(IMAGES)).numpy()
    assert abs(load_model(path).predictions(IMAGES) - expected).max() < 1e-3
    assert expected.shape == (2, 2 * (64 + 16), 8)
    assert [node.op_type for node in onnx.load(path).graph.node].count("Conv") == 4 + 2


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("[2, 3, 6]", "reads 3 maps; expected the main levels, then as many auxiliary ones"),
        ("[2, 3, 5, 6]", "main levels of 80x80, 40x40 and auxiliary levels of 40x40, 80x80.*in the same order"),
        ("[2, 6]", r"anchors for 2 levels: they need 4 maps, .*, but 'from' names 2"),
    ],
)
def test_wrong_sources_are_reported_with_their_row(sources, message):
    text = TEXT.replace("[2, 3, 6, 5]", sources)
    with pytest.raises(UserError, match=r"^aux.yaml:12:\d+: error.* row 7 .*IAuxDetect: .*" + message):
        model_of(text)
    problems = [p for p in check_model(ModelSpec.from_text(text, "aux.yaml")) if p.severity == "error"]
    assert len(problems) == 1


def test_right_rows_have_no_warnings():
    assert check_model(ModelSpec.from_text(TEXT, "aux.yaml")) == []
