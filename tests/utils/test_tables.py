"""Tables as text and as Markdown."""

from graftdet.utils.tables import markdown_table, text_table, wrapped_table


def test_columns_have_equal_width_and_numbers_are_right_aligned():
    lines = text_table(["class", "AP"], [["cat", 0.5], ["elephant", 12]], right=[1]).split("\n")
    assert lines == ["class      AP", "cat       0.5", "elephant   12"]


def test_lines_have_no_trailing_spaces():
    assert text_table(["a", "note"], [["1", ""], ["2", "long text"]]) == "a  note\n1\n2  long text"


def test_a_table_that_is_too_wide_becomes_several():
    header, rows = ["", "one", "two", "three"], [["cost", 1, 22, 333], ["size", "", "", "x" * 30], ["time", 4, 5, 6]]
    wide = text_table(header, rows, right=[1, 2, 3])
    assert wrapped_table(header, rows, right=[1, 2, 3], width=48) == wide and len(wide.split("\n")[0]) == 46
    narrow = wrapped_table(header, rows, right=[1, 2, 3], width=14).split("\n\n")
    assert narrow[0] == "      one  two\ncost    1   22\ntime    4    5"  # without the row that is empty here
    assert narrow[1] == text_table(["", "three"], [[row[0], row[3]] for row in rows], right=[1])  # wider, but alone


def test_markdown():
    text = markdown_table(["name", "ms"], [["a|b", 1.5], ["two\nlines", 2]], right=[1])
    assert text == "| name | ms |\n|---|---:|\n| a\\|b | 1.5 |\n| two lines | 2 |"
