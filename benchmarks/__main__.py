"""`python -m benchmarks [TABLE ...]`: run each table in its own process; exit status 1 if a limit is missed."""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .table import FOLDER, ROOT, read_records, write_records

TABLES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "__main__", "table")
)


def main() -> int:
    """Run the tables; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Run benchmarks and print one table each, with limits. Options of a single table, such as "
        "'training --img 640', follow its name; 'python -m benchmarks.training --help' lists them.",
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)} (default: all)")
    help_text = (
        f"JSON file for all tables; a Markdown file is written beside it (default: in {FOLDER.relative_to(ROOT)})"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.json", help=help_text)
    options, rest = parser.parse_known_args()
    chosen = options.tables or TABLES
    unknown = [name for name in chosen if name not in TABLES]
    if unknown:
        parser.error(f"unknown table '{unknown[0]}'; expected {', '.join(TABLES)}")
    if rest and len(chosen) > 1:
        parser.error(f"'{rest[0]}' is an option of a single table; name that table alone")
    output = options.output or FOLDER / f"{chosen[0] if len(chosen) == 1 else 'all'}.json"
    failed = run_tables(chosen, rest, output.resolve())
    print(f"\nshort of a limit: {', '.join(failed)}" if failed else "\nall limits held")
    return bool(failed)


def run_tables(names: list[str], arguments: list[str], output: Path) -> list[str]:
    """Run tables, each in its own process, and collect them in one file.

    Args:
        names: Modules of this package.
        arguments: Options for each of them.
        output: The JSON file; written again after each table.

    Returns:
        The names of tables that missed a limit or failed.
    """
    records, failed = [], []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--output", str(path)]
            if subprocess.run(command, cwd=ROOT).returncode:
                failed.append(name)
            records += read_records(path)
        if records:
            write_records(records, output)
    if records:
        print(f"\nwritten: {output}, {output.with_suffix('.md')}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
