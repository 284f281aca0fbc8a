"""Class numbers that the dataset does not have."""

import json

import numpy as np
import pytest

from graftdet.data.__main__ import main
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.files.yolo_classes import describe_numbers
from graftdet.data.formats.yolo import BAD_CLASS
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image


def make(root, names, *numbers):
    """A dataset of one image with one box per class number, each elsewhere."""
    write_image(root / "images/a.png", np.full((20, 40, 3), 90, np.uint8))
    rows = [f"{number} 0.5 0.5 0.2 {0.1 * (index + 1):.1f}\n" for index, number in enumerate(numbers)]
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("".join(rows))
    (root / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    return root / "data.yaml"


START = "classes seem to start at 1 instead of 0"


@pytest.mark.parametrize(
    ("known", "used", "text"),
    [
        ([0, 1, 2], {1, 2, 3}, f"expected 0 to 2; {START}"),
        ([0, 1, 2], {1, 3}, f"expected 0 to 2; {START}"),
        ([0], {1}, f"expected 0; {START}"),
        ([0, 1, 2], {0, 1, 2, 3}, "expected 0 to 2"),
        ([0, 1, 2], {2, 3}, "expected 0 to 2"),
        ([0, 1, 2], {1, 4}, "expected 0 to 2"),
        ([0, 1, 2], set(), "expected 0 to 2"),
        ([4, 0], {1, 2}, "expected one of 0, 4"),
        (range(1, 30), {0}, "expected one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..."),
    ],
)
def test_what_was_expected(known, used, text):
    assert describe_numbers(known, used) == text


def test_classes_that_start_at_one_are_named_when_training_starts(tmp_path, caplog):
    config = load_data_config(make(tmp_path, "[cat, dog]", 1, 2))
    open_split(config, "train")
    assert f"a.txt, row 2: class 2, expected 0 to 1; {START}" in caplog.text


@pytest.mark.parametrize("names", ["{0: cat, 2: dog}", "[cat]"])
def test_check_warns_of_classes_that_names_does_not_have(tmp_path, capsys, names):
    with pytest.raises(SystemExit) as error:
        main(["check", str(make(tmp_path, names, 0, 1)), "--json"])
    assert error.value.code == 1
    report = json.loads(capsys.readouterr().out)
    assert report["splits"]["train"]["problems"][BAD_CLASS] == 1


def test_names_have_no_spaces_around_them(tmp_path):
    assert load_data_config(make(tmp_path, "['cat ', ' dog', 3]", 0)).names == ["cat", "dog", "3"]
    (tmp_path / "data.yaml").write_text("train: images\nnames: ['cat ', cat]\n")
    with pytest.raises(UserError, match="data.yaml: names: 'cat' is given twice"):
        load_data_config(tmp_path / "data.yaml")


@pytest.mark.parametrize(("text", "reason"), [("cat\ndog\ncat\n", "has 'cat' twice"), ("\n", "is empty")])
def test_a_class_file_that_cannot_be_used_is_named(tmp_path, text, reason):
    make(tmp_path, "[cat]", 0)
    (tmp_path / "classes.txt").write_text(text)
    (tmp_path / "data.yaml").write_text("train: images\n")
    with pytest.raises(UserError, match=rf"have no class names \(.*classes.txt {reason}\); expected names:"):
        open_split(load_data_config(tmp_path / "data.yaml"), "train")
