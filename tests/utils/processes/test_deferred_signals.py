"""Signals wait until a block is complete."""

import os
import signal

import pytest
import torch

from graftdet.utils.checkpoint import load_checkpoint, save_checkpoint
from graftdet.utils.processes.deferred_signals import signals_deferred


@pytest.fixture
def events():
    """The signals that the handler of SIGTERM received; SIGINT raises KeyboardInterrupt."""
    received = []
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: received.append(number)),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signal_waits_for_the_end_of_the_block(events):
    with signals_deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        events.append("work")
    assert events == ["work", signal.SIGTERM]
    os.kill(os.getpid(), signal.SIGTERM)
    assert events[2:] == [signal.SIGTERM]


def test_ctrl_c_is_raised_after_the_block(events):
    done = False
    with pytest.raises(KeyboardInterrupt), signals_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done = True
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_error_of_the_block_comes_first(events):
    with pytest.raises(KeyError), signals_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_checkpoint_is_complete_before_ctrl_c_is_raised(events, tmp_path, monkeypatch):
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *arguments: (os.kill(os.getpid(), signal.SIGINT), save(*arguments)))
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "last.pt", {"model": {"a": torch.ones(1000)}})
    assert load_checkpoint(tmp_path / "last.pt")["model"]["a"].sum() == 1000
    assert os.listdir(tmp_path) == ["last.pt"]
