"""Limits for files that may come from strangers, checked before memory is taken. `--allow-large` raises them."""

import argparse
from typing import Any

MAX_TEXT = 1 << 18  # characters of a model YAML; the longest published one has 8,000
MAX_ROWS = 1000  # of a model; the longest published one has 140
MAX_BLOCKS = 5000  # that the numbers of all rows add up to
MAX_TENSORS = 100_000  # of a model; YOLOv5x6 has 1,100
MAX_MODEL_BYTES = 1 << 30  # of weights and constants of a model: 268 million values; YOLOv5x6 has 141 million
MAX_MAP = 1 << 28  # values of a map for one image of 640x640 pixels; YOLOv5x has maps of 8 million
_LARGE = 64  # factor of --allow-large
_factor = 1


def allow_large() -> None:
    """Let models be 64 times as large as usual, in this process."""
    global _factor
    _factor = _LARGE


def is_large_allowed() -> bool:
    """Whether the limits are raised."""
    return _factor > 1


def limit(usual: int) -> int:
    """The limit that applies where `usual` is the usual one."""
    return usual * _factor


class AllowLarge(argparse.Action):
    """The flag `--allow-large`: takes effect when it is parsed, and is no option of the run."""

    def __init__(self, option_strings: list[str], dest: str, **kwargs: Any):
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **kwargs)

    def __call__(self, *_: object) -> None:
        """Raise the limits."""
        allow_large()
