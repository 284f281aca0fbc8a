"""`python -m benchmarks [TABLE ...]`: run each table in its own process; exit status 1 if a limit is missed."""

import argparse
import subprocess
import sys
from pathlib import Path

from .table import ROOT

TABLES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "__main__", "table")
)


def main() -> int:
    """Run the tables; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Run benchmarks and print one table each, with limits."
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)} (default: all)")
    chosen = parser.parse_args().tables or TABLES
    unknown = [name for name in chosen if name not in TABLES]
    if unknown:
        parser.error(f"unknown table '{unknown[0]}'; expected {', '.join(TABLES)}")
    status = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT).returncode for name in chosen]
    failed = [name for name, code in zip(chosen, status, strict=True) if code]
    print(f"\nshort of a limit: {', '.join(failed)}" if failed else "\nall limits held")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
