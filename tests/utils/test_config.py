"""YAML files: found by name, suggestions for unknown names, errors with line and column."""

import pytest

from graftdet.utils.config import CONFIGS, check_class_names, find_config, parse_yaml, to_number
from graftdet.utils.errors import UserError


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
def test_the_most_similar_name_is_suggested(name, kind, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file") as error:
        find_config(name, kind)
    assert str(error.value).endswith(f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [("models/yolov5s.yaml", "models", "yolov5s.yaml"), ("data/coco.yaml", "data", "coco.yaml")],
)
def test_paths_of_yolov5_stand_for_our_files(name, kind, file, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert find_config(name, kind) == CONFIGS / kind / file
    assert f"{name}: no such file; read as {file} of configs/{kind}" in caplog.text
    with pytest.raises(UserError, match="no such file"):
        find_config(f"elsewhere/{file}", kind)
    path = tmp_path / name
    path.parent.mkdir()
    path.write_text("x: 1")
    assert find_config(name, kind).resolve() == path  # a file of the user


def test_a_common_suffix_is_not_similar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        find_config("x.yaml", "data")
    assert "did you mean" not in str(error.value)


def test_files_of_the_user_are_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "cells.yml").write_text("train: x")
    (tmp_path / "zebras.yaml").write_text("train: x")
    for name, meant in (("sets/cell.yaml", "cells.yml"), ("zebra", "'zebras.yaml'")):
        with pytest.raises(UserError, match=f"did you mean .*{meant}"):
            find_config(name, "data")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("!!int ''", "expected int, got ''"),
        ("!!float ''", "expected float, got ''"),
        ("!!int x", "expected int, got 'x'"),
        ("!!bool maybe", "expected bool, got 'maybe'"),
        ("!!timestamp x", "expected timestamp, got 'x'"),
        ("2024-13-45", "expected timestamp, got '2024-13-45'"),
    ],
)
def test_values_that_do_not_match_their_yaml_tag(value, message):
    with pytest.raises(UserError) as error:
        parse_yaml(f"a: 1\nb: [1, {value}]\n", "x.yaml")
    assert str(error.value) == f"x.yaml:2:8: not valid YAML: {message}"


def test_recursive_aliases():
    for text in ("a: &a [1, *a]", "a: &a {b: [*a]}", "&a {b: *a}", "a: &a {<<: *a}"):
        with pytest.raises(UserError, match=r"^x.yaml:1:\d+: not valid YAML: alias 'a' refers to itself$"):
            parse_yaml(text, "x.yaml")


def test_aliases_that_expand_to_too_many_values():
    """Nine lists of nine each: 400 bytes that expand to 9^9 numbers."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(
        UserError, match=r":6:\d+: not valid YAML: alias 'e' expands the file to more than 100000 values"
    ):
        parse_yaml("\n".join(lines), "x.yaml")
    assert len(parse_yaml("\n".join(lines[:4]), "x.yaml")["d"][8]) == 9
    many = parse_yaml("a: &a [1, 2]\nb: [" + "*a, " * 1000 + "]", "x.yaml")  # no limit on the number of small aliases
    assert many["b"] == [[1, 2]] * 1000


@pytest.mark.parametrize(
    "text", ["0x" + "f" * 9000, "9" * 5000, ":".join(["59"] * 900), ":".join(["59"] * 900) + ".5", "0b" + "1" * 2000]
)
def test_numbers_without_end_are_errors_with_a_position(text):
    with pytest.raises(UserError, match="^x.yaml:1:5: .*expected (int|float), got '") as error:
        parse_yaml(f"nc: {text}\n", "x.yaml")
    assert len(str(error.value)) < 200


def test_messages_quote_the_start_of_long_values():
    with pytest.raises(UserError, match="expected a whole number") as error:
        to_number(b"a" * 100_000, int, "x.yaml: nc")
    assert len(str(error.value)) < 200 and to_number(2**900, int, "x") == 2**900
    with pytest.raises(UserError, match="expected strings") as error:
        check_class_names([["a"] * 10_000], "x.yaml: names")
    assert len(str(error.value)) < 200
