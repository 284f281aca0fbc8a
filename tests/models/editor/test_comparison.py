"""Two models side by side."""

import pytest

from graftdet.models.editor.comparison import compare_texts, measure_latency
from graftdet.models.editor.edited_file import model_text
from graftdet.models.lint.rule import EXAMPLE_MODEL
from graftdet.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("restore_registry")  # a plugin leaves all rows to torch


def test_comparison_aligns_rows():
    text = model_text("yolov5n.yaml")
    changed = text.replace("  - [-1, 1, SPPF, [1024, 5]]  # 9\n", "").replace("[-1, 3, C3, [128]]", "[-1, 3, C3, [64]]")
    changed = changed.replace("[[-1, 14]", "[[-1, 13]").replace("[[-1, 10]", "[[-1, 9]")
    changed = changed.replace("[[17, 20, 23]", "[[16, 19, 22]")
    found = compare_texts(changed, "new.yaml", text, "yolov5n.yaml")
    assert [model["name"] for model in found["models"]] == ["yolov5n.yaml", "new.yaml"]
    assert [model["rows"] for model in found["models"]] == [25, 24]
    missing = [line for line in found["lines"] if None in line["rows"]]
    assert [line["rows"][0]["module"] for line in missing] == ["SPPF"] and missing[0]["differs"]
    assert compare_texts(text, "a", text, "b")["lines"][0]["differs"] is False


def test_a_text_that_is_no_model_has_no_rows():
    found = compare_texts("nc: [", "broken.yaml", EXAMPLE_MODEL, "x.yaml")
    assert [model["errors"] for model in found["models"]] == [0, 1] and found["lines"] == []


def test_latency_is_measured_in_another_process():
    latencies = measure_latency([(EXAMPLE_MODEL, "a.yaml"), (EXAMPLE_MODEL.replace("nc: 3", "nc: 4"), "b.yaml")])
    assert len(latencies) == 2 and all(0 < one["low"] <= one["median"] <= one["high"] for one in latencies)


def test_errors_of_the_measurement_are_reported():
    with pytest.raises(UserError, match="C33"):
        measure_latency([(EXAMPLE_MODEL.replace("C3, [32]]", "C33, [32]]"), "a.yaml")])
