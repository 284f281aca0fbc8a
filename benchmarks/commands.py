"""CPU seconds of commands that need no torch, from process start to end, and of the imports of the scripts."""

import resource
import subprocess
import sys
import tempfile

from benchmarks.table import ROOT, Table, parser
from graftdet.__main__ import SCRIPTS
from graftdet.models.__main__ import COMMANDS

HELP, CHECK = 0.3, 0.8  # CPU seconds at most
REPEATS = 3  # the fastest counts: other processes slow down the caches
FILES = ("yolov5n.yaml", "v5Lite-s.yaml", "yolov5x6.yaml")


def cpu_seconds(*arguments: str) -> float:
    """User and system time of a Python process, the fastest of `REPEATS`."""
    times = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryFile() as output:
            subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=output)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main() -> int:
    """Print the table; returns the exit status."""
    options = parser("commands", __doc__).parse_args()
    table = Table("Start of commands, CPU seconds of the whole process", options.output)
    programs = [f"{script}.py" for script in SCRIPTS]
    commands = [[program, "--help"] for program in programs]
    commands += [["-m", "models", command, "--help"] for command in COMMANDS]
    commands += [["-m", program, "--help"] for program in ("graftdet", "data")]
    for arguments in commands:
        seconds = cpu_seconds(*arguments)
        table.add(" ".join(arguments), f"{seconds:.2f} s", seconds, at_most=HELP)
    for name in FILES:
        seconds = cpu_seconds("-m", "models", "check", name)
        table.add(f"-m models check {name}", f"{seconds:.2f} s", seconds, at_most=CHECK)
    torch = cpu_seconds("-c", "import torch")
    table.add("import torch", f"{torch:.2f} s")
    for script in ("train", "val", "export"):
        seconds = cpu_seconds("-c", f"import graftdet.{script}")
        table.add(f"import graftdet.{script}", f"{seconds:.2f} s", seconds / torch)
    return bool(table.short)


if __name__ == "__main__":
    sys.exit(main())
