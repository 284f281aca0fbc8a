"""The choice of the fastest way to run a model: by time, and by agreement with float32. No torch."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graftdet.models.backends.selection.agreement import Agreement
from graftdet.models.backends.selection.ways import Way
from graftdet.utils.threads import BUSY

WORTHWHILE = 0.9  # of the time of the preferred way, which starts faster (onnxruntime) or is exact (float32)
PREFERRED = (Way("onnx"), Way("openvino"), Way("torch"))
"""Without times the first of them that is possible; with times, others must be faster by `WORTHWHILE`."""
TOO_SLOW = 1.5  # times the fastest: not timed after its first turn
HOPELESS = 4  # times the fastest: a single run is enough
BURST, MAX_TURNS = 3, 10


@dataclass
class Choice:
    """The chosen way and the figures behind it.

    Attributes:
        way: the chosen way.
        milliseconds: way -> time per image.
        agreements: way in bfloat16 -> how its boxes agree with float32, of those that were looked at.
        images: what these boxes and times were measured on, such as "8 images of the source".
        load: fraction of the cores that other processes used meanwhile.
    """

    way: Way
    milliseconds: dict[Way, float]
    agreements: dict[Way, Agreement] = field(default_factory=dict)
    images: str = ""
    load: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether the boxes are those of float32: not where the user asked for bfloat16 without comparing them."""
        return not self.way.half or (self.way in self.agreements and self.agreements[self.way].holds)

    def __str__(self) -> str:
        times = sorted(self.milliseconds.items(), key=lambda item: item[1])
        figures = ", ".join(f"{way} {taken:.1f}" for way, taken in times)
        texts = [f"{self.way}; milliseconds per image: {figures}"]
        for way, found in self.agreements.items():
            verdict = "agrees with float32" if found.holds else "is not used, its boxes differ from float32"
            texts.append(f"{way} {verdict} ({found})")
        text = "; ".join(texts) + (f"; on {self.images}" if self.images else "")
        return text + (f"; while other processes used {self.load:.0%} of the cores" if self.load >= BUSY else "")


def choose(milliseconds: Mapping[Way, float], agreement_of: Callable[[Way], Agreement] | None) -> Choice:
    """Choose the fastest way.

    Args:
        milliseconds: way -> time per image; not empty.
        agreement_of: compares a way in bfloat16 with float32; called only for ways that are fast enough to be chosen.
            None: bfloat16 was requested and needs no agreement.

    Returns:
        The fastest way, but the first of `PREFERRED` where others are hardly faster, and float32 where bfloat16 is
        hardly faster or its boxes differ.
    """
    exact = {way: taken for way, taken in milliseconds.items() if not way.half} or dict(milliseconds)
    best = min(exact, key=exact.__getitem__)
    for way in PREFERRED:
        if way in exact and exact[way] * WORTHWHILE < exact[best]:
            best = way
            break
    choice = Choice(best, dict(milliseconds))
    for way in sorted(milliseconds, key=milliseconds.__getitem__):
        if not way.half or milliseconds[way] > WORTHWHILE * milliseconds[best]:
            continue
        if agreement_of is not None:
            choice.agreements[way] = agreement_of(way)
        if agreement_of is None or choice.agreements[way].holds:
            choice.way = way
            break
    return choice


def without_times(ways: Any) -> Way:
    """The way that is chosen without timing: a float32 one where possible, in the order of `PREFERRED`."""
    return next((way for way in PREFERRED if way in ways), next(iter(ways)))


def time_ways(
    calls: Mapping[Way, Callable[[], Any]], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[Way, float]:
    """The shortest time in milliseconds of each call.

    The calls take turns, several runs in a row each: threads of one runtime that still wait may slow down the first run
    of the next. Ways that are much slower than others are left out after their first turn.

    Args:
        calls: way -> what runs it once.
        seconds: no further turn begins after this time; each way has one turn at least.
        clock: the time in seconds.
    """
    for call in calls.values():
        call()  # compiles, allocates memory
    shortest: dict[Way, float] = {}
    end = clock() + seconds
    for turn in range(MAX_TURNS):
        limit = TOO_SLOW * min(shortest.values(), default=float("inf"))
        for way, call in calls.items():
            if turn and shortest[way] > limit:
                continue
            for _ in range(BURST):
                start = clock()
                call()
                shortest[way] = min(shortest.get(way, float("inf")), clock() - start)
                if shortest[way] > HOPELESS * min(shortest.values()):
                    break
        if clock() > end:
            break
    return {way: round(1000 * taken, 2) for way, taken in shortest.items()}
