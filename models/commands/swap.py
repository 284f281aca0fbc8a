"""`python -m models swap FILE.yaml C3 C3_GhostModule [--rows backbone]`: replace a block or head by another one."""

import argparse
import sys

from graftdet.models.commands.edited_file import add_file_arguments
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import show_row
from graftdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_file_arguments(parser)
    parser.add_argument("old", metavar="OLD", help="module name to replace")
    parser.add_argument("new", metavar="NEW", help="module name to write")
    about = "limit to backbone, head, or indices, ranges and names such as 2,4,6-8"
    parser.add_argument("--rows", help=about)


def run(args: argparse.Namespace) -> None:
    """Replace the module, write the YAML and print the changes."""
    from graftdet.models.editing.editor import swap_module
    from graftdet.models.editing.model_file import read_model_text, write_model_text
    from graftdet.models.graph.modules import find_block

    try:
        find_block(args.new)
    except UserError as error:
        raise UserError(f"{args.new}: {error}") from None
    path, text = read_model_text(args)
    new, rows = swap_module(text, args.old, args.new, path.name, args.rows)
    after = write_model_text(args, path, text, new, f"with {args.new} for {args.old}")
    count = f"{len(rows)} row{'s' * (len(rows) > 1)}"
    print(f"{path.name}: {args.new} for {args.old} in {count}: {', '.join(map(str, rows))}", file=sys.stderr)
    for before, row in zip(ModelSpec.from_text(text, path.name).rows, after.rows, strict=True):
        old_args, new_args = show_row(before.written[3]), show_row(row.written[3])
        if row.written[3] != before.written[3]:
            print(f"  args of row {row.index} were {old_args}, now {new_args}", file=sys.stderr)
