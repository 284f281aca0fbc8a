"""The table that all benchmarks print and write: result, ratio to a reference of the same run, limit and verdict."""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from graftdet.utils.environment import commit
from graftdet.utils.processor import cpu_flags, processor_name, usable_cores
from graftdet.utils.tables import markdown_row, markdown_table

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ["what", "figure", "ratio", "limit", "verdict"]


FOLDER = ROOT / "runs" / "benchmarks"
PACKAGES = ("torch", "onnxruntime", "openvino", "opencv-python", "numpy")


class Table:
    """Prints each row as soon as it is added, and writes all rows so far as JSON and as Markdown.

    Args:
        title: Printed above the table.
        output: The JSON file; the Markdown file is beside it. None: nothing is written.
    """

    def __init__(self, title: str, output: Path | None = None):
        self.title, self.output = title, output
        self.short: list[str] = []  # rows that missed their limit
        self.rows: list[dict[str, Any]] = []
        self.environment = environment()

    def add(
        self,
        what: str,
        figure: str,
        value: float | None = None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Print a row and write the table.

        Args:
            what: What was measured.
            figure: The result as text.
            value: What the limit applies to: the ratio to a reference, or the result itself.
            at_least: Lower limit of `value`.
            at_most: Upper limit of `value`.
        """
        if not self.rows:
            print(f"\n## {self.title}\n\n{_conditions(self.environment)}\n\n{markdown_table(COLUMNS, [])}")
        limit = (
            f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}" if at_most is not None else ""
        )
        good = value is None or not (
            (at_least is not None and value < at_least) or (at_most is not None and value > at_most)
        )
        verdict = "" if not limit else "ok" if good else "SHORT"
        if not good:
            self.short.append(what)
        ratio = None if value is None else float(value)
        row = {"what": what, "figure": figure, "ratio": ratio, "limit": limit, "verdict": verdict}
        self.rows.append(row)
        print(markdown_row(_cells(row)), flush=True)
        if self.output:
            write_records([self.record()], self.output)

    def record(self) -> dict[str, Any]:
        """Return title, rows and `environment`."""
        return {"title": self.title, **self.environment, "rows": self.rows}


def _cells(row: dict[str, Any]) -> list[str]:
    return [*(row[key] if key != "ratio" else "" if row[key] is None else f"{row[key]:.2f}" for key in COLUMNS)]


def write_records(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write tables to one JSON file, and to a Markdown file of the same name beside it.

    Args:
        records: As `Table.record` returns them.
        path: The JSON file; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"tables": records}, indent=1) + "\n", encoding="utf-8")
    texts = [
        f"## {record['title']}\n\n{markdown_table(COLUMNS, map(_cells, record['rows']))}\n\n{_conditions(record)}\n"
        for record in records
    ]
    path.with_suffix(".md").write_text("\n".join(texts), encoding="utf-8")


def _conditions(record: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    revision = record["commit"]
    revision = revision[:7] + "+" * revision.endswith("+") or "unknown"
    return f"`{record['command']}`, commit {revision}, {record['date']}, {record['machine']}, {packages}"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the tables in a file of `write_records`; none if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8"))["tables"] if path.exists() else []


def parser(name: str, description: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of a table's command line, with the option --output.

    Args:
        name: Name of the table: `python -m benchmarks NAME`.
        description: Printed by --help.
    """
    found = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=description)
    help_text = "JSON file for the table; a Markdown file is written beside it (default: %(default)s)"
    found.add_argument("--output", type=Path, default=FOLDER / f"{name}.json", metavar="FILE.json", help=help_text)
    return found


def environment() -> dict[str, Any]:
    """Return what a figure depends on: command, commit, date, machine with its load, and versions."""
    module = getattr(sys.modules["__main__"].__spec__, "name", "")
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return {
        "command": " ".join(["python", *(["-m", module] if module else []), *_without_output(sys.argv[1:])]),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": machine() + load,
        "versions": versions(),
    }


def _without_output(arguments: list[str]) -> list[str]:
    if "--output" not in arguments:
        return arguments
    at = arguments.index("--output")
    return arguments[:at] + arguments[at + 2 :]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that figures depend on."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Return processor, number of cores that this process may use, and memory."""
    return f"{_processor()}, {usable_cores()} cores{_memory()}"


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    except (AttributeError, ValueError, OSError):
        return ""


def _processor() -> str:
    extras = {"avx512f": "AVX-512", "avx512_bf16": "BF16", "amx_bf16": "AMX"}
    return " ".join([processor_name(), *(name for flag, name in extras.items() if flag in cpu_flags())])


def time_alternately(
    calls: list[Callable[[], object]],
    repeats: int = 20,
    warmup: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the median seconds of each call.

    The calls are timed alternately, so that changes of the machine's speed affect all of them.

    Args:
        calls: What to time.
        repeats: Timed runs of each.
        warmup: Runs of each before that.
        clock: Returns the time in seconds.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(warmup + repeats):
        for call, times in zip(calls, seconds, strict=True):
            start = clock()
            call()
            if number >= warmup:
                times.append(clock() - start)
    return [statistics.median(times) for times in seconds]


def data_folder(name: str) -> Path | None:
    """Return the folder `name` below $DATASETS_DIR; if it does not exist, print that and return None."""
    folder = Path(os.environ.get("DATASETS_DIR", "datasets")) / name
    if folder.is_dir():
        return folder
    print(f"{folder}: no such folder; rows that need it are skipped (set DATASETS_DIR)")
    return None
