"""OneToOneDetect: which branches run, what they are trained by, and which scores are returned."""

import copy

import pytest
import torch
from torch import nn

from graftdet.models import ModelSpec, build_model
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([[0, 1, 0.4, 0.4, 0.5, 0.4], [1, 0, 0.55, 0.5, 0.6, 0.5], [2, 2, 0.5, 0.6, 0.4, 0.6]])


@pytest.fixture
def build(tiny_yaml):
    """`build(name)`: the tiny detector with another head, in eval mode, with batch statistics of `IMAGES`."""

    def make(name="OneToOneDetect", args="[nc]"):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model = build_model(
                ModelSpec.from_text(tiny_yaml.replace("Detect, [nc, anchors]", f"{name}, {args}"), "tiny.yaml"), nc=3
            )
            for _ in range(60):
                model.train()(IMAGES)
        return model.eval()

    return make


def maps_for(head):
    return [torch.randn(2, branch[0].conv.in_channels, 8, 8) for branch in head.one_to_one]


def test_only_needed_branches_run_and_one_to_one_sends_no_gradient_to_other_rows(build):
    model = build().train()
    raw = model(IMAGES)
    assert set(raw) == {"one_to_many", "one_to_one"}
    losses = model.criterion(Hyperparameters(), 64)(raw, TARGETS)
    assert set(losses) == {"box", "cls", "dfl", "o2o_cls"}
    losses["o2o_cls"].backward()
    trained = {name.split(".")[2] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"one_to_one"}
    model.eval()
    called = []
    model.head.one_to_one[0].register_forward_hook(lambda *_: called.append("one_to_one"))
    with torch.no_grad():
        one = model(IMAGES)
        assert called == ["one_to_one"] and not model.needs_nms
        model.use_branch("one_to_many")
        many = model(IMAGES)
    assert called == ["one_to_one"] and model.needs_nms and not torch.equal(one[1], many[1])
    assert torch.equal(one[0], many[0])  # the boxes are the same, and so many


def test_scores_in_eval_mode_are_the_mean_of_both_branches(build):
    model = build()
    head, maps = model.head, maps_for(model.head)
    with torch.no_grad():
        outputs = {}
        for head.branch in ("one_to_one", "one_to_many"):
            outputs |= head.eval()(maps)
        one_to_one_alone = [branch(x) for branch, x in zip(head.one_to_one, maps, strict=True)]
        trained = head.train()(maps)["one_to_one"]
    box = 4 * head.reg_max
    for many, one, alone, y in zip(
        outputs["one_to_many"], outputs["one_to_one"], one_to_one_alone, trained, strict=True
    ):
        assert torch.equal(one[:, :box], many[:, :box]) and y.shape == one.shape
        torch.testing.assert_close(one[:, box:], many[:, box:] / 2 + alone / 2)


def test_one_to_one_is_trained_on_its_own_scores(build):
    """In train mode the logits are those of the second branch alone, the boxes are detached."""
    head = build().train().head
    maps = maps_for(head)
    for branch in head.one_to_one:
        nn.init.constant_(branch[-1].weight, 0)
        nn.init.constant_(branch[-1].bias, 7)
    for many, one in zip(*(head(maps)[name] for name in ("one_to_many", "one_to_one")), strict=True):
        assert (one[:, 4 * head.reg_max :] == 7).all() and torch.equal(
            one[:, : 4 * head.reg_max], many[:, : 4 * head.reg_max]
        )


def test_fusing_one_to_many_drops_the_second_branch(build):
    model = build()
    for name in ("one_to_one", "one_to_many"):
        one = copy.deepcopy(model)
        one.use_branch(name)
        with torch.no_grad():
            expected = one(IMAGES)
            fused = one.fuse()
            for a, b in zip(fused(IMAGES), expected, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        assert (fused.head.one_to_one is None) == (name == "one_to_many")
    assert not any("one_to_one" in key for key in fused.state_dict())
    with pytest.raises(UserError, match="branch 'one_to_one': expected one of one_to_many"):
        fused.use_branch("one_to_one")
    with pytest.raises(UserError, match=r"branch 'one': expected one of one_to_one, one_to_many.*OneToOneDetect"):
        model.use_branch("one")
    with pytest.raises(UserError, match=r"branch 'one_to_many': this head has no branches \(PicoHead\)"):
        build("PicoHead").use_branch("one_to_many")


def trained_parts(model):
    """Parts of the head that a gradient other than 0 reaches."""
    trained = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    return {".".join(name.split(".")[2:4]) for name in trained}


def test_without_detach_one_to_one_trains_boxes_and_other_rows(build):
    model = build(args="{nc: nc, detach: False}").train()
    losses = model.criterion(Hyperparameters(), 64)(model(IMAGES), TARGETS)
    assert set(losses) == {"box", "cls", "dfl", "o2o_box", "o2o_cls", "o2o_dfl"}
    sum(loss for name, loss in losses.items() if name.startswith("o2o_")).backward()
    assert model.model[0].conv.weight.grad.abs().sum() > 0
    parts = trained_parts(model)
    assert {"one_to_one.0", "one_to_many.box"} <= parts and "one_to_many.cls" not in parts


def test_the_weight_moves_from_one_to_many_to_one_to_one(build):
    model = build().train()
    raw = model(IMAGES)
    usual = model.criterion(Hyperparameters(), 64)(raw, TARGETS)
    criterion = model.criterion(Hyperparameters(o2o_shift=0.8), 64)
    for epoch, (many, one) in {0: (1.8, 0.2), 5: (1.0, 1.0), 10: (0.2, 1.8)}.items():
        criterion.begin_epoch(epoch, 11)
        losses = criterion(raw, TARGETS)
        assert losses["cls"].item() == pytest.approx(many * usual["cls"].item(), rel=1e-5)
        assert losses["o2o_cls"].item() == pytest.approx(one * usual["o2o_cls"].item(), rel=1e-5)
    constant = model.criterion(Hyperparameters(), 64)
    constant.begin_epoch(0, 11)
    assert torch.equal(constant(raw, TARGETS)["cls"], usual["cls"])


def test_the_foreground_branch_learns_objects_of_any_class_and_runs_in_train_mode_only(build):
    model = build(args="{nc: nc, foreground: True}").train()
    raw = model(IMAGES)
    assert [y.shape[1] for y in raw["foreground"]] == [4 * 16 + 1] * 2
    criterion, other = model.criterion(Hyperparameters(af_foreground=2), 64), TARGETS.clone()
    other[:, 1] = 0
    losses = criterion(raw, TARGETS)
    assert torch.equal(losses["foreground"], criterion(raw, other)["foreground"])
    losses["foreground"].backward()
    assert {part.split(".")[0] for part in trained_parts(model) if part.startswith(("one", "fore"))} == {"foreground"}
    assert model.model[0].conv.weight.grad.abs().sum() > 0
    model.eval()
    with torch.no_grad():
        assert "foreground" not in model.raw_outputs(IMAGES)
        expected, fused = model(IMAGES), copy.deepcopy(model).fuse()
        assert fused.head.foreground is None
        torch.testing.assert_close(fused(IMAGES)[1], expected[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("args", ["{nc: nc, detach: 1}", "{nc: nc, foreground: 'yes'}"])
def test_wrong_switches_are_reported(build, args):
    with pytest.raises(UserError, match="must be True or False"):
        build(args=args)
