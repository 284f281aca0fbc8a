"""The file that is edited: new ones, line ends, conflicts."""

import os

import pytest

from graftdet.models.editor.edited_file import EditedFile, SaveConflictError, model_text
from graftdet.models.editor.edits import apply_edit
from graftdet.models.lint.rule import EXAMPLE_MODEL
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError


def test_line_ends_mark_and_permissions_survive(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xef\xbb\xbf# Gr\xfc\xdfe\r\nnc: 3\r\n")
    os.chmod(path, 0o640)
    file = EditedFile(str(path))
    assert "\r" not in file.text() and file.text().endswith("nc: 3\n")
    file.save(file.text().replace("3", "4"), file.digest())
    assert path.read_bytes() == b"\xef\xbb\xbf# Gr\xfc\xdfe\r\nnc: 4\r\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_name_of_configs_models_starts_a_new_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = EditedFile("yolov5n")
    assert (file.name, file.origin, file.digest()) == ("yolov5n.yaml", "yolov5n.yaml", "")
    assert file.text() == model_text("yolov5n.yaml") and not list(tmp_path.iterdir())
    file.save("nc: 1\n", "")
    assert (tmp_path / "yolov5n.yaml").read_text() == "nc: 1\n" and file.origin is None
    assert EditedFile("yolov5n").text() == "nc: 1\n"


def test_a_size_of_a_model_is_stated_in_the_new_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = EditedFile("yolox-s.yaml")
    assert file.path.name == "yolox-s.yaml" and ModelSpec.from_text(file.text(), "x").size == "s"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = EditedFile("yolov5n.yaml")
    (tmp_path / "yolov5n.yaml").write_text("other")
    with pytest.raises(SaveConflictError):
        file.save("nc: 1\n", "")


def test_missing_files_are_reported(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        EditedFile(str(tmp_path / "nothing.yaml"))


def test_edits_preserve_comments():
    text = EXAMPLE_MODEL
    text = apply_edit(text, "x", {"kind": "swap", "old": "C3", "new": "C3_GhostModule", "rows": "2"})
    assert "  - [-1, 1, C3_GhostModule, [32]]  # 2\n" in text and text.count("C3_GhostModule") == 1
    text = apply_edit(text, "x", {"kind": "insert", "after": 2, "row": "[-1, 1, SELayer, [4]]"})
    assert "  - [-1, 1, SELayer, [4]]  # 3\n" in text and "[[8, 11], 1, Detect, [nc, anchors]]  # 12" in text
    text = apply_edit(text, "x", {"kind": "rename", "row": 5, "name": "p5"})
    text = apply_edit(text, "x", {"kind": "delete", "row": 3})
    assert "SELayer" not in text and "[-1, 1, Conv, [64, 3, 2], p5]  # 4\n" in text


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "swap", "old": "C3", "new": "C33"},
        {"kind": "swap", "old": "SPPF", "new": "C3"},
        {"kind": "insert", "after": 99, "row": "[-1, 1, SELayer, [4]]"},
        {"kind": "insert", "after": 1, "row": "[-1, 1, SELayer, [4]]", "readers": "none"},
        {"kind": "insert", "after": 1, "row": "nc: 5"},
        {"kind": "rename", "row": 2, "name": "p3"},
        {"kind": "rename", "row": 2, "name": "3"},
        {"kind": "delete", "row": 11},
        {"kind": "delete", "row": -1},
        {"kind": "save"},
    ],
)
def test_edits_that_cannot_be_made_are_reported(edit):
    with pytest.raises(UserError):
        apply_edit(EXAMPLE_MODEL, "x", edit)
