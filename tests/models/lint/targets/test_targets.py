"""`--target`: what a target of deployment cannot take is found with its row, and nothing else is reported."""

import json
import logging

import pytest
import torch
from torch import nn

from graftdet.models import ModelSpec, build_model
from graftdet.models.lint.check import check_model
from graftdet.models.lint.rule import C3_ROW, EXAMPLE_MODEL
from graftdet.models.lint.targets import ncnn, opencv, rknn
from graftdet.models.lint.targets.check import report_targets, target_problems
from graftdet.models.lint.targets.dry_export import export_onnx, trace_torch
from graftdet.models.lint.targets.target import TARGETS
from graftdet.utils.cli.options import TARGETS as NAMES
from graftdet.utils.errors import UserError


def found(row, target, tmp_path):
    """(row, message, hint) of each problem that a target has with the example model, whose row 2 is `row`."""
    path = tmp_path / "x.yaml"
    path.write_text(EXAMPLE_MODEL.replace(C3_ROW, row))
    problems = check_model(path, targets=[target])
    assert all((one.rule, one.severity, one.line) == ("unsupported-target", "warning", 6) for one in problems), problems
    return [(one.row, one.message, one.hint) for one in problems]


def test_the_flag_has_every_target():
    assert set(TARGETS) == set(NAMES)


@pytest.mark.parametrize(
    ("row", "target", "part"),
    [
        ("[-1, 1, nn.Threshold, [0.1, 0.5]]", "onnx", "cannot be exported with opset 17"),
        ("[-1, 1, nn.Hardshrink, []]", "opencv", "versions 4.5.5 to 4.12 do not read Or"),
        ("[-1, 1, nn.ReLU6, []]", "opencv", "versions 4.5.5 and 4.6 do not read Clip"),
        ("[-1, 1, nn.Softsign, []]", "rknn", "Abs is not in the list of operators of rknn-toolkit2 2.1"),
        ("[-1, 1, nn.Threshold, [0.1, 0.5]]", "ncnn", "threshold is not converted by pnnx 20261020"),
    ],
)
def test_a_row_that_a_target_cannot_take_is_named(row, target, part, tmp_path):
    problems = found(row, target, tmp_path)
    assert problems and {index for index, *_ in problems} == {2}
    assert any(part in message for _, message, _ in problems), problems
    assert problems[0][1].startswith(f"{TARGETS[target].title}: ")


@pytest.mark.parametrize("target", NAMES)
def test_a_model_of_plain_convolutions_has_no_problems(target):
    model = build_model(ModelSpec.from_text(EXAMPLE_MODEL, "x.yaml"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert target_problems(model.train(), [target]) == []
    assert model.training and torch.equal(torch.rand(1), expected)  # neither mode nor random state changes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_operations_of_decoding_belong_to_the_head():
    model = build_model(ModelSpec.from_text(EXAMPLE_MODEL, "x.yaml")).eval()
    nodes = export_onnx(model, (64, 64), 17, "decoded").nodes
    rows = [node.row for node in nodes]
    assert set(rows) == set(range(12)) and rows.count(0) >= 3
    assert {node.row for node in nodes if node.operator == "Resize"} == {5}
    assert nodes[-1].row == 11 and "/model.11/" not in nodes[-1].name
    traced = trace_torch(ncnn.ExportModule(model, ncnn.ExportOptions((64, 64), output="raw")), (64, 64))
    assert {one.row for one in traced} == set(range(12))
    assert {one.row for one in traced if one.operator.startswith("aten::upsample")} == {5}


class Part(nn.Module):
    """A model of one operation, for the tables."""

    def __init__(self, operation):
        super().__init__()
        self.operation, self.channels, self.model = operation, 3, nn.Sequential(nn.Identity())

    @property
    def detector(self):
        return self

    def forward(self, x):
        return self.operation(x)


def routing_of(x):
    """(B, 3, H, W) -> (B, 3)."""
    return x.mean((2, 3))


def select_all(x):
    """Every element of a vector, one by one."""
    routing = routing_of(x)
    return routing[:, 0] + routing[:, 1] + routing[:, 2]


@pytest.mark.parametrize(
    ("operation", "form"),
    [
        (lambda x: x[:, :, ::2], "slice with a step"),
        (lambda x: torch.stack((x, x), 0), "stack along the batch"),
        (lambda x: x.view(1, 3, 4, 2, 4, 2).permute(0, 1, 3, 5, 2, 4), "permute of more than five axes"),
        (lambda x: x.flatten(2).topk(2)[0], "topk"),
        (lambda x: torch.stack(x.mean((2, 3)).unbind(1), 1), "unbind of a tensor with two axes"),
        (lambda x: torch.stack(x.unbind(1), 1), None),
        (select_all, "select of every element of a tensor with two axes"),
        (lambda x: sum(routing_of(x)[:, i] for i in range(2)), None),
        (lambda x: x[:, :, 1:7] + 0, None),
        (lambda x: torch.stack((x, x), 1), None),
        (lambda x: x.view(1, 3, 2, 4, 8).permute(0, 2, 1, 3, 4), None),
        (lambda x: x + torch.arange(8).topk(8)[0], None),  # a constant
    ],
)
def test_forms_that_ncnn_lacks(operation, form):
    messages = list(dict.fromkeys(one.message for one in ncnn._gaps(trace_torch(Part(operation), (8, 8)))))
    assert messages == ([f"{form} is not converted by pnnx 20261020"] if form else [])


def test_operators_of_the_tables_are_those_of_onnx():
    from onnx import defs

    known = {schema.name for schema in defs.get_all_schemas()}
    assert {"MaxRoiPool", "SpaceToDepth"} <= rknn.SUPPORTED and "TopK" not in rknn.SUPPORTED
    assert known >= rknn.SUPPORTED and {name for gap in opencv.GAPS for name in gap.operators.split()} <= known


def test_command(command, tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text(EXAMPLE_MODEL.replace(C3_ROW, "[-1, 1, nn.Threshold, [0.1, 0.5]]"))
    assert command("check", path) == 0
    capsys.readouterr()
    assert command("check", path, "--target", "onnx", "--format", "json") == 1
    (problem,) = json.loads(capsys.readouterr().out)  # and torch prints no graph
    assert (problem["rule"], problem["row"], problem["module"]) == ("unsupported-target", 2, "nn.Threshold")
    assert command("check", path, "--target", "onx") == 2 and "choose from" in capsys.readouterr().err


def test_errors_come_first(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(EXAMPLE_MODEL.replace(C3_ROW, "[-1, 1, Cnv, [32]]"))
    assert [one.rule for one in check_model(path, targets=NAMES)] == ["unknown-module"]


def test_training_warns_with_the_row(caplog):
    text = EXAMPLE_MODEL.replace(C3_ROW, "[-1, 1, nn.Threshold, [0.1, 0.5]]")
    with caplog.at_level(logging.WARNING):
        report_targets(build_model(ModelSpec.from_text(text, "x.yaml")), ["onnx"])
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "x.yaml:6:5: row 2 (backbone row 2) nn.Threshold: ONNX: cannot be exported" in caplog.text


def test_unknown_targets_are_suggested(tmp_path):
    with pytest.raises(UserError, match="unknown target 'rkn'"):
        target_problems(build_model(ModelSpec.from_text(EXAMPLE_MODEL, "x.yaml")), ["rkn"])
