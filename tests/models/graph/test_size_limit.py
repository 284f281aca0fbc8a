"""Models that would take gigabytes are refused before memory is taken, by `models check` and when they are built."""

import pytest
import torch

from graftdet.models import build_model
from graftdet.models.lint.check import check_model
from graftdet.models.spec.problems import ProblemError
from graftdet.utils.untrusted import limits

MODEL = """\
nc: {nc}
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - {row}
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2], 1, Detect, [nc, {anchors}]]
"""
CONV = "[-1, 1, Conv, [32, 3, 2]]"


@pytest.fixture
def write(tmp_path):
    def write(row=CONV, nc=3, anchors=3, more=""):
        path = tmp_path / "x.yaml"
        path.write_text(MODEL.format(row=row, nc=nc, anchors=anchors) + more)
        return path

    return write


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(limits, "_factor", 1)  # restored behind the test
    limits.allow_large()


def test_no_table_of_an_enlarged_map_is_made(write, monkeypatch):
    for name in ("upsample_nearest2d", "upsample_bilinear2d"):
        monkeypatch.setattr(torch._C._nn, name, None)
    for args in ("[None, 100000, nearest]", "[100000, None, bilinear]", "[[100000, 100000], None, nearest]"):
        with pytest.raises(ProblemError, match=r"row 1 .* nn.Upsample: gives a map of 16x\d+x\d+ values"):
            build_model(write(f"[-1, 1, nn.Upsample, {args}]"))


CASES = {
    "kernel": ({"row": "[-1, 1, Conv, [32, 100001, 2]]"}, "row 1 (backbone row 1) Conv: with it the weights"),
    "width": ({"row": "[-1, 1, C3, [30000]]"}, "row 1 (backbone row 1) C3: with it the weights of the model take"),
    "classes": ({"nc": 1_000_000, "anchors": 100}, "row 3 (head row 0) Detect: with it the weights of the model take"),
    "map": ({"row": "[-1, 1, nn.Upsample, [null, 10000, nearest]]"}, "gives a map of 16x3200000x3200000 values"),
    "blocks": ({"row": "\n  - ".join(["[-1, 900, C3, [16]]"] * 9)}, "the rows build 8103 blocks"),
    "text": ({"more": "#" * 300_000}, "characters, expected at most 262144"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_would_take_gigabytes_is_refused(write, case):
    values, message = CASES[case]
    path = write(**values)
    problems = check_model(path)
    assert problems[0].rule == "model-size" and message in str(problems[0]), problems
    with pytest.raises(ProblemError) as error:
        build_model(path)
    assert message in str(error.value) and "--allow-large" in str(error.value)


def test_rows_that_are_large_together_are_refused(write, monkeypatch):
    assert check_model(write()) == []
    for module in ("graph.size_limit", "lint.arithmetic_check"):
        monkeypatch.setattr(f"graftdet.models.{module}.MAX_MODEL_BYTES", 50_000)  # rows of 1.7, 18.4 and 36.9 kB
    with pytest.raises(ProblemError) as error:
        build_model(write())
    for problems in (check_model(write()), error.value.problems):
        assert [(problem.rule, problem.row) for problem in problems] == [("model-size", 2)]


def test_too_many_rows_are_refused(write):
    path = write(CONV + f"\n  - {CONV.replace('2]', '1]')}" * 1200)
    text = str(check_model(path)[0])
    assert "the model has 1204 rows, expected at most 1000" in text


def test_large_models_can_be_allowed(write, large):
    path = write("[-1, 1, Conv, [32, 3, 2]]", more="#" * 300_000)
    assert check_model(path) == [] and build_model(path).nc == 3


def test_a_long_activation_is_refused_at_once(write):
    path = write(more=f'activation: "nn.LeakyReLU({" " * 5000}x"\n')
    assert "unknown activation 'nn.LeakyReLU(" in str(check_model(path)[0])


def test_messages_do_not_repeat_long_values(write):
    problem = check_model(write(f"[-1, 1, {'C' * 50_000}, [32]]"))[0]
    assert problem.rule == "unknown-module" and len(str(problem)) < 1200


def test_the_number_of_tensors_is_limited(write, monkeypatch):
    monkeypatch.setattr("graftdet.models.graph.size_limit.MAX_TENSORS", 100)
    with pytest.raises(ProblemError, match="has more than 100 tensors"):
        build_model(write("[-1, 9, C3, [16]]"))
