"""Processes of a group end when their launcher is gone: nobody would stop them, and they hold their devices."""

import os
import sys
import threading
import time

INTERVAL = 5.0  # seconds between two views of the parent


def end_with_parent(name: str, interval: float = INTERVAL) -> None:
    """End this process with status 1 soon after the process that started it; from now on, in a thread.

    Args:
        name: what this process is, for the message.
        interval: seconds between two views of the parent.
    """
    if sys.platform == "win32":  # keeps the id of a parent that has ended
        return
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent, name, interval), name="parent", daemon=True).start()


def _watch(parent: int, name: str, interval: float) -> None:
    while os.getppid() == parent:
        time.sleep(interval)
    os.write(2, f"error: {name}: process {parent}, which started it, has ended\n".encode())
    os._exit(1)
