"""`python -m models swap FILE.yaml C3 C3_GhostModule [--rows backbone]`: another block, or head, in the place of one."""

import sys

from graftdet.models.editing.editor import swap_word
from graftdet.models.editing.model_file import add_file_arguments, read_model_text, write_model_text
from graftdet.models.graph.modules import find_block
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import show_row
from graftdet.utils.errors import UserError


def add_arguments(parser) -> None:
    add_file_arguments(parser)
    parser.add_argument("old", metavar="OLD", help="the word to replace")
    parser.add_argument("new", metavar="NEW", help="the word in its place")
    parser.add_argument("--rows", help="only there: backbone, head, or indices, ranges and names such as 2,4,6-8")


def run(args) -> None:
    try:
        find_block(args.new)
    except UserError as error:
        raise UserError(f"{args.new}: {error}") from None
    path, text = read_model_text(args)
    new, rows = swap_word(text, args.old, args.new, path.name, args.rows)
    after = write_model_text(args, path, text, new, f"with {args.new} for {args.old}")
    print(
        f"{path.name}: {args.new} for {args.old} in {len(rows)} row{'s' * (len(rows) > 1)}: {', '.join(map(str, rows))}",
        file=sys.stderr,
    )
    for before, row in zip(ModelSpec.from_text(text, path.name).rows, after.rows, strict=True):
        if row.written[3] != before.written[3]:
            print(
                f"  args of row {row.index} were {show_row(before.written[3])}, now {show_row(row.written[3])}",
                file=sys.stderr,
            )
