"""Times in the cache folder: read as written, and never trusted where the file or the machine differs."""

import json

import pytest
import torch
from torch import nn

from graftdet.utils.training.acceleration.remembered_times import (
    machine_key,
    read_times,
    remember_times,
    structure_key,
)
from graftdet.utils.training.acceleration.step_timing import variants_for

TIMES = {
    "training": dict(zip(variants_for("channels last"), (0.03, 0.04, 0.02, 0.025), strict=True)),
    "validation": dict(zip(variants_for("contiguous"), (0.01, 0.02), strict=True)),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_times_are_read_as_they_were_written(cache):
    assert read_times({"a": 1}) is None
    remember_times({"a": 1}, TIMES)
    assert read_times({"a": 1}) == TIMES and read_times({"a": 2}) is None
    assert [list(part) for part in read_times({"a": 1}).values()] == [list(part) for part in TIMES.values()]  # in order
    (path,) = (cache / "steps").iterdir()  # and no temporary file
    assert json.loads(path.read_text())["key"] == {"a": 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 9999,
        lambda text: "[]",
        lambda text: text.replace("0.03", "-1"),
        lambda text: text.replace("0.03", "NaN"),
        lambda text: text.replace("0.03", "9" * 400),
        lambda text: text.replace('"load": 0.0', '"load": ' + "9" * 400),
        lambda text: text.replace("0.03", '"fast"'),
        lambda text: text.replace("bfloat16", "float8"),
        lambda text: text.replace("validation", "other"),
        lambda text: json.dumps({**json.loads(text), "training": {}}),
    ],
)
def test_a_damaged_file_is_written_again(damage, cache):
    remember_times({}, TIMES)
    (path,) = (cache / "steps").iterdir()
    path.write_text(damage(path.read_text()))
    assert read_times({}) is None
    remember_times({}, TIMES)
    assert read_times({}) == TIMES


def test_times_taken_under_load_are_written_but_not_used(cache):
    remember_times({}, TIMES, load=0.14)
    assert read_times({}) == TIMES
    remember_times({}, TIMES, load=0.4)
    (path,) = (cache / "steps").iterdir()
    assert json.loads(path.read_text())["load"] == 0.4 and read_times({}) is None


def test_without_a_cache_folder_nothing_is_remembered(cache):
    cache.write_text("a file")
    remember_times({}, TIMES)
    assert read_times({}) is None


def test_the_key_depends_on_threads_and_versions(monkeypatch):
    key = machine_key()
    assert key["torch"] == torch.__version__ and key["graftdet"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert machine_key() == {**key, "threads": 77}


def test_the_structure_of_a_model():
    def key(change=lambda model: None, width=4):
        model = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.SiLU())
        change(model)
        return structure_key(model)

    assert key() == key(lambda model: model[0].weight.data.zero_())
    others = [
        lambda model: model[0].requires_grad_(False),
        lambda model: model.append(nn.SiLU()),
        lambda model: setattr(model[0], "stride", (2, 2)),
    ]
    assert len({key(), key(width=8), *map(key, others)}) == 5
