"""What is fuzzed guided by coverage: each reader reads the valid content that damaged ones are made from."""

import pytest

pytest.importorskip("hypothesis")
from graftdet.utils.errors import UserError
from tests.fuzz.coverage_guided import readers


def test_valid_content_is_read_and_damaged_content_is_not(tmp_path):
    for name, (content, read) in readers(tmp_path).items():
        read(content)
        with pytest.raises(UserError):
            read(content[: len(content) // 2] + b"\xff\x00[" + content[-3:])
            pytest.fail(f"{name}: read damaged content")
