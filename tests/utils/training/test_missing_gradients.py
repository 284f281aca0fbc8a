"""Parameters without gradient after the first batch are reported, with their rows; frozen ones are not."""

import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.heads import HEADS
from graftdet.utils.hyperparameters import load_hyperparameters
from graftdet.utils.training.optim import parameters_without_gradient, warn_of_missing_gradients


class Cuts(nn.Module):
    def forward(self, x):
        return x.detach()


def model_of(head="Detect"):
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]]
    args = ["nc"] if not issubclass(HEADS[head], HEADS["Detect"]) else ["nc", "anchors"]
    sources = [1, 2, 1, 2] if HEADS[head].has_auxiliary_levels else [1, 2]
    anchors = {} if args == ["nc"] else {"anchors": 3}
    return build_model({"nc": 2, **anchors, "backbone": rows, "head": [[sources, 1, head, args]]})


def backward(model, targets):
    criterion = model.train().criterion(load_hyperparameters("yolov5.yaml"), 64)
    sum(criterion(model(torch.rand(2, 3, 64, 64)), targets).values()).backward()


TARGETS = torch.tensor([[0, 1, 0.5, 0.5, 0.4, 0.3], [1, 0, 0.3, 0.6, 0.1, 0.1]])


def test_a_row_that_cuts_the_gradient_is_reported_by_the_rows_before_it(capsys):
    model = model_of()
    model.model[1].act = Cuts()
    backward(model, TARGETS)
    names = parameters_without_gradient(model)
    assert names == [name for name, _ in model.named_parameters() if name.startswith(("model.0.", "model.1."))]
    warn_of_missing_gradients(model)
    text = capsys.readouterr().err
    assert text.startswith(
        "warning: 6 of 13 trainable parameters received no gradient in the first batch, in rows 0, 1 (model.0."
    )


def test_frozen_parameters_are_no_problem(capsys):
    model = model_of()
    model.model[1].act = Cuts()
    model.model[:2].requires_grad_(False)
    backward(model, TARGETS)
    assert parameters_without_gradient(model) == []
    warn_of_missing_gradients(model)
    assert not capsys.readouterr().err


def test_every_head_uses_all_of_its_parameters():
    for head in HEADS:
        model = model_of(head)
        backward(model, TARGETS)
        assert parameters_without_gradient(model) == [], head
