"""`python -m models conform MyBlock --plugins my_blocks.py`: try on a block what would break later, one line each.

Exit status 0: all ok; 1: a line is not; 2: the block cannot be built at all.
"""

import sys

import torch
import yaml
from graftdet.models.conformance.block_case import Subject, find_subjects
from graftdet.models.conformance.checks import TRIALS
from graftdet.models.conformance.numerics import Failure
from graftdet.models.graph.row_builder import find_block
from graftdet.models.spec.model_spec import resolve_constants
from graftdet.utils.cli import at_least
from graftdet.utils.errors import UserError, first_line


def conform(subjects: list[Subject]) -> dict[str, tuple[bool, str]]:
    """Run each trial on each subject: name of the trial -> (passed, remark or reason)."""
    results, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)  # maps this small are slower on several
    for name, trial in TRIALS.items():
        passed, told = True, ""
        for subject in subjects:
            try:
                remark = trial(subject) or ""
                told = told or remark
            except Exception as error:  # a Failure, or whatever the block raises
                reason = (
                    first_line(error) if isinstance(error, Failure) else f"{type(error).__name__}: {first_line(error)}"
                )
                passed, told = False, reason + (f"; with {subject}" if len(subjects) > 1 else "")
                break
        results[name] = passed, told
    torch.set_num_threads(threads)
    return results


def add_arguments(parser) -> None:
    parser.add_argument("word", metavar="BLOCK", help="a YAML word, with --plugins one of yours")
    parser.add_argument(
        "args", metavar="ARG", nargs="*", help="its arguments as in a row, from the output width on; guessed without"
    )
    parser.add_argument("--args", dest="row_args", metavar="'[64, 3]'", help="the same as one YAML list or mapping")
    parser.add_argument(
        "--in",
        dest="width_in",
        type=at_least(1),
        nargs="+",
        metavar="C",
        help="width that it reads; several: it joins maps",
    )


def run(args) -> None:
    block, options, is_head = find_block(args.word)
    if is_head:
        raise UserError(f"{args.word}: is a head; only blocks can be tried")
    given, kwargs = _read_arguments(args)
    subjects = find_subjects(args.word, block, options, given, kwargs, args.width_in)
    print(" and ".join(map(str, subjects)))
    results = conform(subjects)
    longest = max(map(len, results))
    for name, (passed, told) in results.items():
        print(f"{name:{longest}s}  {'ok  ' if passed else 'no: '}{told}".rstrip())
    failed = sum(not passed for passed, _ in results.values())
    print(f"{args.word}: {len(results) - failed} of {len(results)} ok")
    if failed:
        sys.exit(1)


def _read_arguments(args) -> tuple[list | None, dict]:
    """Arguments of the command line as a row has them: (list, or None where none are given; mapping)."""
    if args.args and args.row_args:
        raise UserError(f"{args.word}: give its arguments either one by one or as --args")
    if not args.args and args.row_args is None:
        return None, {}
    try:
        value = yaml.safe_load(args.row_args) if args.row_args else [yaml.safe_load(text) for text in args.args]
    except yaml.YAMLError:
        raise UserError(f"--args {args.row_args or ' '.join(args.args)}: is no YAML list such as '[64, 3]'") from None
    value = resolve_constants(value)
    if isinstance(value, dict):
        return [], value
    if not isinstance(value, list):
        raise UserError(f"--args {args.row_args}: expected a list such as '[64, 3]' or a mapping such as '{{k: 3}}'")
    if value and isinstance(value[-1], dict):
        return value[:-1], value[-1]
    return value, {}
