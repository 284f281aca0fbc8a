"""The choice among timed steps, with a clock and times that the tests set."""

import random

import numpy as np
import pytest
import torch

from graftdet.utils.training.acceleration import step_timing
from graftdet.utils.training.acceleration.step_timing import (
    StepVariant,
    cpu_clock,
    fastest,
    random_states_restored,
    same_loss,
    time_in_turns,
    variants_for,
)

LAST, CONTIGUOUS, HALF_LAST, HALF_CONTIGUOUS = variants_for("channels last")


class Steps:
    """Steps that take given seconds or raise a given error; `log` lists those that ran."""

    def __init__(self, **seconds):
        self.now, self.log = 0.0, []
        self.seconds = {StepVariant.parse(name.replace("_", " ")): taken for name, taken in seconds.items()}

    def run(self, variant):
        self.log.append(variant)
        taken = self.seconds[variant]
        if isinstance(taken, Exception):
            raise taken
        self.now += taken(len(self.log)) if callable(taken) else taken

    def times(self, limit_s=0.0, min_turns=2):
        calls = {variant: lambda variant=variant: self.run(variant) for variant in self.seconds}
        return time_in_turns(calls, limit_s, lambda: self.now, min_turns)


def test_variants_by_memory_format():
    assert [str(one) for one in (LAST, HALF_CONTIGUOUS)] == ["float32 channels last", "bfloat16 contiguous"]
    assert variants_for("contiguous") == [CONTIGUOUS, HALF_CONTIGUOUS]
    assert LAST.autocast_type is None and HALF_LAST.autocast_type == torch.bfloat16
    assert HALF_LAST.layout == torch.channels_last and CONTIGUOUS.layout == torch.contiguous_format
    assert all(StepVariant.parse(str(one)) == one for one in variants_for("channels last"))
    for text in ("", "float64 contiguous", "float32", "load contiguous"):
        with pytest.raises(ValueError, match="unknown variant"):
            StepVariant.parse(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ((1.0, 1.3, 0.6, 0.8), HALF_LAST),
        ((1.0, 1.3, 0.96, 0.96), LAST),  # less than the margin
        ((1.0, 0.96, 0.97, 0.94), HALF_CONTIGUOUS),
        ((1.0, 0.8, 0.78, 0.9), CONTIGUOUS),  # bfloat16 must be faster than the best in float32
        ((1.0, 1.3, 0.6, 0.59), HALF_LAST),
        ((1.0, 1.3, 5.0, 7.0), LAST),
    ],
)
def test_the_fastest_needs_a_margin_over_those_preferred_to_it(seconds, expected):
    assert fastest(dict(zip((LAST, CONTIGUOUS, HALF_LAST, HALF_CONTIGUOUS), seconds, strict=True))) == expected


def test_steps_take_turns_and_the_first_turn_does_not_count():
    steps = Steps(
        float32_contiguous=lambda n: 5.0 if n < 3 else 1.2, bfloat16_contiguous=lambda n: 9.0 if n < 3 else 1.0
    )
    assert steps.times() == pytest.approx({CONTIGUOUS: 1.2, HALF_CONTIGUOUS: 1.0})
    assert steps.log == [CONTIGUOUS, HALF_CONTIGUOUS] * 3
    steps = Steps(float32_contiguous=0.1, bfloat16_contiguous=0.1)
    steps.times(limit_s=100)
    assert len(steps.log) == 2 * (1 + step_timing.MAX_TURNS)
    assert len(Steps(float32_contiguous=0.1, bfloat16_contiguous=0.1).times(limit_s=0.9)) == 2


def test_the_shortest_time_counts():
    steps = Steps(float32_contiguous=lambda n: {3: 4.0, 5: 1.0}.get(n, 2.0), bfloat16_contiguous=1.5)
    assert steps.times()[CONTIGUOUS] == pytest.approx(1.0)


def test_slow_steps_run_in_two_turns_and_failing_ones_are_omitted():
    steps = Steps(
        float32_channels_last=1.0,
        bfloat16_channels_last=9.0,
        bfloat16_contiguous=RuntimeError("no kernel for bfloat16"),
    )
    assert steps.times(min_turns=4) == pytest.approx({LAST: 1.0, HALF_LAST: 9.0})
    assert [steps.log.count(one) for one in (LAST, HALF_LAST, HALF_CONTIGUOUS)] == [5, 3, 1]
    with pytest.raises(torch.OutOfMemoryError):
        Steps(float32_contiguous=torch.OutOfMemoryError("full")).times()


def test_losses_that_differ_from_float32_are_recognized():
    losses = {LAST: 10.0, HALF_LAST: 10.5, HALF_CONTIGUOUS: 12.0, CONTIGUOUS: float("nan")}
    assert [same_loss(losses, one) for one in losses] == [True, True, False, False]


def test_random_states_are_restored():
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(1))

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
    with random_states_restored():
        draw(), torch.manual_seed(0)
    assert draw() == expected


def test_the_clock_counts_cpu_time_on_one_thread(monkeypatch):
    names = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        names.append(cpu_clock().__name__)
    assert names == ["thread_time", "perf_counter"]
