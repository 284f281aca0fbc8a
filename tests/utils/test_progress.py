"""Progress on standard error where that is not a terminal."""

from graftdet.utils.progress import Progress, duration, track


def test_lines_go_to_standard_error_with_the_time_left(capsys):
    with Progress(2, "epoch 1/3", interval=0) as progress:
        progress.step("loss 1.5")
        progress.step()
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines() == ["epoch 1/3: 1/2 loss 1.5, 0:00 left", "epoch 1/3: 2/2, 0:00 left"]


def test_nothing_is_printed_when_quiet_or_within_the_interval(capsys):
    for progress in (Progress(1, "quiet", quiet=True, interval=0), Progress(1, "interval")):
        with progress:
            progress.step()
    assert capsys.readouterr() == ("", "")


def test_tracked_items(capsys):
    assert list(track(iter("ab"), 2, "images", interval=0)) == ["a", "b"]
    assert capsys.readouterr().err.startswith("images: 1/2, ")


def test_durations():
    assert [duration(seconds) for seconds in (0, 61.9, 3725)] == ["0:00", "1:01", "1:02:05"]
