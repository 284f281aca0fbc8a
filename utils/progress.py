"""Progress of long work on standard error: a bar on a terminal, elsewhere one line per minute."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
BAR = "{desc} {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"


class Progress:
    """Counts steps; to be used as a context manager.

    Args:
        total: Number of steps.
        title: Text in front of the count.
        quiet: Print nothing.
        interval: Seconds between two lines where standard error is not a terminal.
    """

    def __init__(self, total: int, title: str, quiet: bool = False, interval: float = 60.0):
        self.total, self.title, self.interval = total, title, interval
        self.done = 0
        self.start = self._last_line = time.monotonic()
        self.quiet = quiet = quiet or logging.getLogger("graftdet").level > logging.INFO  # --quiet
        terminal = sys.stderr is not None and sys.stderr.isatty() and not quiet
        self._bar = tqdm(total=total, desc=title, leave=False, dynamic_ncols=True, bar_format=BAR) if terminal else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, text: str = "") -> None:
        """Count one step and show `text` (losses, memory, ...) beside the count."""
        self.done += 1
        now = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif not self.quiet and now - self._last_line >= self.interval:
            self._last_line = now
            left = duration((now - self.start) / self.done * (self.total - self.done))
            print(
                f"{self.title}: {self.done}/{self.total} {text}".rstrip() + f", {left} left",
                file=sys.stderr,
                flush=True,
            )


def track(items: Iterable[Item], total: int, title: str, interval: float = 60.0) -> Iterator[Item]:
    """Yield `items` and show how many of `total` are done. Arguments as of `Progress`."""
    with Progress(total, title, interval=interval) as progress:
        for item in items:
            yield item
            progress.step()


def duration(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
