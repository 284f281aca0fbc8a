import sys
import time
from collections.abc import Iterable, Iterator

from tqdm import tqdm


def watched(items: Iterable, total: int, label: str, every: float = 60.0) -> Iterator:
    """Yield `items` while telling on standard error how many of `total` went by."""
    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=label, leave=False)
        return
    last = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{label}: {number}/{total}", file=sys.stderr, flush=True)
        yield item


class Progress:
    """Counts `total` steps: a bar on a terminal, elsewhere a plain line a minute. `quiet` tells nothing.

    Used as a context; `step(text)` counts one and shows `text` (losses, memory ...) beside it.
    """

    def __init__(self, total: int, title: str, quiet: bool = False, every: float = 60.0):
        self.total, self.title, self.quiet, self.every = total, title, quiet, every
        self.done, self.start, self.told = 0, time.monotonic(), time.monotonic()
        terminal = sys.stderr.isatty() and not quiet
        self.bar = tqdm(total=total, desc=title, leave=False, dynamic_ncols=True) if terminal else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def step(self, text: str = "") -> None:
        """Count one step."""
        self.done += 1
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif not self.quiet and now - self.told >= self.every:
            self.told = now
            left = duration((now - self.start) / self.done * (self.total - self.done))
            print(f"{self.title}: {self.done}/{self.total} {text}, {left} left", flush=True)


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
