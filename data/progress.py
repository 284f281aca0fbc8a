"""Progress of long readings: a bar on a terminal, a plain line a minute elsewhere."""

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
