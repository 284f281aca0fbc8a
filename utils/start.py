"""What a script does first, before torch loads."""

import gc
from importlib import import_module

from .threads import spin_by_load


def before_torch(module: str) -> None:
    """Load `module`, which brings no torch, and meanwhile find out how long threads are to spin (`utils.threads`).

    No garbage is collected until `utils.cli.run`: what modules are made of stays, and looking through it again and again
    takes a tenth of the time of loading.
    """
    gc.disable()
    spin_by_load(meanwhile=lambda: import_module(module))
