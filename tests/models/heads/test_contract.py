"""Every registered head fulfills the contract of `heads.base.Head`; anything else is refused."""

import copy

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from graftdet.models import ModelSpec, build_model
from graftdet.models.heads import HEADS
from graftdet.models.heads.base import CONTRACT, Head
from graftdet.models.losses.criterion import Criterion
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([[0, 1, 0.4, 0.4, 0.5, 0.4], [1, 0, 0.55, 0.5, 0.6, 0.5]])
CELLS = 8 * 12 + 4 * 6  # of both levels, strides 8 and 16
OTHER_FACTORS = {"PicoHeadV2": [f"cls_align.{level}.1.bn.bias" for level in range(2)]}
"""Head -> biases of what its class probabilities are multiplied by, beside the class outputs."""


@pytest.fixture(params=list(HEADS))
def model(request, tiny_yaml):
    """The tiny detector with each head, in eval mode, with batch statistics of `IMAGES`."""
    args = "[nc, anchors]" if issubclass(HEADS[request.param], HEADS["Detect"]) else "[nc]"
    text = tiny_yaml.replace("Detect, [nc, anchors]", f"{request.param}, {args}")
    if HEADS[request.param].has_auxiliary_levels:
        text = text.replace("[[7, 4],", "[[7, 4, 7, 4],")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_model(ModelSpec.from_text(text, "tiny.yaml"))
        for _ in range(60):
            model.train()(IMAGES)
    return model.eval()


def test_attributes_have_valid_values(model):
    head = model.head
    assert isinstance(head, Head) and head.nc == 3 and head.strides == [8.0, 16.0]
    assert isinstance(head.needs_nms, bool) and head.num_anchors >= 1
    assert head.reg_max is None or head.reg_max >= 2
    assert head.branch is None or head.branch in head.branch_names
    assert head.distillation_branch is None or head.distillation_branch in head.branch_names


