"""16-bit images that use a part of their range, as 12-bit sensors write them: nearly black unless they are scaled."""

from collections.abc import Iterable, Sequence

from graftdet.utils.files import spread_sample
from graftdet.utils.images.io import UnreadableImage, image_header, read_bytes, sixteen_bit_range, unused_depth

PART_OF_RANGE = "16-bit images that use a part of their range"
ABOVE_DEPTH = "16-bit images with values above the given depth"
SAMPLED_IMAGES = 8
DEPTHS = range(8, 17)
"""Numbers of bits that 16-bit images may use."""


def sample_ranges(paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return path -> (smallest, largest value) of the 16-bit images among a few images of a split.

    Args:
        paths: all images of the split. Missing and unreadable ones are skipped.
    """
    ranges = {}
    for path in spread_sample(paths, SAMPLED_IMAGES):
        try:
            header = image_header(path)
            value_range = sixteen_bit_range(read_bytes(path)) if header.bits == 16 else None
        except UnreadableImage:
            continue
        if value_range:
            ranges[path] = value_range
    return ranges


def depth_problem(
    ranges: Iterable[tuple[int, int]], depth: int, option: str = "depth: {} in the data YAML"
) -> tuple[str, str] | None:
    """Compare the values of 16-bit images with the depth that they are scaled by.

    Args:
        ranges: (smallest, largest) value of each image.
        depth: number of bits, 16 if none is given.
        option: how to give another depth, for the message.

    Returns:
        (kind of problem, what was found and what to do); None without a problem.
    """
    ranges = list(ranges)
    if not ranges:
        return None
    smallest, largest = min(low for low, _ in ranges), max(high for _, high in ranges)
    fitting = unused_depth(largest)
    if depth == 16 and fitting:
        return PART_OF_RANGE, f"values {smallest} to {largest} of 65535; {option.format(fitting)} scales by it"
    if largest >= 1 << depth:
        found = f"values {smallest} to {largest}, those above {2**depth - 1} are white"
        return ABOVE_DEPTH, f"{found}; {option.format(largest.bit_length())} fits"
    return None
