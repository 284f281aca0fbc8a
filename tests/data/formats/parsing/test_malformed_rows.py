"""Messages for rows of label files that cannot be read."""

import pytest

from graftdet.data.formats.parsing.malformed_rows import explain_row
from graftdet.data.formats.parsing.yolo_rows import parse_labels

SPACES = "expected values separated by spaces, with decimal points: class cx cy w h"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0,0.5,0.5,0.2,0.2", f"has commas, {SPACES}"),
        ("0, 0.5, 0.5, 0.2, 0.2", f"has commas, {SPACES}"),
        ("0,0,5,0,5,0,2,0,2", f"has commas, {SPACES}"),
        ("cat,0.5,0.5,0.2,0.2", f"has commas, {SPACES}"),
        ("0;0.5;0.5;0.2;0.2", f"has semicolons, {SPACES}"),
        ("0; 0,5; 0,5; 0,2; 0,2", f"has semicolons, {SPACES}"),
        ("0 0,5 0,5 0,2 0,2", "has decimal commas, expected decimal points"),
        ("0\t,5\t-0,5\t1\t0,2", "has decimal commas, expected decimal points"),
        ("0 0.5 0.5 0.2", "has 4 of at least 5 values: class cx cy w h"),
        ("cat 0.5 .5 2e-1 0.2", "starts with 'cat', expected the number of a class"),
        ("traffic light 0.5 0.5 0.2 0.2", "starts with 'traffic light', expected the number of a class"),
        ("0.5 0.5 0.5 0.2 0.2", "starts with 0.5, expected the whole number of a class"),
        ("99999999999 0.5 0.5 0.2 0.2", "starts with 99999999999, expected the whole number of a class"),
        ("class x y w h", "has no numbers, expected class cx cy w h"),
        ("0 0.5 0.5 0.2 wide", ""),
    ],
)
def test_the_reason_is_named(row, reason):
    malformed = parse_labels(f"0 .5 .5 .2 .2\n  {row} \n").malformed
    assert [line for line, _ in malformed] == [2]
    assert explain_row(malformed[0][1]) == f"{row!r} {reason}".rstrip()


def test_long_rows_are_shortened():
    assert explain_row("x" * 100_000) == f"'{'x' * 60}' has no numbers, expected class cx cy w h"
