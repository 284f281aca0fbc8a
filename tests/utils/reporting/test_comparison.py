"""`graftdet report A B`: table, page, and runs that cannot be compared."""

import re

import numpy as np
import pytest
import yaml

from graftdet.models.__main__ import main
from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_results import CocoResults
from graftdet.utils.evaluation.evaluator import score
from graftdet.utils.evaluation.saved_evaluation import save_evaluation
from graftdet.utils.reporting.comparison import compare_runs

HOSTILE = "<script>x</script>"


@pytest.fixture
def make_run(tmp_path):
    """`make_run(name, noise, images=12, shift=0)`: a folder as train.py writes it."""

    def make(name, noise, images=12, shift=0.0, with_table=True):
        rng = np.random.default_rng(0)
        annotations, results = [], CocoResults([1, 2])
        for image in range(images):
            corner, size, labels = (
                rng.uniform(0, 200, (5, 2)) + shift,
                rng.uniform(30, 90, (5, 2)),
                rng.integers(0, 2, 5),
            )
            for label, box in zip(labels, np.concatenate((corner, size), 1).tolist(), strict=True):
                annotations.append({"image_id": image, "category_id": int(label) + 1, "bbox": box})
            moved = np.concatenate((corner, corner + size), 1) + noise * rng.normal(0, 1, (5, 4))
            results.add(image, np.column_stack((moved, rng.uniform(0.2, 1, 5), labels)))
        categories = [{"id": 1, "name": "cell"}, {"id": 2, "name": HOSTILE}]
        truth = {
            "images": [{"id": image} for image in range(images)],
            "annotations": annotations,
            "categories": categories,
        }
        folder = tmp_path / name
        folder.mkdir(parents=True)
        save_evaluation(score(truth, results, {}), folder / "evaluation.npz")
        if with_table:
            (folder / "results.csv").write_text("epoch,val/AP50-95,val/AP50\n1,0.1,0.2\n2,0.3,0.4\n")
            content = {"options": {"seed": len(name), "epochs": 9}, "recipe": HOSTILE + name}
            (folder / "config.yaml").write_text(yaml.safe_dump(content))
        return folder

    return make


def test_runs_side_by_side(make_run, tmp_path, capsys):
    good, same, bad = make_run("good", 3), make_run("good again", 3), make_run("x/bad", 9, with_table=False)
    output = tmp_path / "out" / "page.html"
    output.parent.mkdir()
    main(["report", str(good), str(same), str(bad), "-o", str(output), "--samples", "200"])
    printed = capsys.readouterr().out
    lines = {line.split("  ")[0].strip(): line for line in printed.splitlines()}
    assert "+0.000 (+0.000 to +0.000)" in lines["good again"] and re.search(
        r"-0\.\d+ \(-0\.\d+ to -0\.\d+\) \*", lines["bad"]
    )
    assert "12 images" in printed and "bootstrap" in printed and str(output) in printed
    content = output.read_text(encoding="utf-8")
    titles = re.findall("<h2>(.*?)</h2>", content)
    assert titles == ["AP", "Curves", "AP50-95 per class", "Errors", "Settings that differ"]
    assert "<script" not in content and "&lt;script&gt;x" in content
    assert "<td>seed</td><td>4</td><td>10</td><td>-</td>" in content and "localization" in content


def test_runs_of_one_name_have_names_with_their_parents(make_run):
    runs = compare_runs([make_run("a/exp", 3), make_run("b/exp", 3)], 100)
    assert [run.name for run in runs] == ["a/exp", "b/exp"]
    assert runs[0].differences is None and runs[1].differences[0].value == 0
    assert runs[0].ap.low < runs[0].ap.value < runs[0].ap.high


def test_runs_that_cannot_be_compared(make_run, tmp_path):
    good = make_run("good", 3)
    with pytest.raises(UserError, match=r"good and .*fewer were .*: 12 and 11 images$"):
        compare_runs([good, make_run("fewer", 3, images=11)])
    with pytest.raises(UserError, match=r"good and .*moved were not evaluated on the same dataset: 60 boxes each"):
        compare_runs([good, make_run("moved", 3, shift=1.0)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: has no evaluation.npz.*graftdet val --weights .*best.pt"):
        compare_runs([good, tmp_path / "empty"])
    with pytest.raises(UserError, match="is not a folder"):
        compare_runs([good, tmp_path / "nothing"])
    with pytest.raises(UserError, match="given twice"):
        compare_runs([good, good])
    with pytest.raises(UserError, match="at least two runs, got one$"):
        main(["report", str(good)])
    (good / "report.html").touch()
    with pytest.raises(UserError, match=r"got one; .*good/report.html describes it"):
        main(["report", str(good)])
    with pytest.raises(UserError, match=r"ends in \.html"):
        main(["report", str(good), str(good), "-o", "page.png"])
