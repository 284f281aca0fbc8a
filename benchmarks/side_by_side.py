"""Two runs of train.py at once on two cores, compared with one that has both cores; images per second."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import ROOT, Table, parser
from benchmarks.training import median_rate, read_results

CORES = 2
MODEL = "yolov5n.yaml"
LIMIT = 0.9  # of one run that has both cores


def main() -> int:
    """Print the table; returns the exit status."""
    flags = parser("side_by_side", __doc__)
    flags.add_argument("--data", default="bccd.yaml")
    flags.add_argument("--img", type=int, default=320)
    about = "epochs of each run; the first half is not counted, because threads follow a load that lasts for a minute"
    flags.add_argument("--epochs", type=int, default=16, help=about)
    options = flags.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    table = Table(f"Two trainings at once, {MODEL} on {options.data} at {options.img}, {CORES} cores", options.output)
    settings = ["--data", options.data, "--img", str(options.img), "--epochs", str(options.epochs)]
    (alone,) = run_together(1, settings)
    table.add("one run alone: the reference", f"{alone:.1f} images/s")
    cases: dict[str, dict[str, str]] = {
        "two runs, threads follow the load": {},
        "two runs of one thread (OMP_NUM_THREADS=1)": {"OMP_NUM_THREADS": "1"},
        "two runs of two threads (OMP_NUM_THREADS=2)": {"OMP_NUM_THREADS": "2"},
        "the same, always spinning": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "30000", "OMP_WAIT_POLICY": "active"},
    }
    for what, variables in cases.items():
        rates = run_together(2, settings, variables)
        limit = {} if variables else {"at_least": LIMIT}
        table.add(what, f"{' and '.join(f'{rate:.1f}' for rate in rates)} images/s", sum(rates) / alone, **limit)
    return bool(table.short)


def run_together(count: int, settings: Sequence[str], variables: dict[str, str] | None = None) -> list[float]:
    """Run train.py several times at once.

    Args:
        count: Number of processes.
        settings: Flags of train.py.
        variables: Environment variables.

    Returns:
        Images per second of each, the median of the second half of the epochs.
    """
    with tempfile.TemporaryDirectory() as folder:
        common = ["--cfg", MODEL, "--weights", "none", "--device", "cpu", "--noval", "--project", folder, *settings]
        processes = [
            subprocess.Popen(
                [sys.executable, "train.py", *common, "--name", f"run{number}"],
                cwd=ROOT,
                env={**os.environ, **(variables or {})},
                stdout=subprocess.DEVNULL,
            )
            for number in range(count)
        ]
        if any([process.wait() for process in processes]):
            sys.exit("train.py failed")
        tables = [read_results(Path(folder) / f"run{number}" / "results.csv") for number in range(count)]
        return [median_rate(rows, skipped=len(rows) // 2) for rows in tables]


if __name__ == "__main__":
    sys.exit(main())
