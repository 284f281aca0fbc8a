"""Tables as text and as Markdown."""

from graftdet.utils.tables import markdown_table, text_table


def test_columns_have_equal_width_and_numbers_are_right_aligned():
    lines = text_table(["class", "AP"], [["cat", 0.5], ["elephant", 12]], right=[1]).split("\n")
    assert lines == ["class      AP", "cat       0.5", "elephant   12"]


def test_lines_have_no_trailing_spaces():
    assert text_table(["a", "note"], [["1", ""], ["2", "long text"]]) == "a  note\n1\n2  long text"


def test_markdown():
    text = markdown_table(["name", "ms"], [["a|b", 1.5], ["two\nlines", 2]], right=[1])
    assert text == "| name | ms |\n|---|---:|\n| a\\|b | 1.5 |\n| two lines | 2 |"
