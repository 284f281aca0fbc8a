"""Metadata of exported files: as documented, and read from our files, older ones and those of other exporters."""

import re
from pathlib import Path

import numpy as np
import pytest

from graftdet.models.backends import ExportOptions
from graftdet.models.backends.exported_model import ExportedModel
from graftdet.models.backends.metadata import make_metadata, parse_names, parse_size, parse_stride, parse_value

PAGE = Path(__file__).resolve().parents[3] / "docs" / "exported-files.md"


class Described(ExportedModel):
    """A file that is described and gives zeros."""

    path = Path("described.onnx")

    def __init__(self, metadata):
        self._describe((None, 3, None, None), [("output0", (None, None, 8))], metadata)

    def _run(self, images):
        return [np.zeros((len(images), 300, 8), np.float32)]


def test_every_key_is_documented(model):
    section = PAGE.read_text(encoding="utf-8").split("## Metadata")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(make_metadata(model, ExportOptions()))


def test_own_metadata_are_read_back(model):
    written = make_metadata(model, ExportOptions((64, 96), dynamic=True, square_letterbox=True))
    read = Described(written)
    assert (read.names, read.names_known, read.stride, read.train_size) == (model.names, True, 16, 96)
    assert read.needs_nms and read.square_letterbox and written["dynamic"] == "true"


def test_older_and_missing_keys():
    assert Described({"squares": "true"}).square_letterbox and not Described({}).square_letterbox
    bare = Described({})
    assert (bare.names, bare.names_known, bare.stride, bare.train_size) == (
        ["class0", "class1", "class2"],
        False,
        32,
        640,
    )
    assert Described({"imgsz": "[320, 320]"}).train_size == 320


@pytest.mark.parametrize(
    ("text", "value"),
    [("[1, 2]", [1, 2]), ("{0: 'a'}", {0: "a"}), ("true", True), ("", None), (None, None), ("__import__('os')", None)],
)
def test_values_are_parsed_as_json_or_as_literals(text, value):
    assert parse_value(text) == value


def test_values_of_other_exporters():
    assert parse_names("{0: 'cat', 1: 'dog'}") == ["cat", "dog"]
    assert all(parse_names(text) is None for text in ("[]", "{0: 'a', 2: 'b'}", "[[1]]", "x", None))
    assert parse_stride("64") == 64 and parse_stride("0") == 32 and parse_stride("x") == 32
    assert parse_size("(320, 640)") == (320, 640) and parse_size("[320]") is None and parse_size("[0, 1]") is None
