"""Which precision and memory format a step computes fastest in: variants, their times, and the choice.

Nothing here knows a model: steps are callables. Times are those of CPUs.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEMORY_FORMATS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}
MARGIN = 0.05  # by which a variant must be faster than one that is preferred to it
TOO_SLOW = 1.5  # times the fastest: not timed further
MIN_TURNS, MAX_TURNS = 2, 7
LOSS_TOLERANCE = 0.1  # relative difference from the loss in float32


@dataclass(frozen=True)
class StepVariant:
    """How a step computes.

    Attributes:
        precision: A key of `PRECISIONS`. Weights are float32 in all of them.
        memory_format: A key of `MEMORY_FORMATS`.
    """

    precision: str = "float32"
    memory_format: str = "channels last"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS or self.memory_format not in MEMORY_FORMATS:
            raise ValueError(f"unknown variant: {self}")

    def __str__(self) -> str:
        return f"{self.precision} {self.memory_format}"

    @classmethod
    def parse(cls, text: str) -> "StepVariant":
        """Return the variant of which `text` is the `str`.

        Raises:
            ValueError: If there is no such variant.
        """
        precision, _, memory_format = text.partition(" ")
        return cls(precision, memory_format)

    @property
    def autocast_type(self) -> torch.dtype | None:
        """The type for autocast; None for float32 everywhere."""
        return None if self.precision == "float32" else PRECISIONS[self.precision]

    @property
    def layout(self) -> torch.memory_format:
        """The memory format of weights and images."""
        return MEMORY_FORMATS[self.memory_format]


def variants_for(memory_format: str) -> list[StepVariant]:
    """Return the variants to time, the preferred ones first.

    Args:
        memory_format: The preferred one; where it is "contiguous", the model does not support the other.
    """
    formats = MEMORY_FORMATS if memory_format == "channels last" else [memory_format]
    return [StepVariant(precision, name) for precision in ("float32", "bfloat16") for name in formats]


def fastest(seconds: Mapping[StepVariant, float]) -> StepVariant:
    """Return the variant with the least time; one that is preferred to it if that is at most `MARGIN` slower.

    Args:
        seconds: Variant -> time of its step, the preferred variants first; not empty.
    """
    chosen = next(iter(seconds))
    for variant, taken in seconds.items():
        if taken < (1 - MARGIN) * seconds[chosen]:
            chosen = variant
    return chosen


def time_in_turns(
    steps: Mapping[StepVariant, Callable[[], Any]],
    limit_s: float,
    clock: Callable[[], float],
    min_turns: int = MIN_TURNS,
) -> dict[StepVariant, float]:
    """Return the shortest time of each step [s].

    The steps take turns, so that a change of the machine's load affects all of them. A first turn is not counted. Steps
    that are much slower than others in two turns, or that raise an error, are not run again.

    Args:
        steps: Variant -> what runs its step once.
        limit_s: No further turn begins after this time, if there were `min_turns`.
        clock: Returns the time [s].
        min_turns: Least number of turns.

    Returns:
        Variant -> seconds, of those that raised no error.
    """
    remaining = dict(steps)
    shortest: dict[StepVariant, float] = {}
    began = clock()
    for turn in range(1 + MAX_TURNS):
        if turn > min_turns and clock() - began > limit_s:
            break
        for variant, step in list(remaining.items()):
            start = clock()
            try:
                step()
            except torch.OutOfMemoryError:
                raise
            except Exception:  # whatever a block raises in this precision; training in float32 reports its errors
                del remaining[variant]
                shortest.pop(variant, None)
                continue
            if turn > 0:
                shortest[variant] = min(shortest.get(variant, math.inf), clock() - start)
        limit = TOO_SLOW * min(shortest.values(), default=math.inf) if turn > 1 else math.inf
        remaining = {variant: step for variant, step in remaining.items() if shortest.get(variant, 0) <= limit}
    return {variant: shortest[variant] for variant in steps if variant in shortest}


def same_loss(losses: Mapping[StepVariant, float], variant: StepVariant) -> bool:
    """Return whether the loss of a variant is finite and near that of the first one, for the same weights."""
    reference = next(iter(losses.values()))
    return abs(losses[variant] - reference) <= LOSS_TOLERANCE * abs(reference)


def cpu_clock() -> Callable[[], float]:
    """Return the clock to time steps with: CPU time of this thread if torch has no other, else wall time.

    CPU time does not count the time in which other processes have the core.
    """
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


@contextmanager
def random_states_restored() -> Iterator[None]:
    """Restore the states of all random generators of the CPU afterwards."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
