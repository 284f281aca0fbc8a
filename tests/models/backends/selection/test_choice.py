"""The choice from given times and agreements; times from a given clock."""

import pytest

from graftdet.models.backends.selection.agreement import Agreement
from graftdet.models.backends.selection.choice import choose, time_ways, without_times
from graftdet.models.backends.selection.ways import Way, possible_ways

GOOD, BAD = Agreement(30, 0.995, 0.01), Agreement(30, 0.98, 0.01)
BF16 = " in bfloat16"


def parsed(milliseconds):
    return {Way.parse(name): taken for name, taken in milliseconds.items()}


@pytest.mark.parametrize(
    ("milliseconds", "chosen"),
    [
        ({"onnx": 2, "openvino": 3}, "onnx"),
        ({"onnx": 4, "openvino": 3, "torch": 9}, "openvino"),
        ({"onnx": 4, "openvino": 3.9}, "onnx"),  # starts faster
        ({"openvino": 3.9, "torch": 3.8}, "openvino"),
        ({"onnx": 4, "torch": 3}, "torch"),
        ({"onnx": 4, "openvino": 3, "openvino" + BF16: 2.8}, "openvino"),  # hardly faster
        ({"onnx": 4, "openvino": 3, "openvino" + BF16: 2.0}, "openvino" + BF16),
        ({"torch": 4, "torch" + BF16: 2.0}, "torch" + BF16),
        ({"torch" + BF16: 2.0, "openvino" + BF16: 3.0}, "torch" + BF16),
    ],
)
def test_the_fastest_is_chosen(milliseconds, chosen):
    assert str(choose(parsed(milliseconds), lambda way: GOOD).way) == chosen


def test_ways_in_bfloat16_that_differ_are_refused():
    times = parsed({"onnx": 4, "torch" + BF16: 2, "openvino" + BF16: 1})
    found = {Way("openvino", "bfloat16"): BAD, Way("torch", "bfloat16"): GOOD}
    choice = choose(times, found.__getitem__)
    assert str(choice.way) == "torch in bfloat16" and choice.agreements == found
    assert "openvino in bfloat16 is not used, its boxes differ" in str(choice)
    assert str(choose(times, lambda way: BAD).way) == "onnx"
    assert choice.is_exact and choose(times, lambda way: BAD).is_exact
    requested = choose(times, None)
    assert str(requested.way) == "openvino in bfloat16" and not requested.is_exact


def test_agreement_is_computed_only_where_it_decides():
    times = parsed({"onnx": 1, "torch" + BF16: 2})
    assert choose(times, lambda way: pytest.fail("compared")).way == Way("onnx")


def test_the_order_without_times():
    assert without_times([Way("torch"), Way("openvino"), Way("onnx")]) == Way("onnx")
    assert without_times([Way("openvino", "bfloat16")]) == Way("openvino", "bfloat16")


def test_possible_ways(monkeypatch):
    backends = ["torch", "onnx", "openvino"]
    for has_bfloat16 in (True, False):
        monkeypatch.setattr("graftdet.models.backends.selection.ways.has_bfloat16", lambda has=has_bfloat16: has)
        half = [Way("torch", "bfloat16"), Way("openvino", "bfloat16")] if has_bfloat16 else []
        assert possible_ways(backends, "auto", "auto") == [Way(name) for name in backends] + half
        assert possible_ways(backends, "auto", "half") == (half or [Way(name) for name in backends])
        assert possible_ways(backends, "onnx", "half") == [Way("onnx")]
        assert possible_ways(backends, "openvino", "float32") == [Way("openvino")]


def test_slow_ways_are_timed_less_and_the_first_run_does_not_count():
    now, runs = [0.0], {"onnx": 0, "openvino": 0, "torch": 0}

    def run(name, seconds):
        runs[name] += 1
        now[0] += seconds if runs[name] > 1 else 5.0

    calls = {
        Way(name): lambda name=name, seconds=seconds: run(name, seconds)
        for name, seconds in (("onnx", 0.01), ("openvino", 0.02), ("torch", 0.1))
    }
    times = time_ways(calls, seconds=1.0, clock=lambda: now[0])
    assert times == {Way("onnx"): 10.0, Way("openvino"): 20.0, Way("torch"): 100.0}
    assert runs["onnx"] == 31 and runs["openvino"] == 4 and runs["torch"] == 2
