"""Finding YAMLs by name: what is taken, and what is suggested for a name that is none."""

import pytest

from utils.config import CONFIGS, find_config, parse_yaml
from utils.errors import UserError


@pytest.mark.parametrize("name", ["coco", "coco.yaml", CONFIGS / "data" / "coco.yaml"])
def test_bare_names_and_paths(name):
    assert find_config(name, "data").samefile(CONFIGS / "data" / "coco.yaml")


@pytest.mark.parametrize(
    ("name", "kind", "meant"),
    [
        ("cocoo", "data", "'coco.yaml'"),  # whole names would be too far apart
        ("coc", "data", "'coco.yaml'"),
        ("cocoo.yaml", "data", "'coco.yaml'"),
        ("Shape.yml", "data", "'shapes.yaml'"),
        ("yolov5x-ghost", "models", "'yolov5s-ghost.yaml'"),
        ("models/yolov5-sghost.yaml", "models", "'yolov5s-ghost.yaml'"),
        ("yolo", "hyp", "'yolov5.yaml'"),
    ],
)
def test_the_nearest_name_is_told(name, kind, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file") as error:
        find_config(name, kind)
    assert str(error.value).endswith(f"did you mean {meant}?")


def test_an_ending_alone_is_no_likeness(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        find_config("x.yaml", "data")
    assert "did you mean" not in str(error.value)


def test_files_of_the_users_own_are_suggested_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "cells.yml").write_text("train: x")
    (tmp_path / "zebras.yaml").write_text("train: x")
    for name, meant in (("sets/cell.yaml", "cells.yml"), ("zebra", "'zebras.yaml'")):
        with pytest.raises(UserError, match=f"did you mean .*{meant}"):
            find_config(name, "data")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("!!int ''", "expected int, got ''"),
        ("!!float ''", "expected float, got ''"),
        ("!!int x", "expected int, got 'x'"),
        ("!!bool maybe", "expected bool, got 'maybe'"),
        ("!!timestamp x", "expected timestamp, got 'x'"),
        ("2024-13-45", "expected timestamp, got '2024-13-45'"),
    ],
)
def test_a_text_that_is_not_what_its_tag_says(value, told):
    with pytest.raises(UserError) as error:
        parse_yaml(f"a: 1\nb: [1, {value}]\n", "x.yaml")
    assert str(error.value) == f"x.yaml, line 2: not valid YAML: {told}"
