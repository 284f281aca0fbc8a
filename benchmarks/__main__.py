"""`python -m benchmarks [TABLE ...]`: each table in a process of its own; exit status 1 where a limit is missed."""

import argparse
import subprocess
import sys
from pathlib import Path

from .table import ROOT

TABLES = sorted(
    path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in ("__init__", "__main__", "table")
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed, table by table.")
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; all without")
    chosen = parser.parse_args().tables or TABLES
    unknown = [name for name in chosen if name not in TABLES]
    if unknown:
        parser.error(f"no table '{unknown[0]}'; there are {', '.join(TABLES)}")
    status = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT).returncode for name in chosen]
    failed = [name for name, code in zip(chosen, status, strict=True) if code]
    print(f"\nshort of a limit: {', '.join(failed)}" if failed else "\nall limits held")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
