"""Scripts prepare the import of torch."""

import gc
import sys

from graftdet.utils import cli, startup


def test_no_garbage_collection_while_modules_load(monkeypatch):
    called = []
    monkeypatch.setattr(startup, "set_up_spinning", lambda: called.append("spinning"))
    monkeypatch.setattr(sys, "argv", ["script"])
    try:
        startup.parse_and_prepare(cli.ArgumentParser)
        assert not called
        startup.parse_and_prepare(cli.ArgumentParser, follows_load=True)
        assert not gc.isenabled() and called == ["spinning"]
        cli.run(lambda: called.append(gc.isenabled()))
        assert called[1] and gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
