"""Faster start of the scripts that use torch. No torch here: it reads the settings of its threads when loaded."""

import gc
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib import import_module

from graftdet.utils import cli
from graftdet.utils.threads import set_up_spinning


def run_script(name: str, arguments: Sequence[str]) -> None:
    """Import a script and call its `main`, as if its file was run.

    Args:
        name: Name of the script's module, such as `graftdet.train`.
        arguments: Its command line; `sys.argv` holds the same.
    """
    global _script
    _script = name
    import_module(name).main(arguments)


_script = ""  # the module that `run_script` runs


def is_script(name: str) -> bool:
    """Whether the module of this `__name__` is the script that the process runs."""
    return name in ("__main__", _script)


def parse_and_prepare(make_parser: Callable[[], ArgumentParser], follows_load: bool = False) -> None:
    """Prepare the import of torch by a script, after its command line was parsed: --help and wrong flags end here.

    Disables garbage collection until `graftdet.utils.cli.run`: modules stay alive, and scanning them repeatedly takes a
    tenth of the time of loading.

    Args:
        make_parser: Returns the parser of the script.
        follows_load: Whether the script adapts its threads to the load (`graftdet.utils.threads.sharing_cores`).
    """
    cli.run(lambda: make_parser().parse_args())
    gc.disable()
    if follows_load:
        set_up_spinning()
