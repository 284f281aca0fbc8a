"""Times of steps in the user's cache folder: one file for each machine, model, size, batch and set of versions."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graftdet.utils.environment import project_version
from graftdet.utils.files import cache_folder, read_cached_json, write_cached_json
from graftdet.utils.processor import cpu_flags, processor_name, usable_cores
from graftdet.utils.threads import BUSY
from graftdet.utils.training.acceleration.step_timing import StepVariant

Times = dict[str, dict[StepVariant, float]]
"""Part, "training" or "validation" -> variant -> seconds per image."""


def machine_key() -> dict[str, Any]:
    """Return what the time of a step depends on beside the model: processor, cores, threads, versions."""
    return {
        "processor": processor_name(),
        "instruction sets": _digest(sorted(cpu_flags())),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "graftdet": project_version(),
    }


def structure_key(model: nn.Module) -> str:
    """Return a hash of the modules of a model with their settings, and of its parameters with their shapes."""
    modules = [(name, type(module).__name__, module.extra_repr()) for name, module in model.named_modules()]
    parameters = [(name, list(one.shape), one.requires_grad) for name, one in model.named_parameters()]
    return _digest([modules, parameters])


def read_times(key: Mapping[str, Any]) -> Times | None:
    """Return the times remembered for `key`; None without a valid file, or where they were taken under load."""
    content = read_cached_json(_path(key))
    try:
        times = {
            part: {StepVariant.parse(name): float(seconds) for name, seconds in content[part].items()}
            for part in ("training", "validation")
        }
        load = float(content.get("load", 0))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    values = [seconds for part in times.values() for seconds in part.values()]
    is_valid = all(times.values()) and all(math.isfinite(seconds) and seconds > 0 for seconds in values)
    return times if is_valid and load < BUSY else None


def remember_times(key: Mapping[str, Any], times: Times, load: float = 0.0) -> None:
    """Write the times for `key`. Where the cache folder cannot be written, the next run takes them again.

    Args:
        key: What the times depend on.
        times: The times.
        load: Fraction of the cores that other processes used meanwhile. From `BUSY` on, `read_times` does not return
            the times.
    """
    parts = {part: {str(variant): seconds for variant, seconds in found.items()} for part, found in times.items()}
    write_cached_json(_path(key), {"key": dict(key), "load": round(load, 3), **parts})


def _path(key: Mapping[str, Any]) -> Path:
    return cache_folder() / "steps" / f"{_digest(dict(key))}.json"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
