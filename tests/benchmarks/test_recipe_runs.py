"""The tables of training runs: adding a run folder, printing, and the agreement of docs/results.md with them."""

import json
import re

import cv2
import pytest
import yaml

from benchmarks.recipe import runs
from benchmarks.recipe.plot import mean_curve
from benchmarks.recipe.results import RESULTS, ROOT, Epoch, RunRecord, markdown, read_curves, read_runs, spread
from graftdet.utils.errors import UserError
from graftdet.utils.visualization.figures import SERIES


@pytest.fixture
def run_folder(tmp_path):
    """A folder as train.py writes it: three epochs, the second one best, the last one not validated."""
    folder = tmp_path / "exp"
    folder.mkdir()
    options = {
        "data": "/data/glyphs/data.yaml",
        "cfg": "/configs/graft-n.yaml",
        "hyp": "default.yaml",
        "seed": 1,
        "img": 320,
        "epochs": 3,
        "batch_size": 16,
        "set": ["lr0=0.1"],
        "teacher": "/x/best.pt",
        "rect": True,
        "weights": "",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"options": options, "versions": {"commit": "0123456789+"}}))
    rows = ["epoch,time,val/AP50-95,val/AP50", "1,30,0.1,0.3", "2,60,0.51236,0.81", "3,90,,"]
    (folder / "results.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "metrics.json").write_text(json.dumps({"AP50-95": 0.45678, "AP50": 0.7}))
    return folder


def add(folder, *more):
    runs.main(["add", str(folder), "--name", "new", "--results", str(folder.parent), "--machine", "m", *more])


def test_added_run_is_read_back(run_folder, tmp_path, capsys):
    add(run_folder, "--metrics", str(tmp_path / "metrics.json"), "--split", "val", "--note", "a, b")
    expected = RunRecord(
        run="new-seed1",
        dataset="glyphs",
        model="graft-n.yaml",
        recipe="default.yaml",
        settings="lr0=0.1 --teacher best.pt --rect",
        seed=1,
        epochs=3,
        epochs_run=3,
        img=320,
        batch_size=16,
        best_epoch=2,
        val_ap=0.5124,
        val_ap50=0.81,
        final_val_ap=0.5124,
        eval_split="val",
        eval_ap=0.4568,
        eval_ap50=0.7,
        minutes=1.5,
        commit="0123456+",
        machine="m",
        note="a, b",
    )
    assert read_runs(tmp_path) == [expected]
    assert [(row.epoch, row.seconds, row.val_ap) for row in read_curves(tmp_path)["new-seed1"]] == [
        (1, 30, 0.1),
        (2, 60, 0.5124),
    ]
    assert "| new | 1 | 0.512 | 2 | 0.512 | 0.457 | 0.700 | 1.5 |" in capsys.readouterr().out


def test_run_without_evaluation_has_no_scores(run_folder, tmp_path):
    add(run_folder)
    (record,) = read_runs(tmp_path)
    assert (record.eval_split, record.eval_ap, record.eval_ap50) == ("", None, None)


def test_existing_name_is_refused_and_the_tables_stay(run_folder, tmp_path):
    add(run_folder)
    before = [(tmp_path / name).read_text() for name in ("runs.csv", "curves.csv")]
    with pytest.raises(UserError, match=r"runs\.csv: run 'new-seed1' exists"):
        add(run_folder)
    assert [(tmp_path / name).read_text() for name in ("runs.csv", "curves.csv")] == before


@pytest.mark.parametrize("name", ["config.yaml", "results.csv"])
def test_missing_file_of_a_run_is_named(name, run_folder):
    (run_folder / name).unlink()
    with pytest.raises(UserError, match=name):
        add(run_folder)


def test_markdown_groups_seeds_and_finds_the_target(run_folder, tmp_path):
    add(run_folder)
    options = yaml.safe_load((run_folder / "config.yaml").read_text())
    options["options"]["seed"] = 2
    (run_folder / "config.yaml").write_text(yaml.safe_dump(options))
    (run_folder / "results.csv").write_text("epoch,time,val/AP50-95,val/AP50\n1,30,0.3,0.3\n2,60,0.4,0.5\n")
    add(run_folder)
    lines = markdown(read_runs(tmp_path), read_curves(tmp_path), target=0.4).splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("| epochs to 0.4 |")
    assert lines[2] == "| new | 1, 2 | 0.456 ± 0.079 | 2, 2 | 0.456 ± 0.079 |  |  | 1.2 ± 0.4 | 2, 2 |"


def test_spread():
    assert spread([0.50, 0.52, None, 0.54]) == "0.520 ± 0.020"
    assert spread([0.5]) == "0.500"
    assert spread([None]) == ""


def test_tables_of_the_repository_agree():
    records, curves = read_runs(), read_curves()
    assert len({record.run for record in records}) == len(records) >= 129
    assert set(curves) == {record.run for record in records}
    for record in records:
        scores = {row.epoch: row.val_ap for row in curves[record.run]}
        assert scores[record.best_epoch] == record.val_ap == max(scores.values()), record.run
        assert list(scores)[-1] <= record.epochs_run <= record.epochs, record.run


def test_malformed_row_is_named_with_its_line(tmp_path):
    lines = (RESULTS / "runs.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "runs.csv").write_text(
        "\n".join([*lines[:2], lines[2].replace(",100,", ",many,", 1)]), encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"runs\.csv:3: .*many"):
        read_runs(tmp_path)


def test_results_page_agrees_with_the_tables():
    """Rows of docs/results.md that end with run names show the scores of these runs, up to their rounding."""
    groups: dict[str, list[RunRecord]] = {}
    for record in read_runs():
        groups.setdefault(record.group, []).append(record)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|(.*)\| `([\w-]+)` \|$", page, re.M)
    assert len(rows) > 40
    for text, name in rows:
        known = groups[name]
        scores = [run.val_ap if run.eval_ap is None else run.eval_ap for run in known]
        mean = sum(scores) / len(scores)
        pattern = r"\b0\.\d{3}(?= ±)" if "±" in text else r"\b0\.\d{3}\b"
        shown = [float(number) for number in re.findall(pattern, text)]
        assert any(abs(mean - number) <= 0.0011 for number in shown), (name, mean, text)


def test_curves_are_means_over_seeds_at_epochs_that_all_have():
    seeds = [[Epoch("a-seed0", epoch, 0, ap) for epoch, ap in rows] for rows in ([(1, 0.1), (2, 0.3)], [(2, 0.5)])]
    epochs, ap = mean_curve(seeds)
    assert epochs.tolist() == [2] and ap.tolist() == [pytest.approx(0.4)]


def test_plot_draws_a_line_per_group(tmp_path, capsys):
    runs.main(["plot", str(tmp_path / "a.png"), "scratch=bccd-graft-n-100", "bccd-graft-p-100", "--title", "BCCD"])
    image = cv2.imread(str(tmp_path / "a.png"))
    pixels = [sum((image == [int(color[i : i + 2], 16) for i in (5, 3, 1)]).all(2).ravel()) for color in SERIES[:3]]
    assert min(pixels[:2]) > 300 and pixels[2] == 0
    with pytest.raises(UserError, match="no run is named 'bccd'"):
        runs.main(["plot", str(tmp_path / "b.png"), "bccd"])
