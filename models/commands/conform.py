"""`python -m models conform MyBlock --plugins my_blocks.py`: run conformance checks on a block, one line per check.

Exit status 0: all passed; 1: a check failed; 2: the block cannot be built.
"""

import argparse
import sys

import yaml

from graftdet.models.spec.model_spec import resolve_constants
from graftdet.utils.cli import at_least
from graftdet.utils.errors import UserError
from graftdet.utils.tables import text_table
from graftdet.utils.text import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("module", metavar="BLOCK", help="module name of the block, also of one from --plugins")
    about = "arguments as in a row of a model YAML, starting with the output width; guessed if none are given"
    add("args", metavar="ARG", nargs="*", help=about)
    add("--args", dest="row_args", metavar="'[64, 3]'", help="all arguments as one YAML list or mapping")
    about = "number of input channels; several numbers for a block that joins maps"
    add("--in", dest="width_in", type=at_least(1), nargs="+", metavar="C", help=about)


def run(args: argparse.Namespace) -> None:
    """Print the result of each check; exit with status 1 if one failed."""
    from graftdet.models.conformance.case_search import find_cases
    from graftdet.models.conformance.checks import run_checks
    from graftdet.models.graph.modules import find_block

    block, options, is_head = find_block(args.module)
    if is_head:
        raise UserError(f"{args.module}: is a head; conformance checks are for blocks")
    row_args, kwargs = _read_arguments(args)
    cases = find_cases(args.module, block, options, row_args, kwargs, args.width_in)
    print(" and ".join(map(str, cases)))
    results = run_checks(cases)
    rows = [[title, "ok" if result.passed else "FAILED", result.text] for title, result in results.items()]
    print(text_table(["check", "result", ""], rows))
    passed = sum(result.passed for result in results.values())
    print(f"{args.module}: {passed} of {counted(len(results), 'check')} passed")
    if passed < len(results):
        sys.exit(1)


def _read_arguments(args: argparse.Namespace) -> tuple[list | None, dict]:
    """Positional (None: none were given) and keyword arguments of the command line."""
    if args.args and args.row_args:
        raise UserError(f"{args.module}: give arguments either one by one or as --args")
    if not args.args and args.row_args is None:
        return None, {}
    try:
        value = yaml.safe_load(args.row_args) if args.row_args else [yaml.safe_load(text) for text in args.args]
    except yaml.YAMLError:
        raise UserError(
            f"--args {args.row_args or ' '.join(args.args)}: is not a YAML list such as '[64, 3]'"
        ) from None
    value = resolve_constants(value)
    if isinstance(value, dict):
        return [], value
    if not isinstance(value, list):
        raise UserError(f"--args {args.row_args}: expected a list such as '[64, 3]' or a mapping such as '{{k: 3}}'")
    if value and isinstance(value[-1], dict):
        return value[:-1], value[-1]
    return value, {}
