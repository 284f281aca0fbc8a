"""Trainings to which something happens, and what must be equal after they were resumed.

`make chaos` runs the long version: `python -m tests.chaos.kill_harness`. A training runs in a forked process, so that
torch is imported once; POSIX only, and in a process of one thread only: others may hold locks.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch

from tests.chaos.faults import (
    CALLS,
    can_mount,
    limited_files,
    make_read_only,
    make_writable,
    signal_at,
    small_disk,
)
from tests.chaos.trainings import Trainings, nothing, wait, wait_for_all

STATUS = {signal.SIGKILL: 137, signal.SIGTERM: 143, signal.SIGINT: 130}
SECONDS = 12  # in which a process must end after SIGTERM or SIGINT
LOST_SECONDS = 90  # in which a process must end after another one of its group did


class Chaos:
    """Attacks on trainings; each method is one kind and returns what differs, empty if everything is as it must be.

    Args:
        folder: An empty folder.
        epochs: Length of each training.
        draw: Source of random points.
    """

    def __init__(self, folder: Path, epochs: int, draw: random.Random):
        self.trainings, self.draw = Trainings(folder, epochs), draw
        self.mounts = can_mount(folder / "mount")
        start = time.monotonic()
        assert not wait(self.trainings.start("whole")), self.trainings.log("whole")
        self.seconds, self.expected = time.monotonic() - start, self.trainings.outcome("whole")
        files = [path for path in self.trainings.run_folder("whole").rglob("*") if path.is_file()]
        self.kilobytes = sum(path.stat().st_size for path in files) // 1024
        self.largest = max(path.stat().st_size for path in files) // 1024
        self.of_ranks: tuple | None = None
        self.point = ""  # of the last attack, for the report

    def exact(self, name: str, number: int, which: signal.Signals = signal.SIGKILL) -> str:
        """A signal at a call of a function of `os` that changes files."""
        point = CALLS[number % len(CALLS)], number // len(CALLS), bool(self.draw.getrandbits(1))
        process = self.trainings.start(name, signal_at(*point, which))
        return self._after_signal(name, [process], which, f"{which.name} {point}")

    def random(self, name: str, which: signal.Signals = signal.SIGKILL) -> str:
        """A signal at a random time."""
        seconds = round(self.draw.random() * self.seconds, 2)
        process = self.trainings.start(name)
        time.sleep(seconds)
        os.kill(process, which)
        return self._after_signal(name, [process], which, f"{which.name} after {seconds} s")

    def _after_signal(self, name: str, processes: list[int], which: signal.Signals, point: str) -> str:
        statuses = wait_for_all(processes, SECONDS + self.seconds)
        self.point = f"{point}, status {statuses}"
        if statuses is None:
            return "does not end"
        if statuses[0] not in (0, STATUS[which]):
            return f"status {statuses[0]}, expected {STATUS[which]}: {self.trainings.log(name)[-500:]}"
        return self.trainings.check(name, self.expected)

    def full_disk(self, name: str) -> str:
        """A file system without space for the whole run; where nothing can be mounted, a limit on the size of files."""
        if not self.mounts:
            kilobytes = int(self.largest * self.draw.random())
            with limited_files(kilobytes) as limit:
                self.point = f"files of at most {kilobytes} kB"
                return self._without_space(name, self.trainings.start(name, limit), nothing)
        kilobytes = max(int(self.kilobytes * self.draw.random()), 16)
        self.point = f"disk of {kilobytes} kB"
        with small_disk(self.trainings.run_folder(name), kilobytes) as enlarge:
            return self._without_space(name, self.trainings.start(name), enlarge)

    def _without_space(self, name: str, process: int, free: Callable[[], None]) -> str:
        status = wait(process)
        log = self.trainings.log(name)
        self.point += f", status {status}"
        free()
        if status not in (0, 2) or "Traceback" in log:
            return f"status {status}: {log[-500:]}"
        if status and not any(text in log for text in ("No space left", "disk full", "File too large", "too early")):
            return f"the message names no reason: {log[-500:]}"
        return self.trainings.check(name, self.expected)

    def read_only(self, name: str) -> str:
        """The folder of the run becomes read-only at a random time."""
        if not self.mounts and os.geteuid() == 0:
            self.point = "omitted: the superuser may write everywhere, and nothing can be mounted"
            return ""
        folder = self.trainings.run_folder(name)
        if not self.mounts:
            return self._read_only(name, folder)
        with small_disk(folder, 100_000):
            return self._read_only(name, folder)

    def _read_only(self, name: str, folder: Path) -> str:
        process = self.trainings.start(name)
        seconds = round(self.draw.uniform(0.3, 0.9) * self.seconds, 2)
        time.sleep(seconds)
        if not make_read_only(folder, self.mounts):
            return "cannot be made read-only"
        status = wait(process)
        make_writable(folder, self.mounts)
        log = self.trainings.log(name)
        self.point = f"read-only after {seconds} s, status {status}"
        if status not in (0, 2) or "Traceback" in log:
            return f"status {status}: {log[-500:]}"
        if status and "Read-only file system" not in log and "Permission denied" not in log:
            return f"the message names no reason: {log[-500:]}"
        return self.trainings.check(name, self.expected)

    def ranks(self, name: str) -> str:
        """A signal to one of two processes that train together: the other one ends, too, and both are resumed."""
        trainings = self.trainings
        if self.of_ranks is None:
            start = time.monotonic()
            assert wait_for_all(trainings.start_ranks("two"), 600) == [0, 0], trainings.log("two")
            self.of_ranks = time.monotonic() - start, trainings.outcome("two")
        seconds, rank = round(self.draw.random() * self.of_ranks[0], 2), self.draw.randrange(2)
        which = self.draw.choice([signal.SIGKILL, signal.SIGTERM])
        processes = trainings.start_ranks(name)
        time.sleep(seconds)
        os.kill(processes[rank], which)
        statuses = wait_for_all(processes, LOST_SECONDS)
        self.point = f"{which.name} to rank {rank} of 2 after {seconds} s, statuses {statuses}"
        if statuses is None:
            return "the other process does not end"
        return trainings.check(name, self.of_ranks[1], ranks=True)


def main() -> int:
    """Run the long version and print one line per attack; 1 if a resumed run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exact", type=int, default=25, help="SIGKILL at exact points")
    parser.add_argument("--random", type=int, default=20, help="SIGKILL at random times")
    parser.add_argument("--signals", type=int, default=16, help="SIGTERM and SIGINT, at exact points and random times")
    parser.add_argument("--full", type=int, default=6, help="full disks")
    parser.add_argument("--read-only", type=int, default=4, help="folders that become read-only")
    parser.add_argument("--ranks", type=int, default=6, help="signals to one of two processes that train together")
    parser.add_argument("--epochs", type=int, default=3, help="length of each training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    counts: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(Path(folder), options.epochs, random.Random(options.seed))
        gentle = (signal.SIGTERM, signal.SIGINT)
        attacks: list[tuple[str, Callable[[str], str]]] = []
        attacks += [("kill, exact", lambda name, n=n: chaos.exact(name, n)) for n in range(options.exact)]
        attacks += [("kill, random", chaos.random)] * options.random
        for n in range(options.signals):
            if n % 4 < 2:
                attacks.append(("signal, exact", lambda name, n=n: chaos.exact(name, n * 2 % 13, gentle[n % 2])))
            else:
                attacks.append(("signal, random", lambda name, n=n: chaos.random(name, gentle[n % 2])))
        attacks += [("full disk", chaos.full_disk)] * options.full
        attacks += [("read-only", chaos.read_only)] * options.read_only
        attacks += [("two processes", chaos.ranks)] * options.ranks
        for number, (kind, attack) in enumerate(attacks):
            problem = attack(f"run{number}")
            counts.setdefault(kind, []).append(not problem)
            print(f"run{number}, {kind}: {chaos.point}: {problem or 'equal'}", flush=True)
    for kind, results in counts.items():
        print(f"{kind}: {sum(results)} of {len(results)}")
    passed, total = (sum(map(function, counts.values())) for function in (sum, len))
    print(f"{passed} of {total} resumed runs are equal")
    return int(passed < total)


if __name__ == "__main__":
    sys.exit(main())
