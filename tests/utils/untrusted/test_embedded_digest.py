"""Digests inside files notice every change."""

import hashlib
import re

import pytest

from graftdet.utils.untrusted.embedded_digest import NO_DIGEST, check_embedded_digest, fill_embedded_digest

PATTERN = re.compile(rb'"sha256": "([0-9a-f]{64})"')
CONTENT = b'header {"sha256": "' + NO_DIGEST.encode() + b'"} weights'


def test_the_digest_is_that_of_the_content_with_zeros_in_its_place():
    filled = fill_embedded_digest(CONTENT, PATTERN, b"more")
    assert filled == CONTENT.replace(NO_DIGEST.encode(), hashlib.sha256(CONTENT + b"more").hexdigest().encode())
    assert fill_embedded_digest(filled, PATTERN, b"more") == filled


def test_every_changed_byte_is_noticed():
    filled = fill_embedded_digest(CONTENT, PATTERN, b"more")
    assert check_embedded_digest(filled, PATTERN, b"more")
    assert not check_embedded_digest(filled, PATTERN, b"mose")
    for position in range(len(filled)):
        changed = filled[:position] + bytes([filled[position] ^ 1]) + filled[position + 1 :]
        try:
            assert not check_embedded_digest(changed, PATTERN, b"more")
        except ValueError as error:
            assert "expected one digest, found 0" in str(error)


@pytest.mark.parametrize("content", [b"", CONTENT.replace(b"sha256", b"sha512"), CONTENT + CONTENT])
def test_a_file_has_one_digest(content):
    with pytest.raises(ValueError, match="expected one digest, found [02]"):
        fill_embedded_digest(content, PATTERN)
