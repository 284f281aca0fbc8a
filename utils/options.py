"""Checks of command line values that several scripts share."""

import argparse
from collections.abc import Sequence

from .errors import UserError


def picture_size(img: int | Sequence[int], stride: int) -> tuple[int, int]:
    """`--img` as (height, width): one side or two, brought up to multiples of `stride`. Raises `UserError`."""
    sides = (img, img) if isinstance(img, int) else tuple(img) * (2 if len(img) == 1 else 1)
    if len(sides) != 2 or not all(1 <= side <= 16384 for side in sides):
        raise UserError(f"--img {' '.join(map(str, sides))}: expected one side or height and width, from 1 to 16384")
    height, width = (-(-side // stride) * stride for side in sides)
    return height, width


def fraction(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return value