def test_decoded_boxes_rows_and_exported_outputs_agree(model):
    head = model.head
    with torch.no_grad():
        maps = model.head_inputs(IMAGES)
        raw = head(maps)
        boxes, scores = head.decode(raw)
        rows = head.decode_rows(raw)
        exported = [head.export_outputs(maps, as_matmul) for as_matmul in (False, True)]
    count = CELLS * head.num_anchors
    assert boxes.shape == (2, count, 4) and scores.shape == (2, count, 3) and rows.shape == (2, count, 5 + 3)
    assert boxes.dtype == scores.dtype == torch.float32 and scores.min() >= 0 and scores.max() <= 1
    torch.testing.assert_close(cxcywh_to_xyxy(rows[..., :4]), boxes, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(rows[..., 4:5] * rows[..., 5:], scores)
    default = Head.decode_rows(head, raw)
    torch.testing.assert_close(default[..., 4:5] * default[..., 5:], scores)
    torch.testing.assert_close(default[..., 4], scores.amax(-1), atol=1e-6, rtol=0)
    for other in exported:
        torch.testing.assert_close(other[..., :5], rows[..., :5], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(other[..., 4:5] * other[..., 5:], scores, atol=1e-5, rtol=1e-4)


def test_the_criterion_returns_finite_float32_scalars(model):
    criterion = model.criterion(Hyperparameters(), 64)
    assert isinstance(criterion, Criterion) and criterion.box_gain > 0
    raw = model.train()(IMAGES)
    losses = criterion(raw, TARGETS)
    assert "box" in losses and all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    assert all(loss.dtype == torch.float32 and loss.requires_grad for loss in losses.values())
    half = tree_map(lambda y: y.bfloat16(), raw)
    with torch.autocast("cpu", torch.bfloat16):
        losses = criterion(half, TARGETS)
    torch.testing.assert_close(losses, criterion(tree_map(torch.Tensor.float, half), TARGETS), rtol=0, atol=0)


def test_anchors_can_be_set_for_anchor_based_heads_only(model):
    head = model.head
    if head.anchors is None:
        with pytest.raises(TypeError, match="has no anchors"):
            head.set_anchors([[[8, 16]]])
        return
    assert head.anchors.shape == (2, head.num_anchors, 2) and not head.placeholder_anchors
    pixels = torch.full((2, head.num_anchors, 2), 32.0)
    head.placeholder_anchors = True
    head.set_anchors(pixels)
    assert head.anchors[0].eq(4).all() and head.anchors[1].eq(2).all() and not head.placeholder_anchors


def test_output_biases_are_views_of_parameters(model):
    biases = model.head.output_biases()
    assert len(biases) >= 2 and len(biases) % 2 == 0  # two levels, per branch
    with torch.no_grad():
        for name in OTHER_FACTORS.get(type(model.head).__name__, ()):
            model.head.get_parameter(name).fill_(50.0)
        for _, classes in biases:
            assert classes.shape[-1] == 3
            classes.fill_(50.0)
        probabilities = model.head.decode_rows(model.raw_outputs(IMAGES))[..., 5:]
    assert probabilities.min() > 0.99


def test_each_branch_can_be_selected_and_gives_its_own_scores(model):
    head, outputs = model.head, {}
    for name in head.branch_names:
        model.use_branch(name)
        assert head.branch == name
        with torch.no_grad():
            outputs[name] = model(IMAGES)[1]
            fused = copy.deepcopy(model).fuse()
            torch.testing.assert_close(fused(IMAGES)[1], outputs[name], atol=1e-4, rtol=1e-4)
        assert name in fused.head.branch_names
    assert len(outputs) != 1 and not (len(outputs) == 2 and torch.equal(*outputs.values()))
    with pytest.raises(UserError, match="branch 'no_branch'"):
        model.use_branch("no_branch")


def test_distillation_maps_are_decoded_as_they_are(model):
    if model.head.distillation_branch:
        model.use_branch(model.head.distillation_branch)
    with torch.no_grad():
        raw = model.raw_outputs(IMAGES)
        maps = model.head.distillation_maps(raw)
        assert len(maps) == 2 and all(torch.equal(*pair) for pair in zip(*map(model.head.decode, (maps, raw))))
        trained = model.head.distillation_maps(model.train().raw_outputs(IMAGES))
    assert [y.shape for y in trained] == [y.shape for y in maps]


def test_class_layers_are_those_whose_shapes_depend_on_the_number_of_classes(model):
    """And no others: built for one class more, exactly the tensors of these layers have other shapes."""
    head = model.head
    wider = build_model(model.spec, nc=head.nc + 1).head.state_dict()
    changed = {name for name, tensor in head.state_dict().items() if tensor.shape != wider[name].shape}
    layers = head.class_layers()
    assert layers and {name.rpartition(".")[0] for name in changed} == set(layers)
    for name in changed:
        others = layers[name.rpartition(".")[0]]
        assert head.num_anchors * (others + head.nc) in head.state_dict()[name].shape


def test_a_class_that_is_no_head_is_refused_with_the_methods_that_a_head_defines():
    assert set(CONTRACT) == {"criterion", "decode", "forward", "output_biases"}

    class Other(nn.Module):
        pass

    with pytest.raises(TypeError, match="'Other' must be a subclass of .*Head.* criterion, decode, forward, output_b"):
        HEADS.register("OtherHead")(Other)
    assert "OtherHead" not in HEADS


def test_a_head_without_all_abstract_methods_is_refused():
    class Half(Head):
        def forward(self, maps):
            return maps

        def decode(self, raw):
            return raw

    with pytest.raises(TypeError, match=r"'Half' must define criterion, output_biases \(abstract"):
        HEADS.register()(Half)
    assert "Half" not in HEADS


def test_a_plugin_head_that_is_no_head_is_reported_with_its_file_and_line(tmp_path, restore_registry):
    from graftdet.models import load_plugins

    path = tmp_path / "mine.py"
    path.write_text(
        "from models.heads import HEADS\nfrom torch import nn\n\n\n@HEADS.register()\nclass Mine(nn.Module): pass\n"
    )
    with pytest.raises(UserError, match=r"mine.py: line \d: TypeError: head 'Mine' must be a subclass of .*criterion"):
        load_plugins([str(path)])


def test_a_plugin_head_of_few_methods_is_trained_and_exported(tmp_path, restore_registry, tiny_yaml, monkeypatch):
    """`decode_rows`, `export_outputs` and all the rest have defaults."""
    from graftdet.models import load_plugins
    from graftdet.models.backends.tracing.export_module import ExportModule

    monkeypatch.setattr(HEADS, "_entries", dict(HEADS._entries))
    monkeypatch.setattr(HEADS, "_options", dict(HEADS._options))
    path = tmp_path / "centers.py"
    path.write_text(
        """
import torch
from models.heads import HEADS
from models.heads.base import Head
from torch import nn


@HEADS.register()
class Centers(Head):
    def __init__(self, nc=80, ch=()):
        super().__init__(nc)
        self.out = nn.ModuleList(nn.Conv2d(c, 4 + nc, 1) for c in ch)

    def forward(self, maps):
        return [out(x) for out, x in zip(self.out, maps)]

    def decode(self, raw):
        rows = torch.cat([y.flatten(2) for y in raw], 2).transpose(1, 2).float()
        low = rows[..., :2]
        return torch.cat((low, low + rows[..., 2:4].exp()), -1), rows[..., 4:].sigmoid()

    def criterion(self, hyperparameters, image_size=640):
        raise NotImplementedError

    def output_biases(self):
        return [(out.bias[:4], out.bias[4:]) for out in self.out]
"""
    )
    load_plugins([str(path)])
    spec = ModelSpec.from_text(tiny_yaml.replace("Detect, [nc, anchors]", "Centers, [nc]"), "tiny.yaml")
    model = build_model(spec).eval()
    with torch.no_grad():
        boxes, scores = model(IMAGES)
        rows = ExportModule(model)(IMAGES)
    torch.testing.assert_close(cxcywh_to_xyxy(rows[..., :4]), boxes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rows[..., 4], scores.amax(-1))
    torch.testing.assert_close(rows[..., 4:5] * rows[..., 5:], scores, atol=1e-5, rtol=1e-4)


def test_older_argument_names_are_accepted_with_a_warning(tiny_yaml, caplog):
    def shape(text):
        spec = ModelSpec.from_text(tiny_yaml.replace("Detect, [nc, anchors]", text), "older.yaml")
        return build_model(spec).head.reg_max

    assert shape("AnchorFreeDetect, {nc: nc, bins: 6}") == 6
    assert (
        "older.yaml:16:35: row 8 (head row 3) AnchorFreeDetect: argument 'bins' is now named 'reg_max'" in caplog.text
    )
    caplog.clear()
    assert shape("PicoHead, {nc: nc, reg_max: 5}") == 5 and not caplog.text
    with pytest.raises(UserError, match=r"row 8 .*'bins' is the older name of 'reg_max', which is given, too"):
        shape("PicoHead, {nc: nc, reg_max: 5, bins: 5}")
