"""`python -m models report RUN RUN ...`: finished runs side by side, with confidence intervals of their differences."""

import argparse
from pathlib import Path

from graftdet.utils.cli import at_least
from graftdet.utils.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of train.py or val.py; the others are compared with the first")
    add("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE.html", help="file to write")
    add("--samples", type=at_least(100), default=1000, help="bootstrap samples of the images")
    add("--seed", type=at_least(0), default=0, help="seed of the samples")


def run(args: argparse.Namespace) -> None:
    """Print the table and write the page."""
    from graftdet.utils.reporting.comparison import compare_runs, comparison_text, write_comparison

    if args.output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {args.output}: expected a file name that ends in .html")
    if len(args.runs) < 2:
        page = Path(args.runs[0]) / "report.html"
        raise UserError("expected at least two runs, got one" + (f"; {page} describes it" if page.is_file() else ""))
    compared = compare_runs(args.runs, args.samples, args.seed)
    print(comparison_text(compared))
    write_comparison(compared, args.output)
    print(f"written to {args.output}")
