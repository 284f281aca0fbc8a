"""compare --train: mean and deviation over seeds, tables and curves as files."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from graftdet.models.__main__ import main
from graftdet.models.analysis import trainings
from graftdet.models.analysis.trainings import TrainingPlan
from graftdet.utils.errors import UserError

DATA = {"val": "val: {}\n", "val and test": "val: {}\ntest: images/test\n"}


def value_of(command, flag):
    return command[command.index(flag) + 1]


@pytest.fixture
def commands(monkeypatch):
    """Replaces train.py and val.py: AP depends on model and seed, the last epoch is not the best."""
    commands, statuses, original = [], {}, trainings.subprocess.run

    def run(command, **settings):
        if command[0] == "git":
            return original(command, **settings)
        commands.append(command)
        script = "train" if "train" in Path(command[1]).name else "val"
        if script in statuses:
            return SimpleNamespace(returncode=statuses[script])
        folder = Path(value_of(command, "--project")) / value_of(command, "--name")
        folder.mkdir()
        number, seed = int(folder.name[0]), int(folder.name.partition("-seed")[2][0])
        best = 0.4 + 0.02 * seed + 0.1 * number
        if script == "val":
            (folder / "metrics.json").write_text(json.dumps({"AP50-95": best - 0.05, "AP50": best, "AP75": 0}))
        else:
            with open(folder / "results.csv", "w", encoding="utf-8", newline="") as file:
                table = csv.writer(file)
                table.writerow(["epoch", "val/AP50-95", "val/AP50"])
                table.writerows([[1, 0.1, 0.9], [2, best, best + 0.2], [3, "", ""], [4, best - 0.1, 0.8]])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(trainings.subprocess, "run", run)
    return SimpleNamespace(given=commands, statuses=statuses)


@pytest.fixture(params=DATA)
def data(request, tmp_path):
    (tmp_path / "data.yaml").write_text(DATA[request.param])
    return str(tmp_path / "data.yaml")


def test_trainings_add_mean_and_deviation(commands, data, tmp_path):
    plan = TrainingPlan(data, 4, 3, 64, ["b.py"], "--hyp 'my hyp.yaml' --device cpu")
    seeds = []
    trained = trainings.train_all(["a.yaml", "b.yaml"], plan, tmp_path, lambda so_far: seeds.append(len(so_far)))
    lines, has_test = trainings.score_rows(trained, plan), "test" in plan.splits
    assert lines[0] == ["AP50-95 val, best of 4 epochs, 3 seeds", "0.4200 +- 0.0200", "0.5200 +- 0.0200"]
    assert lines[1][1:] == ["0.6200 +- 0.0200", "0.7200 +- 0.0200"] and seeds == [2, 2, 2]
    assert [line[1:] for line in lines[2:]] == [
        ["0.3700 +- 0.0200", "0.4700 +- 0.0200"],
        ["0.4200 +- 0.0200", "0.5200 +- 0.0200"],
    ] * has_test
    training = [command for command in commands.given if "--cfg" in command]
    assert len(training) == 6 and [value_of(command, "--cfg") for command in training[:2]] == ["a.yaml", "b.yaml"]
    assert training[0][-4:] == ["--hyp", "my hyp.yaml", "--device", "cpu"] and "b.py" in training[0]
    assert value_of(training[0], "--weights") == "none"  # models are compared from scratch
    validation = [command for command in commands.given if "--split" in command]
    assert len(validation) == 6 * has_test
    for command, trained_by in zip(validation, training, strict=False):
        weights = tmp_path / value_of(trained_by, "--name") / "weights" / "best.pt"
        assert value_of(command, "--weights") == str(weights) and value_of(command, "--split") == "test"
        assert value_of(command, "--device") == "cpu" and "b.py" in command and "--hyp" not in command


def test_a_training_that_fails_is_reported(commands, data, tmp_path):
    plan = TrainingPlan(data, 1, 1, 64)
    commands.statuses["train"] = 2
    with pytest.raises(UserError, match="a.yaml: training with seed 0 ended with exit status 2"):
        trainings.train_all(["a.yaml"], plan, tmp_path)
    with pytest.raises(UserError, match="expected a table with val/AP50-95"):
        trainings.best_epoch(tmp_path / "nothing.csv")
    assert trainings.mean_and_deviation([0.5]) == "0.5000"


def test_a_test_split_that_cannot_be_used_is_omitted(commands, tmp_path, caplog):
    (tmp_path / "data.yaml").write_text(DATA["val and test"])
    commands.statuses["val"] = 2
    plan = TrainingPlan(str(tmp_path / "data.yaml"), 1, 1, 64)
    trained = trainings.train_all(["a.yaml"], plan, tmp_path)
    assert [line[0] for line in trainings.score_rows(trained, plan)] == [
        "AP50-95 val, best of 1 epoch, 1 seed",
        "AP50 val, best of 1 epoch, 1 seed",
    ]
    assert "0-a-seed0: no AP on the test split, val.py ended with exit status 2" in caplog.text


def test_tables_and_curves_are_written(commands, tiny_yaml, tmp_path, capsys):
    (tmp_path / "data.yaml").write_text(DATA["val and test"])
    for name in ("tiny_1.yaml", "wide.yaml"):
        (tmp_path / name).write_text(tiny_yaml)
    models, project = [str(tmp_path / "tiny_1.yaml"), str(tmp_path / "wide.yaml")], tmp_path / "runs"
    flags = ["--img", "64", "--repeats", "1", "--no-onnx", "--no-rows", "--epochs", "4", "--seeds", "2"]
    main(["compare", *models, *flags, "--train", str(tmp_path / "data.yaml"), "--project", str(project)])
    folder = project / "exp"
    assert f"written to {folder}" in capsys.readouterr().out
    rows = list(csv.DictReader((folder / "compare.csv").open(encoding="utf-8")))
    assert [row["model"] for row in rows] == ["tiny_1.yaml", "wide.yaml"]
    expected = {"val/AP50-95 mean": 0.51, "val/AP50-95 std": 0.0141421, "test/AP50-95 seed 1": 0.47, "seeds": 2}
    assert {key: float(rows[1][key]) for key in expected} == expected
    table = (folder / "compare.md").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("| model | parameters (M) | GFLOPs | torch (ms) | AP50-95 val | AP50 val | AP50-95 test")
    assert table[3].startswith("| wide.yaml | ") and "| 0.5100 +- 0.0141 |" in table[3]
    assert "for 4 epochs with 2 seeds (mean and sample standard deviation)" in "\n".join(table)
    latex = (folder / "compare.tex").read_text(encoding="utf-8")
    assert r"tiny\_1.yaml & " in latex and r"$0.4100 \pm 0.0141$" in latex and latex.count(r"\\") == 3
    assert latex.count("{lrrrrrrr}") == 1 and all(line.count("&") in (0, 7) for line in latex.splitlines())
    assert (folder / "curves.png").stat().st_size > 5000 and (folder / "curves.pdf").read_bytes()[:4] == b"%PDF"
