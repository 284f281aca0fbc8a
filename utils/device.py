"""Selection of the device, its memory, and the number of workers that suit it."""

import os
import sys
from pathlib import Path

import torch

from graftdet.utils.errors import UserError
from graftdet.utils.processor import usable_cores


def select_device(name: str | torch.device = "") -> torch.device:
    """Return the device named 'cpu', 'cuda', 'cuda:1', '1' or 'mps'; '' selects the best available one.

    Raises:
        UserError: If the device does not exist, or several are named ('0,1'): torchrun starts one process per device.
    """
    text = str(name).strip().lower()
    if text == "":
        return torch.device("cuda:0" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    if "," in text:
        count = len([part for part in text.split(",") if part.strip()])
        raise UserError(
            f"--device {name}: each process uses one device; for {count} devices run "
            f"'torchrun --nproc-per-node {count} train.py ...' (CUDA_VISIBLE_DEVICES={text} selects them)"
        )
    if text == "cpu":
        return torch.device("cpu")
    if text == "mps":
        if not _has_mps():
            raise UserError(f"--device {name}: this machine has no MPS device; use --device cpu")
        return torch.device("mps")
    number = text.removeprefix("cuda").removeprefix(":") if text.startswith("cuda") else text
    if number and not number.isdecimal():
        raise UserError(f"--device {name}: expected cpu, mps, cuda or a CUDA device's number such as 0")
    index, count = int(number or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        available = f"CUDA devices: 0 to {count - 1}" if count else "no CUDA device is available; use --device cpu"
        raise UserError(f"--device {name}: {available}")
    return torch.device("cuda", index)


def device_memory(device: torch.device) -> str:
    """Return the memory in use on `device` as a short text such as '3.1G'; on a CPU that of the process."""
    if device.type == "cuda":
        return f"{torch.cuda.memory_reserved(device) / 1e9:.1f}G"
    if device.type == "mps":
        return f"{torch.mps.driver_allocated_memory() / 1e9:.1f}G"
    try:  # second number: resident pages (Linux)
        return f"{int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f}G"
    except (OSError, IndexError, ValueError):
        return "-"


def peak_memory(device: torch.device) -> str:
    """Return the peak memory of this process on `device`, formatted as by `device_memory`."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_reserved(device) / 1e9:.1f}G"
    try:
        import resource
    except ImportError:  # Windows
        return "-"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.1f}G"


def default_workers(training_device: str = "") -> int:
    """Return the number of processes that load images: one per available CPU core, at most 8.

    Training on the "cpu" needs the cores itself: then it is one per eight cores, at least one. Processes that torchrun
    started on this machine divide its cores.

    Args:
        training_device: Type of the device that trains meanwhile, if any.
    """
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(8, cores // 8 if training_device == "cpu" else cores))


def _has_mps() -> bool:
    return bool(getattr(torch.backends, "mps", None)) and torch.backends.mps.is_available()
