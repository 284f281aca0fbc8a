"""compare and summary --profile: costs side by side, peak memory counted by hand."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.__main__ import main
from graftdet.models.analysis import compare
from graftdet.models.analysis.graph_svg import draw_model
from graftdet.models.analysis.profiling import Timing, peak_activation_bytes, time_calls, time_rows
from graftdet.models.analysis.summary import summarize, summary_text
from graftdet.models.editing.editor import insert_row
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.weights_file import load_weights, save_weights
from graftdet.utils import cli
from graftdet.utils.errors import UserError

TINY = """
nc: 1
anchors: 3
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[-1], 1, Detect, [nc, anchors]]
"""


def model_of(text, name="tiny.yaml"):
    return build_model(ModelSpec.from_text(text, name))


def test_peak_memory_of_activations_known_value():
    """32x32: the image is 3x1024 numbers; a Conv has its convolution's output, which SiLU overwrites in place."""
    model = model_of(TINY)
    image, first, second = 3 * 32 * 32, 8 * 16 * 16, 16 * 8 * 8
    assert peak_activation_bytes(model, (32, 32)) == 4 * (image + first + second)
    assert peak_activation_bytes(model, (64, 64)) == 16 * (image + first + second)


def test_maps_are_freed_after_their_last_reader():
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x + 1

    model = model_of(
        TINY.replace(
            "head:", "  - [-1, 1, nn.Identity, []]\n  - [0, 1, Conv, [16, 3, 4]]\n  - [[3, 4], 1, Concat, [1]]\nhead:"
        )
    )
    assert model._plan[1][2] == [] and model._plan[4][2] == [0] and set(model._plan[5][2]) == {3, 4}
    model.model[3] = Watch()
    model.raw_outputs(torch.rand(1, 3, 32, 32))
    assert len(seen) == 1


def test_timings():
    calls = []
    timings = time_calls([lambda: calls.append(0), lambda: calls.append(1)], repeats=4, warmup=1)
    assert calls == [0, 1] * 5 and all(t.count == 4 and 0 <= t.low <= t.median <= t.high for t in timings)
    assert Timing.of([0.001, 0.002, 0.003, 0.004, 0.005]) == Timing(3.0, 2.0, 4.0, 5)
    assert str(Timing.of([0.002])) == "2.0 ms (2.0 to 2.0)"
    model = model_of(TINY)
    times = time_rows(model, (32, 32), repeats=2)
    assert len(times) == 4 and all(ms > 0 for ms in times)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())  # the model itself stays unfused


def test_rows_that_differ_are_marked():
    grafted = insert_row(TINY, 1, "[-1, 1, SELayer, [4]]").replace("[16, 3, 2]]\nhead", "[24, 3, 2]]\nhead")
    models = [
        model_of(TINY),
        model_of(grafted, "new.yaml"),
        model_of(TINY.replace("[8, 3, 2]", "[8, 5, 2]"), "third.yaml"),
    ]
    lines = compare.row_table(models, (64, 64)).splitlines()
    assert lines[0].split() == ["tiny.yaml", "new.yaml", "third.yaml"]
    assert [line[0] for line in lines[1:]] == ["*", " ", "*", "*", "*"]
    assert "SELayer" in lines[3] and lines[3].split()[1] == "2"
    assert lines[2].split()[1::4] == ["Conv"] * 3 and lines[2].count("16x16x16 1,184") == 3
    narrow = compare.row_table(models, (64, 64), width=70)
    assert max(map(len, narrow.splitlines())) <= 70
    assert [line.split() for line in narrow.splitlines() if ".yaml" in line] == [
        ["tiny.yaml", "new.yaml"],
        ["third.yaml"],
    ]


