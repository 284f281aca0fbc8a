"""Which device to compute on, and what it is good at."""

import functools
import os
import sys
from pathlib import Path

import torch
from graftdet.utils.errors import UserError
from torch import nn


def select_device(name: str | torch.device = "") -> torch.device:
    """Return the device called 'cpu', 'cuda', 'cuda:1', '1', 'mps', or the best one there is for ''.

    Raises `UserError` when the device is not there, and for several ('0,1'), which torchrun starts a process each for.
    """
    text = str(name).strip().lower()
    if text == "":
        return torch.device("cuda:0" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    if "," in text:
        count = len([part for part in text.split(",") if part.strip()])
        raise UserError(
            f"--device {name}: one process drives one device; for {count} start "
            f"'torchrun --nproc-per-node {count} train.py ...' (CUDA_VISIBLE_DEVICES={text} chooses which)"
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
        there = f"CUDA devices here: 0 to {count - 1}" if count else "no CUDA device is there; use --device cpu"
        raise UserError(f"--device {name}: {there}")
    return torch.device("cuda", index)


def device_memory(device: torch.device) -> str:
    """The memory that training takes on `device` as a short text: '3.1G', or the process's own on a CPU."""
    if device.type == "cuda":
        return f"{torch.cuda.memory_reserved(device) / 1e9:.1f}G"
    if device.type == "mps":
        return f"{torch.mps.driver_allocated_memory() / 1e9:.1f}G"
    try:  # second number: resident pages (Linux)
        return f"{int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f}G"
    except (OSError, IndexError, ValueError):
        return "-"


def peak_memory(device: torch.device) -> str:
    """The most memory that this process has taken on `device` so far, as `device_memory` tells it."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_reserved(device) / 1e9:.1f}G"
    try:
        import resource
    except ImportError:  # Windows
        return "-"
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{most * (1 if sys.platform == 'darwin' else 1024) / 1e9:.1f}G"


def default_workers(beside: str = "") -> int:
    """How many processes to load pictures with: one a CPU core of this process's share, 8 at most; one for eight cores
    `beside` a "cpu" that trains, whom more of them take cores from.

    Those that torchrun started on this machine share its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, min(8, share // 8 if beside == "cpu" else share))


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets that the CPU names in /proc/cpuinfo; empty where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def _has_mps() -> bool:
    return bool(getattr(torch.backends, "mps", None)) and torch.backends.mps.is_available()


def fastest_layout(
    model: nn.Module, device: torch.device, picture: tuple[int, int, int] = (3, 64, 64)
) -> torch.memory_format:
    """Bring `model` into the order in memory that it trains fastest in, and return it: channels last (a quarter faster
    on a CPU), where all its blocks take that. `picture` is a shape (C, H, W) that it can run on."""
    if device.type == "mps":
        return torch.contiguous_format
    training = model.training
    try:
        with torch.no_grad():
            images = torch.zeros(1, *picture, device=device).contiguous(memory_format=torch.channels_last)
            model.eval().to(memory_format=torch.channels_last)(images)
        return torch.channels_last
    except RuntimeError:  # a block that calls view() on what it takes to be channels first
        model.to(memory_format=torch.contiguous_format)
        return torch.contiguous_format
    finally:
        model.train(training)
