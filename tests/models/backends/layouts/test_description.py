"""Descriptions of exported files: the same after reading, one line for malformed ones."""

import json

import pytest

from graftdet.models.backends.layouts.description import Description
from graftdet.utils.errors import UserError

WHOLE = Description([1, 3, 64, 96], [("boxes", [1, None, 4])], {"names": "{0: 'Ä'}", "nc": "1"})


@pytest.mark.parametrize("ascii_only", [False, True])
def test_what_was_written_is_read(ascii_only):
    text = WHOLE.to_json(ascii_only, sha256="0")
    assert Description.from_json(text, "a") == WHOLE == Description.from_json(text.encode(), "a")
    assert json.loads(text)["sha256"] == "0" and text.isascii() is ascii_only


@pytest.mark.parametrize(
    "change",
    [
        {"input": [1, 3]},
        {"input": None},
        {"input": [1, 3, "a", 4]},
        {"input": [1, 3, 1e999, 4]},
        {"outputs": [["boxes"]]},
        {"outputs": 3},
        {"metadata": []},
        {"metadata": None},
    ],
)
def test_malformed_descriptions_are_one_line(change):
    content = {**json.loads(WHOLE.to_json()), **change}
    with pytest.raises(UserError, match=r"^a\.pte: (was not exported by this project|expected an input)[^\n]*$"):
        Description.from_json(json.dumps(content), "a.pte")
    for text in ("", "[]", "[" * 100_000, b"\xff\xfe\xff", "null"):
        with pytest.raises(UserError, match="was not exported by this project"):
            Description.from_json(text, "a.pte")
