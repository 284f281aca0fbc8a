"""The sixth column of YOLO label rows: a confidence, or the angle of an oriented box (`class cx cy w h angle`)."""

import math
from collections.abc import Sequence
from typing import Literal

AngleUnit = Literal["degrees", "radians"]


class Undecided(ValueError):
    """The rows have several readings, or none; the message states both."""


def decide_sixth_column(values: Sequence[float]) -> str:
    """Decide what the sixth column of a dataset is, from the range of its values.

    Confidences are from 0 to 1, and hardly ever 0. Angles are often 0; some are negative or above 1, in radians or
    degrees. Whole numbers alone may be an identity or a count as well.

    Args:
        values: that of each row of six columns.

    Returns:
        'box' (with a confidence, or a flag of 0 or 1), or 'obb'.

    Raises:
        Undecided: the column can be either, or neither.
    """
    whole = all(math.isfinite(value) and value == int(value) for value in values)
    if all(0 <= value <= 1 for value in values):
        if whole or min(values) > 0:
            return "box"
        found = f"from 0 to {max(values):g}: a confidence (labels: box) or an angle (labels: obb)"
        raise Undecided(f"the sixth column can be both, {found}")
    if not all(math.isfinite(value) and abs(value) <= 360 for value in values):
        raise Undecided("the sixth column is neither a confidence nor an angle: expected labels: box, which ignores it")
    if whole and min(values) >= 0:
        found = f"whole numbers from {min(values):g} to {max(values):g}"
        kinds = "an angle (labels: obb), or something else (labels: box, which ignores it)"
        raise Undecided(f"the sixth column can be both, {found}: {kinds}")
    return "obb"


def angle_unit(values: Sequence[float]) -> AngleUnit:
    """The unit of angles: radians if none exceeds a full turn of 2 pi."""
    return "radians" if all(abs(value) <= 2 * math.pi + 1e-6 for value in values) else "degrees"


def turned_box(
    box: tuple[float, float, float, float], angle: float, unit: AngleUnit, aspect: float
) -> tuple[float, float, float, float]:
    """The upright box around a box that is turned about its center in the image.

    Args:
        box: corners of the box before it is turned, relative to the image size.
        angle: in either direction.
        unit: that of the angle.
        aspect: height / width of the image in pixels; relative coordinates are skewed by it.

    Returns:
        Corners, relative to the image size.
    """
    x, y, width, height = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]
    turn = math.radians(angle) if unit == "degrees" else angle
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    half_width, half_height = (width * cos + height * aspect * sin) / 2, (width / aspect * sin + height * cos) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height
