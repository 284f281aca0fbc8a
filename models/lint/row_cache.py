"""Building rows, the outcomes shared by all passes over a model, and the time that the search for causes may take."""

import math
import time
from typing import Any

import torch

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.activations import default_activation
from graftdet.models.graph.modules import Module
from graftdet.models.graph.row_builder import build_head, build_row
from graftdet.models.graph.shape_inference import needs_values
from graftdet.models.graph.size_limit import LimitedWeights, check_map
from graftdet.models.lint.argument_warnings import argument_warnings
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import Row
from graftdet.utils.errors import UserError

SECONDS = 2.0
"""Processor time for the search of causes in one file, after the first pass. What is certain is found by that pass."""

INTERVAL = 0.02
"""Seconds between two readings of the processor time, which on some systems take as long as building a row."""


class RowCache(dict[Any, Any]):
    """Row and input -> outcome of building it.

    Args:
        seconds: processor time of this thread for everything after `start_search`.
    """

    def __init__(self, seconds: float = SECONDS):
        super().__init__()
        self._seconds, self._deadline, self._checked = seconds, math.inf, -math.inf

    def restart(self) -> "RowCache":
        """Allow the whole time again, for another model; returns the cache."""
        self._deadline = math.inf
        return self

    def start_search(self) -> None:
        """Start the clock, at the first call."""
        if self._deadline == math.inf:
            self._deadline = time.thread_time() + self._seconds

    @property
    def is_expired(self) -> bool:
        """Whether the time is over; the best result so far counts then."""
        if self._deadline == math.inf or time.monotonic() - self._checked < INTERVAL:
            return False
        expired = time.thread_time() > self._deadline
        if not expired:
            self._checked = time.monotonic()
        return expired


class RowCaches:
    """Caches for checks of one model after another, such as a text that is being edited.

    Args:
        models: Caches to hold, of models whose rows may differ although they are written alike.
        entries: Outcomes in a cache, before it is emptied.
    """

    def __init__(self, models: int = 4, entries: int = 4000):
        self._models, self._entries = models, entries
        self._caches: dict[tuple, RowCache] = {}
        options = (BLOCKS.options(name) for name in BLOCKS)
        self._decisive = {module for option in options for module in option.defaults_with_module}

    def __call__(self, spec: ModelSpec) -> RowCache:
        """Return the cache for a model, with the whole time for its search."""
        multiples = spec.depth_multiple, spec.width_multiple, spec.max_channels
        modules = frozenset(row.module for row in spec.rows if row.module in self._decisive)
        key = (*multiples, spec.activation, spec.size, spec.nc, spec.channels, repr(spec.anchors), modules)
        cache = self._caches.pop(key, None)
        if cache is None or len(cache) > self._entries:
            cache = RowCache()
        self._caches[key] = cache
        while len(self._caches) > self._models:
            del self._caches[next(iter(self._caches))]
        return cache.restart()


def build_without_memory(spec: ModelSpec, row: Row, module: Module, inputs: Any) -> Any:
    """Build one row without weights in memory; blocks that cannot be built that way are built for real."""
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), LimitedWeights(), default_activation(spec.activation):
                build = build_head if module.is_head else build_row
                _, call, shape = build(spec, row, module.block, module.options, inputs)
                check_map(shape)
        except UserError as error:
            if device == "meta" and needs_values(error):
                continue
            return error
        return shape, [] if module.is_head else argument_warnings(spec, row, module, call, inputs), call
