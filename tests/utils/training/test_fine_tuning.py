"""What is reported when training overwrites what the initial weights know."""

import pytest

from graftdet.utils.training.fine_tuning import describe_fall


@pytest.mark.parametrize(
    ("aps", "epochs", "reported"),
    [
        ([0.3, 0.2], 30, True),
        ([0.3, 0.25], 30, False),  # a sixth
        ([0.3, 0.24], 30, False),  # exactly a fifth
        ([0.3, 0.239], 30, True),
        ([0.04, 0.0], 30, False),  # too low to mean anything
        ([0.1, 0.3, 0.2], 30, True),  # epoch 2 of 30
        ([0.1, 0.3, 0.2], 5, False),  # epoch 2 of 5 is behind the first third
        ([0.1, 0.3, 0.2], 6, True),
        ([0.3], 30, False),
    ],
)
def test_a_fall_of_more_than_a_fifth_in_the_first_third_is_reported(aps, epochs, reported):
    message = describe_fall(list(enumerate(aps)), epochs, 0.5)
    assert (message is not None) == reported
    if message:
        best = max(aps[:-1])
        assert f"fell from {best:.3f} (epoch {aps.index(best)}) to {aps[-1]:.3f}" in message
        assert "--set transferred_lr=0.1 (now 0.5)" in message
