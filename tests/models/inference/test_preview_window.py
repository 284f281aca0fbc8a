"""The window of --view: its keys."""

import itertools

import numpy as np
import pytest

from graftdet.models.inference import preview_window
from graftdet.models.inference.preview_window import PreviewWindow

LEFT, RIGHT, ENTER, ESCAPE = 65361, 65363, 13, 27


def image(value):
    return np.full((4, 4, 3), value, np.uint8)


def run(window, keys, is_video=False, count=4):
    """Show images while keys are pressed; what was shown, and whether the user ended the run."""
    pressed = iter(keys)
    window.press = lambda milliseconds: next(pressed, -1)
    preview = PreviewWindow(True)
    for value in range(count):
        preview.show(image(value), is_video)
        if preview.closed:
            break
    return [int(shown[0, 0, 0]) for _, shown in window.shown], preview.closed


@pytest.mark.parametrize(("keys", "shown"), [("nnq", [0, 1, 2]), ("nnppnq", [0, 1, 2, 1, 0, 1]), ("ppq", [0, 0, 0])])
def test_images_wait_for_keys(window, keys, shown):
    assert run(window, map(ord, keys)) == (shown, True)


def test_arrows_enter_and_escape(window):
    assert run(window, [RIGHT, ENTER, LEFT, RIGHT, -1, ord("x"), ESCAPE]) == ([0, 1, 2, 1, 2], True)


def test_space_lets_images_follow_each_other(window, monkeypatch):
    monkeypatch.setattr(preview_window, "IMAGE_SECONDS", 0.0)
    assert run(window, map(ord, " ")) == ([0, 1, 2, 3], False)
    window.shown.clear()
    assert run(window, [ord(" "), -1, ord(" "), *[-1] * 5, ord("q")]) == ([0, 1, 2], True)


def test_a_video_plays_until_it_is_paused(window):
    assert run(window, [], is_video=True) == ([0, 1, 2, 3], False)
    window.shown.clear()
    keys = [-1, ord(" "), -1, -1, ord("n"), ord("p"), ord(" ")]
    assert run(window, keys, is_video=True) == ([0, 1, 2, 1, 3], False)


def test_closing_the_window_ends_the_run(window):
    visible = itertools.chain([1.0, 1.0], itertools.repeat(0.0))
    window.press = lambda milliseconds: setattr(window, "visible", next(visible)) or -1
    preview = PreviewWindow(True)
    preview.show(image(0), is_video=False)
    assert preview.closed and len(window.shown) == 1


def test_earlier_images_are_forgotten_before_memory_is_full(window, monkeypatch):
    monkeypatch.setattr(preview_window, "MAX_REMEMBERED", 2 * image(0).nbytes)
    assert run(window, map(ord, "nnppppq")) == ([0, 1, 2, 1, 1, 1, 1], True)
