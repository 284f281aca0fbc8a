"""`python -m models blocks [NAME]`: list the modules that rows may name, or describe one of them."""

import argparse

OUTPUT_FORMATS = ("text", "json", "markdown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="module name (default: all blocks and heads)")
    parser.add_argument("--format", choices=OUTPUT_FORMATS, default="text", help="output format (default: text)")


def run(args: argparse.Namespace) -> None:
    """Print the description of one module or of all. Raises `UserError` for an unknown name."""
    from graftdet.models.analysis.block_catalog import blocks_markdown, format_list, format_module
    from graftdet.models.analysis.module_description import describe_all, describe_module

    if args.name is not None:
        print(format_module(describe_module(args.name), args.format))
    elif args.format == "markdown":
        print(blocks_markdown(), end="")
    else:
        print(format_list(describe_all(), args.format))
