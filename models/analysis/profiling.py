"""How long a model takes, as a whole and row by row; and how much memory its maps need at most."""

import copy
import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from graftdet.models.graph.detection_model import flat_maps
from graftdet.models.graph.shape_inference import evaluating
from graftdet.models.spec.row import IMAGE
from graftdet.utils.errors import UserError
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Timing:
    """Milliseconds: `median` and the quartiles around it, over `count` runs."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
        return cls(1e3 * median, 1e3 * low, 1e3 * high, len(seconds))

    def __str__(self):
        return f"{self.median:.1f} ms ({self.low:.1f} to {self.high:.1f})"


def time_calls(
    calls: list[Callable[[], object]], repeats: int = 20, warmup: int = 3, wait=lambda: None
) -> list[Timing]:
    """Time each of `calls`, in turns, so that a machine that slows down slows all of them down.

    `wait` is called before each clock is read: on a GPU it waits for what was started.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(warmup + repeats):
        for call, times in zip(calls, seconds, strict=True):
            wait()
            start = time.perf_counter()
            call()
            wait()
            if turn >= warmup:
                times.append(time.perf_counter() - start)
    return [Timing.of(times) for times in seconds]


def time_rows(model, size: tuple[int, int], repeats: int = 10, device: str = "cpu") -> list[float]:
    """Median milliseconds of each row of a `DetectionModel`, fused, one picture of `size` (height, width), float32."""
    device = torch.device(device)
    fused = copy.deepcopy(model).fuse().to(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds: list[list[float]] = [[] for _ in fused.model]
    image = torch.rand(1, model.channels, *size, device=device)
    with torch.inference_mode():
        for turn in range(repeats + 2):
            outputs: list = []
            for row, layer in zip(fused.spec.rows, fused.model, strict=True):
                inputs = _inputs(row, outputs, image, layer is fused.head)
                wait()
                start = time.perf_counter()
                outputs.append(layer(inputs))
                wait()
                if turn > 1:
                    seconds[row.index].append(time.perf_counter() - start)
    return [1e3 * statistics.median(times) for times in seconds]


def _inputs(row, outputs, image, is_head):
    maps = [image if s == IMAGE else outputs[s] for s in row.sources]
    if is_head:
        return flat_maps(maps)
    return maps if row.joined else maps[0]


def peak_activation_bytes(model, size: tuple[int, int]) -> int:
    """The most bytes of maps that are alive at once while one picture of `size` (height, width) passes a fused copy of
    `model`, float32, weights not counted. It is counted, not measured: the same on every machine.

    Raises `UserError` when the model cannot run at that size.
    """
    fused = copy.deepcopy(model).fuse()
    for device in ("meta", "cpu"):  # blocks that need real numbers run on zeros
        try:
            fused = fused.to(device)
            with torch.no_grad(), evaluating(fused), _LiveBytes() as live:
                fused.raw_outputs(torch.zeros(1, model.channels, *size, device=device))
            return live.peak
        except Exception as error:
            problem = error
            fused = copy.deepcopy(model).fuse()
    raise UserError(f"{model.spec.where}: cannot run at {size[1]}x{size[0]}: {problem}")


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations have made and that Python still holds."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._holders: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, (list, tuple)) else [output]:
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        self.peak = max(self.peak, self.now)
        return output

    def _note(self, tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._holders:
            self._holders[key] = 0
            self.now += size
        self._holders[key] += 1
        weakref.finalize(tensor, self._forget, key, size)

    def _forget(self, key, size) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.now -= size
