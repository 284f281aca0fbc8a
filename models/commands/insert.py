"""`python -m models insert FILE.yaml --after 9 '[-1, 1, SELayer, [4]]'`: insert rows, and update all indices.

The row after the new one reads it if its `from` was -1. Rows that read row 9 by its index or name still read row 9,
unless `--readers all` is given.
"""

import argparse
import logging

from graftdet.models.commands.edited_file import add_file_arguments
from graftdet.models.spec.model_spec import ModelSpec, unused_rows

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_file_arguments(parser)
    about = "new row as YAML: '[from, number, module, args]' or '[from, number, module, args, name]'; several in order"
    parser.add_argument("row", nargs="+", metavar="ROW", help=about)
    parser.add_argument("--after", required=True, metavar="ROW", help="index or name of the row before it; -1: start")
    about = "rows that read the new row instead of the one before it: the next row, or all that read that one"
    parser.add_argument("--readers", choices=("next", "all"), default="next", help=about)


def run(args: argparse.Namespace) -> None:
    """Insert the rows and write the YAML."""
    from graftdet.models.editing.editor import find_index, insert_row
    from graftdet.models.editing.model_file import read_model_text, write_model_text

    path, text = read_model_text(args)
    old = ModelSpec.from_text(text, path.name)
    after, new = find_index(old, args.after), text
    for number, row in enumerate(args.row):
        new = insert_row(new, after + number, row, path.name, args.readers)
    rows = "row" if len(args.row) == 1 else "rows"
    where = f"after row {args.after}" if after >= 0 else "at the start"
    spec = write_model_text(args, path, text, new, f"with the new {rows} {where}")
    warn_unused(spec, old)


def warn_unused(spec: ModelSpec, old: ModelSpec) -> None:
    """Warn of rows of `spec` that no row reads, if `old` has fewer of them."""
    unused = unused_rows(spec)
    if len(unused) > len(unused_rows(old)):
        for row in unused:
            hint = "--readers all makes the rows that read the one before it read this one"
            logger.warning("%s, %s %s: is read by no row; %s", spec.label, row, row.module, hint)
