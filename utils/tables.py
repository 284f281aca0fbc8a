"""Tables as text for a terminal and as Markdown."""

from collections.abc import Iterable, Sequence


def text_table(header: Sequence[object], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """Return a table with columns padded to equal width and separated by two spaces.

    Args:
        header: One title per column.
        rows: One value per column each; written with `str`.
        right: Indices of the columns that are aligned right, such as numbers.

    Returns:
        Lines joined by newlines, without trailing spaces.
    """
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = set(right)
    pad = [str.rjust if index in right else str.ljust for index in range(len(widths))]
    return "\n".join(
        "  ".join(justify(cell, width) for justify, cell, width in zip(pad, line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """Return a Markdown table. Arguments as in `text_table`."""
    right = set(right)
    dashes = "|".join("---:" if index in right else "---" for index in range(len(header)))
    return "\n".join([markdown_row(header), f"|{dashes}|", *map(markdown_row, rows)])


def markdown_row(cells: Sequence[object]) -> str:
    """Return one line of a Markdown table; `|` is escaped, line breaks become spaces."""
    return f"| {' | '.join(' '.join(str(cell).split(chr(10))).replace('|', chr(92) + '|') for cell in cells)} |"
