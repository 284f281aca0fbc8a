"""compare and summary --profile: costs side by side, peak memory counted by hand, AP of training runs."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from graftdet.models import build_model
from graftdet.models.__main__ import main
from graftdet.models.analysis import compare, trainings
from graftdet.models.analysis.profiling import Timing, peak_activation_bytes, time_calls, time_rows
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


def fake_training(monkeypatch, status=0):
    """Replaces train.py: AP depends on model and seed, the last epoch is not the best."""
    commands = []

    def run(command, **_):
        commands.append(command)
        value = {flag: command[command.index(flag) + 1] for flag in ("--project", "--name", "--seed")}
        folder = Path(value["--project"]) / value["--name"]
        folder.mkdir()
        with open(folder / "results.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["epoch", "val/AP50-95", "val/AP50"])
            best = 0.4 + 0.02 * int(value["--seed"]) + 0.1 * int(value["--name"][0])
            table.writerows([[1, 0.1, 0.9], [2, best, best + 0.2], [3, "", ""], [4, best - 0.1, 0.8]])
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(trainings.subprocess, "run", run)
    return commands


def test_trainings_add_mean_and_deviation(monkeypatch, tmp_path, capsys):
    commands = fake_training(monkeypatch)
    args = SimpleNamespace(
        train="shapes.yaml",
        epochs=4,
        seeds=3,
        project=str(tmp_path / "c"),
        img=[64],
        plugins=["b.py"],
        train_args="--hyp 'my hyp.yaml'",
    )
    lines = trainings.train_all(["a.yaml", "b.yaml"], args)
    assert lines[0] == ["AP50-95 of the best of 4 epochs, 3 seeds", "0.4200 +- 0.0200", "0.5200 +- 0.0200"]
    assert lines[1][1:] == ["0.6200 +- 0.0200", "0.7200 +- 0.0200"]
    assert len(commands) == 6 and [c[c.index("--cfg") + 1] for c in commands[:2]] == ["a.yaml", "b.yaml"]
    assert commands[0][-2:] == ["--hyp", "my hyp.yaml"] and "b.py" in commands[0]
    assert commands[0][commands[0].index("--weights") + 1] == "none"  # models are compared from scratch


def test_a_training_that_fails_is_reported(monkeypatch, tmp_path):
    fake_training(monkeypatch, status=2)
    args = SimpleNamespace(
        train="x.yaml", epochs=1, seeds=1, project=str(tmp_path), img=[64], plugins=[], train_args=""
    )
    with pytest.raises(UserError, match="a.yaml: training with seed 0 ended with exit status 2"):
        trainings.train_all(["a.yaml"], args)
    with pytest.raises(UserError, match="expected a table with val/AP50-95"):
        trainings.best_epoch(tmp_path / "nothing.csv")
    assert trainings.mean_and_deviation([0.5]) == "0.5000"


def test_models_with_different_input_channels(capsys):
    gray = {
        "nc": 2,
        "ch": 1,
        "anchors": 1,
        "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
        "head": [[[0], 1, "Detect", ["nc", "anchors"]]],
    }
    models = [build_model(gray), build_model({**gray, "ch": 3})]
    lines = compare.cost_rows(models, (32, 32), 1, onnx=True)
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
