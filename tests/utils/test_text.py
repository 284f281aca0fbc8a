"""Names that are not UTF-8 in files that are."""

import os

import pytest

from graftdet.utils.text import valid_utf8


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (b"caf\xe9.jpg", "caf%E9.jpg"),
        ("café 100%.jpg".encode(), "café 100%.jpg"),
        (b"\xff\x80\xc3", "%FF%80%C3"),
        (b"", ""),
    ],
)
def test_bytes_that_are_not_utf8_are_percent_encoded(name, written):
    assert valid_utf8(name.decode("utf-8", "surrogateescape")) == written
    assert os.fsdecode(written.encode()) == written


def test_surrogates_of_a_json_escape():
    assert valid_utf8("a\ud83d") == "a%ED%A0%BD"
