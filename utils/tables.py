"""Tables as text for a terminal, as Markdown and as CSV."""

import csv
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from graftdet.utils.errors import UserError
from graftdet.utils.files import read_regular_file
from graftdet.utils.text import printable
from graftdet.utils.untrusted.limits import MAX_TABLE

WIDTH = 120  # characters, where the width of the terminal is unknown


def text_table(header: Sequence[object], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """Return a table with columns padded to equal width and separated by two spaces.

    Args:
        header: One title per column.
        rows: One value per column each; written with `str`.
        right: Indices of the columns that are aligned right, such as numbers.

    Returns:
        Lines joined by newlines, without trailing spaces.
    """
    lines = [[printable(str(cell)) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = set(right)
    pad = [str.rjust if index in right else str.ljust for index in range(len(widths))]
    return "\n".join(
        "  ".join(justify(cell, width) for justify, cell, width in zip(pad, line, widths, strict=True)).rstrip()
        for line in lines
    )


def wrapped_table(
    header: Sequence[object], rows: Iterable[Sequence[object]], right: Iterable[int] = (), width: int | None = None
) -> str:
    """Return the table of `text_table` as several tables, one below the other, where it is too wide.

    Each of them repeats the first column and has as many of the others as fit, at least one. Rows that are empty but
    for the first column are omitted.

    Args:
        header: One title per column.
        rows: One value per column each.
        right: Indices of the columns that are aligned right.
        width: Largest number of characters per line (default: that of the terminal).
    """
    width = width or shutil.get_terminal_size((WIDTH, 0)).columns
    lines, right = [[str(cell) for cell in line] for line in (header, *rows)], set(right)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    groups: list[list[int]] = []
    for column in range(1, len(widths)):
        if groups and sum(2 + widths[other] for other in (*groups[-1], column)) + widths[0] <= width:
            groups[-1].append(column)
        else:
            groups.append([column])
    tables = []
    for group in groups:
        columns = [0, *group]
        chosen = [[line[column] for column in columns] for line in lines]
        aligned = [index for index, column in enumerate(columns) if column in right]
        tables.append(text_table(chosen[0], [line for line in chosen[1:] if any(line[1:])], aligned))
    return "\n\n".join(tables)


def read_csv_table(path: str | Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read a CSV table with a header, which may be being written: an incomplete last line is omitted.

    Args:
        path: The file.

    Returns:
        The names of the columns, and the rows; rows with more cells than columns are omitted, missing cells are empty.

    Raises:
        FileNotFoundError: If there is none.
        UserError: If it cannot be read or is no such table.
    """
    try:
        text = read_regular_file(path, MAX_TABLE).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), restval="")
        rows = [row for row in reader if None not in row]
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f"{path}: is not a CSV table ({reason}); it was damaged or edited") from None
    return list(reader.fieldnames or ()), rows


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]], right: Iterable[int] = ()) -> str:
    """Return a Markdown table. Arguments as in `text_table`."""
    right = set(right)
    dashes = "|".join("---:" if index in right else "---" for index in range(len(header)))
    return "\n".join([markdown_row(header), f"|{dashes}|", *map(markdown_row, rows)])


def markdown_row(cells: Sequence[object]) -> str:
    """Return one line of a Markdown table; `|` is escaped, line breaks become spaces."""
    return f"| {' | '.join(' '.join(str(cell).split(chr(10))).replace('|', chr(92) + '|') for cell in cells)} |"
