"""Limits for files that may come from strangers, checked before memory is taken. `--allow-large` raises them."""

import argparse
from typing import Any

MAX_FILE = 1 << 30  # bytes of a file that is read as a whole
MAX_WEIGHTS = 1 << 32  # bytes of a file of weights, which is read in parts; a checkpoint of YOLOv5x6 has 2.3 GB
MAX_ANNOTATIONS = 1 << 31  # bytes of a COCO JSON; that of LVIS has 1.1 GB
MAX_LIST = 1 << 28  # bytes of a list of images, 4 million paths
MAX_LABELS = 1 << 26  # bytes of the annotations of one image, which may contain the image, or of a cached table
MAX_TABLE = 1 << 25  # bytes of a CSV table; an epoch of results.csv has 300
MAX_YAML = 1 << 20  # bytes, of which PyYAML reads 120,000 a second and for which it takes 400 bytes each
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
