"""`python -m models insert FILE.yaml --after 9 '[-1, 1, SELayer, [4]]'`: graft a row in; all indices follow.

The row right behind the new one reads it, where it read -1 before. Rows that read row 9 by its index or name go on
reading row 9, unless `--readers all` is given.
"""

import sys

from graftdet.models.editing.editor import find_index, insert_row
from graftdet.models.editing.model_file import add_file_arguments, read_model_text, write_model_text
from graftdet.models.spec.model_spec import ModelSpec, unused_rows


def add_arguments(parser) -> None:
    add_file_arguments(parser)
    parser.add_argument(
        "row", nargs="+", metavar="ROW",
        help="the new row as YAML: '[from, number, module, args]', or with a name as fifth; several go in one after the other",
    )  # fmt: skip
    parser.add_argument(
        "--after", required=True, metavar="ROW", help="index or name of the row before it; -1: the very start"
    )
    parser.add_argument(
        "--readers", choices=("next", "all"), default="next",
        help="who reads the new row in the place of the one before it: the next row, or all that read that one",
    )  # fmt: skip


def run(args) -> None:
    path, text = read_model_text(args)
    old = ModelSpec.from_text(text, path.name)
    after, new = find_index(old, args.after), text
    for number, row in enumerate(args.row):
        new = insert_row(new, after + number, row, path.name, args.readers)
    which = "row" if len(args.row) == 1 else "rows"
    where = f"after row {args.after}" if after >= 0 else "at the start"
    spec = write_model_text(args, path, text, new, f"with the new {which} {where}")
    tell_unread(spec, old)


def tell_unread(spec: ModelSpec, old: ModelSpec) -> None:
    """Say which rows of `spec` nothing reads, where `old` had fewer of them."""
    unread = unused_rows(spec)
    if len(unread) > len(unused_rows(old)):
        hint = "--readers all lets the rows read it that read the one before it"
        for row in unread:
            print(f"warning: {spec.label}, {row} {row.module}: is read by no row; {hint}", file=sys.stderr)