def test_the_repeats_that_are_built_are_shown():
    deep = TINY.replace("nc: 1", "nc: 1\ndepth_multiple: 0.33").replace("[-1, 1, Conv, [16", "[-1, 9, Conv, [16")
    text = row_summary_of(deep)
    assert text == ["Conv", "Conv x3 (9 x 0.33)", "Conv x3 (9 x 0.33)", "Detect"]
    assert row_summary_of(deep.replace("0.33", "0.1"))[1] == "Conv x1 (9 x 0.1)"
    assert row_summary_of(deep.replace("0.33", "1"))[1] == "Conv x9"
    model = model_of(deep)
    assert "Conv x3 (9 x 0.33)  " in summary_text(model, (64, 64)) and "Conv x3 (9 x 0.33) 16x" in compare.row_table(
        [model], (64, 64)
    )
    drawing = draw_model(model, (64, 64))
    assert ">1  Conv x3 (9 x 0.33)<" in drawing and "=2) x3 (9 x 0.33), " in drawing


def row_summary_of(text):
    return [row.module + row.repeats for row in summarize(model_of(text), (64, 64))]


def test_the_tables_of_both_commands(capsys, tmp_path, monkeypatch):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    wide = tmp_path / "wide.yaml"
    wide.write_text(TINY.replace("[16, 3, 2]", "[32, 3, 2]"), encoding="utf-8")
    main(["compare", str(path), str(wide), "--img", "64", "--repeats", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0].strip() for line in lines[1:7]] == [
        "parameters",
        "GMACs at 64x64",
        "GFLOPs",
        "peak activations, MiB",
        "torch, median and quartiles (cpu)",
        "onnxruntime (cpu)",
    ]
    first, second = build_model(path), build_model(wide)
    counts = [sum(p.numel() for p in m.parameters()) for m in (first, second)]
    assert f"{counts[0]:,}" in lines[1] and f"{counts[1]:,} ({100 * (counts[1] / counts[0] - 1):+.1f} %)" in lines[1]
    assert lines[5].count(" ms (") == 2 and lines[6].count(" ms (") == 2
    monkeypatch.setenv("COLUMNS", "80")
    main(["compare", *[str(path), str(wide)] * 3, "--img", "64", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 and sum(line.startswith("parameters") for line in lines) > 1
    main(["summary", str(path), "--img", "64", "--profile", "--repeats", "1"])
    header, *_, last = capsys.readouterr().out.splitlines()
    assert header.split()[-3:] == ["MMACs", "ms", "%"] and "ms per image" in last


def test_summary_of_a_weights_file(tiny_weights, tmp_path, capsys):
    packed = save_weights(tmp_path / "tiny.safetensors", load_weights(tiny_weights))
    totals = []
    for path in (tiny_weights, packed):
        main(["summary", str(path), "--img", "64"])
        *_, last = capsys.readouterr().out.splitlines()
        assert last.startswith(f"{path}") and ": 9 rows, " in last
        totals.append(last.partition(": 9 rows")[2])
    assert totals[0] == totals[1]
    with pytest.raises(UserError, match="--nc: applies to a model YAML"):
        main(["summary", str(packed), "--nc", "3"])


def test_models_with_different_input_channels(capsys):
    gray = {
        "nc": 2,
        "ch": 1,
        "anchors": 1,
        "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
        "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
    }
    models = [build_model(gray), build_model({**gray, "ch": 3})]
    lines = compare.cost_rows(compare.measure_costs(models, (32, 32), 1, onnx=True), (32, 32))
    assert all("-" not in value for value in lines[-1][1:]) and len(lines[-1]) == 3


@pytest.mark.parametrize(
    "arguments", [["nothing.yaml"], ["yolov5n.yaml", "--img", "0"], ["yolov5n.yaml", "--device", "tpu"]]
)
def test_errors_are_reported_in_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: main(["compare", *arguments]))
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_headers_are_short_and_distinct():
    def of(*paths):
        return compare.labels_of([SimpleNamespace(spec=SimpleNamespace(label=path)) for path in paths])

    assert of("a/one.yaml", "b/two.yaml", "a/one.yaml") == ["one.yaml", "two.yaml", "one.yaml"]
    assert of("a/one.yaml", "b/one.yaml") == [str(Path("a/one.yaml")), str(Path("b/one.yaml"))]
    (long,) = of("x" * 60 + "-v2.yaml")
    assert len(long) == 36 and long.startswith("xxx") and long.endswith("-v2.yaml") and "…" in long
