"""Latency of a model and of its rows, and the peak memory of its feature maps."""

import copy
import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from graftdet.models.graph.detection_model import DetectionModel, flat_maps
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.spec.row import IMAGE
from graftdet.utils.errors import UserError


@dataclass(frozen=True)
class Timing:
    """Milliseconds of `count` runs: `median`, lower quartile `low` and upper quartile `high`."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """Return the statistics of measured `seconds`."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
        return cls(1e3 * median, 1e3 * low, 1e3 * high, len(seconds))

    def __str__(self) -> str:
        return f"{self.median:.1f} ms ({self.low:.1f} to {self.high:.1f})"


def time_calls(
    calls: list[Callable[[], object]],
    repeats: int = 20,
    warmup: int = 3,
    wait: Callable[[], object] = lambda: None,
) -> list[Timing]:
    """Time several calls, alternating between them so that changes of the machine's speed affect all.

    Args:
        calls: What to time.
        repeats: Timed runs of each.
        warmup: Runs of each before that.
        wait: Called before each reading of the clock; on a GPU it waits until all work is done.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(warmup + repeats):
        for call, times in zip(calls, seconds, strict=True):
            wait()
            start = time.perf_counter()
            call()
            wait()
            if number >= warmup:
                times.append(time.perf_counter() - start)
    return [Timing.of(times) for times in seconds]


def time_rows(
    model: DetectionModel, size: tuple[int, int], repeats: int = 10, device: str | torch.device = "cpu"
) -> list[float]:
    """Return the median milliseconds of each row of the fused model for one image, float32.

    Args:
        model: Is not changed.
        size: (height, width) of the image.
        repeats: Timed runs.
        device: Where to run.
    """
    device = torch.device(device)
    fused = copy.deepcopy(model).fuse().to(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds: list[list[float]] = [[] for _ in fused.model]
    image = torch.rand(1, model.channels, *size, device=device)
    with torch.inference_mode():
        for number in range(repeats + 2):
            outputs: list = []
            for row, layer in zip(fused.spec.rows, fused.model, strict=True):
                inputs = _inputs(row, outputs, image, layer is fused.head)
                wait()
                start = time.perf_counter()
                outputs.append(layer(inputs))
                wait()
                if number > 1:
                    seconds[row.index].append(time.perf_counter() - start)
    return [1e3 * statistics.median(times) for times in seconds]


def _inputs(row, outputs, image, is_head):
    maps = [image if s == IMAGE else outputs[s] for s in row.sources]
    if is_head:
        return flat_maps(maps)
    return maps if row.joined else maps[0]


def peak_activation_bytes(model: DetectionModel, size: tuple[int, int]) -> int:
    """Return the peak memory of feature maps in the fused model for one image, float32, without weights.

    The sizes of living tensors are counted, so the result is the same on every machine.

    Args:
        model: Is not changed.
        size: (height, width) of the image.

    Raises:
        UserError: If the model cannot run at that size.
    """
    fused = copy.deepcopy(model).fuse()
    for device in ("meta", "cpu"):  # a block that needs data runs on zeros
        try:
            fused = fused.to(device)
            with torch.no_grad(), evaluating(fused), _LiveBytes() as live:
                fused.raw_outputs(torch.zeros(1, model.channels, *size, device=device))
            return live.peak
        except Exception as error:
            problem = error
            fused = copy.deepcopy(model).fuse()
    raise UserError(f"{model.spec.label}: cannot run at {size[1]}x{size[0]}: {problem}")


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations created and Python still references."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._holders: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, (list, tuple)) else [output]:
            if isinstance(tensor, torch.Tensor):
                self._add(tensor)
        self.peak = max(self.peak, self.now)
        return output

    def _add(self, tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._holders:
            self._holders[key] = 0
            self.now += size
        self._holders[key] += 1
        weakref.finalize(tensor, self._remove, key, size)

    def _remove(self, key, size) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.now -= size
