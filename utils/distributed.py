"""Several processes, one device each, as `torchrun` starts them. In a single process nothing here has an effect."""

import contextlib
import gc
import io
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from graftdet.utils.device import select_device
from graftdet.utils.errors import UserError
from graftdet.utils.processes.parent_watch import end_with_parent

_LOST_CONNECTION = re.compile("gloo|nccl|connection|timed out|timeout", re.IGNORECASE)  # in messages of torch
_alone = False  # inside `as_single_process`


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among `world_size` processes (`local_rank`: among those on this machine)."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Return the `value` of the main process in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all processes, in the order of their ranks, in the main process; None in the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values)
        return values

    def any(self, value: bool) -> bool:
        """Return whether `value` is true in any process."""
        if self.world_size == 1:
            return value
        flag = torch.tensor(float(value), device="cuda" if dist.get_backend() == "nccl" else "cpu")
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    @torch.no_grad()
    def broadcast_state(self, model: nn.Module) -> None:
        """Copy the floating-point state of `model` from the main process to all others."""
        if self.world_size == 1:
            return
        state = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        flat = torch.cat([tensor.float().flatten() for tensor in state])
        dist.broadcast(flat, src=0)
        for tensor, values in zip(state, flat.split([tensor.numel() for tensor in state]), strict=True):
            tensor.copy_(values.view(tensor.shape))


@contextlib.contextmanager
def process_group(device_name: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the process group that torchrun's environment variables describe, if any.

    CUDA devices communicate by NCCL, CPUs by gloo. Only the main process prints.

    Args:
        device_name: Value of --device (see `select_device`).

    Yields:
        The ranks and the device of this process.

    Raises:
        UserError: If the device does not exist, or another process of the group has ended.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        yield Ranks(), select_device(device_name)
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]), world_size)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent(f"process {ranks.rank} of {world_size}")
    text = str(device_name).strip().lower()
    on_cuda = text not in ("cpu", "mps") and (text != "" or torch.cuda.is_available())
    if text == "mps":
        raise UserError("--device mps: several processes need CUDA devices or the CPU")
    device = select_device(f"cuda:{ranks.local_rank}" if on_cuda else "cpu")
    if on_cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=timedelta(minutes=10))
    try:
        with contextlib.nullcontext() if ranks.is_main else _silent():
            yield ranks, device
    except RuntimeError as error:
        if not _LOST_CONNECTION.search(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(
            f"process {ranks.rank} of {world_size}: another process does not respond and has probably ended; "
            f"see its last message for the reason ({reason})"
        ) from None
    gc.collect()  # a DistributedDataParallel that is kept alive by a cycle would end its threads after the group's
    dist.destroy_process_group()  # not after an error: it would wait for processes that have ended


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress standard output and log messages up to warnings, which the main process reports."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def distribute(model: nn.Module, ranks: Ranks, device: torch.device, sync_bn: bool = False) -> nn.Module:
    """Wrap `model` so that gradients are averaged over all processes.

    Args:
        model: The model on `device`.
        ranks: Rank of this process.
        device: Device of this process.
        sync_bn: Compute batch norm statistics over the images of all processes.
    """
    if ranks.world_size == 1:
        return model
    if sync_bn and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif sync_bn:
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = DistributedBatchNorm  # in place: other references to the module stay valid
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def average_over_processes(total: torch.Tensor, minimum: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Return the sum of `total` over all processes, at least `minimum`, divided by their number.

    To normalize a loss: if each process divides its own sum by this, the averaged gradients are those of one process
    with the whole batch. In a single process it is `total`, at least `minimum`.
    """
    total, minimum = total.detach().clone(), torch.as_tensor(minimum, dtype=total.dtype, device=total.device)
    if not _in_group():
        return torch.maximum(total, minimum)
    dist.all_reduce(total)
    return torch.maximum(total, minimum) / dist.get_world_size()


def average_losses(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """Return the mean of each number over all processes, which have the same names in the same order."""
    if not _in_group():
        return values
    return dict(
        zip(values, average_over_processes(torch.tensor(list(values.values()), device=device)).tolist(), strict=True)
    )


@contextlib.contextmanager
def as_single_process() -> Iterator[None]:
    """Let losses be normalized as in a single process, for steps that the other processes do not run."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized() and not _alone


class _AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over all processes; the backward pass sums their gradients."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class DistributedBatchNorm(nn.BatchNorm2d):
    """Batch norm with statistics over the images of all processes, for devices that torch's `SyncBatchNorm` does not
    support. In eval mode, and inside `as_single_process`, it is an ordinary batch norm.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize x (B, C, H, W)."""
        if not self.training or not _in_group():
            return super().forward(x)
        values = x.float()  # (B, C, H, W)
        sums = torch.cat((values.sum((0, 2, 3)), values.new_tensor([values[:, 0].numel()])))
        sums = _AllReduceSum.apply(sums)
        count, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centered = values - mean[:, None, None]
        variance = _AllReduceSum.apply(centered.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.detach(), momentum)
                self.running_var.lerp_(variance.detach() * count / (count - 1), momentum)
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centered * scale[:, None, None]).to(x.dtype)
        return torch.addcmul(self.bias[:, None, None], centered, (self.weight * scale)[:, None, None]).to(x.dtype)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside a DistributedDataParallel wrapper, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
