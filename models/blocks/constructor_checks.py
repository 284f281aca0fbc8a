"""What several constructors share: checks of kernel sizes, the reduction and the number of heads of attention."""

from graftdet.utils.errors import UserError

OMIT_WIDTH_HINT = "; the width is filled in, omit it"


def check_square_kernel(k: object) -> None:
    """Raise `ValueError` unless `k` is a single number."""
    if isinstance(k, bool) or not isinstance(k, int):
        raise ValueError(f"k must be one number, got {k!r}")


def check_odd_kernels(*sizes: object) -> None:
    """Raise `UserError` unless each kernel size is an odd whole number: others change the size of the map."""
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise UserError(f"keeps the size with odd kernels alone; expected whole numbers such as 5, got {size!r}")


def check_kernel_list(k: object) -> None:
    """Raise `UserError` unless `k` is a list of odd kernels."""
    if not isinstance(k, (list, tuple)) or not k:
        raise UserError(f"takes a list of kernels, such as [5, 9, 13], got {k!r}")
    check_odd_kernels(*k)


def check_same_width(c1: object, c2: object, other: str) -> None:
    """Raise `ValueError` if a row gives another output width than the input width, or means the argument `other`."""
    if c2 not in (None, c1):
        hint = f"; other arguments are named, as {{{other}}}" if other else ""
        raise ValueError(f"keeps the width: {c1} channels in, {c2} asked for{hint}")


def reduced_width(c: int, ratio: float) -> int:
    """The width inside an attention module that reduces `c` channels by `ratio`.

    Raises:
        ValueError: no channel is left, or the ratio is below 1.
    """
    if ratio < 1:
        raise ValueError(f"a reduction must be at least 1, got {ratio}")
    if ratio > c:
        raise ValueError(f"a reduction of {ratio} leaves no channels of {c}")
    return int(c // ratio)


def head_count(c: int, limit: int) -> int:
    """The largest number of attention heads up to `limit` that divides `c` channels; at least 1."""
    return next(heads for heads in range(max(min(limit, c), 1), 0, -1) if c % heads == 0)


def check_reduction(c: int, ratio: float) -> None:
    """Raise `ValueError` if a block without output width seems to be given one in the position of its reduction."""
    if ratio >= max(c, 17):  # small widths with a reduction of the same size do occur
        raise ValueError(
            f"a reduction of {ratio} leaves {'one channel' if ratio == c else 'no channels'} of {c}{OMIT_WIDTH_HINT}"
        )
