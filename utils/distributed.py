"""Several processes, one device each, as `torchrun` starts them; everything here does nothing in a single process."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from .device import select_device
from .errors import UserError


@dataclass(frozen=True)
class Ranks:
    """This process's number among `world_size` processes (on this machine: `local_rank`)."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def share(self, value):
        """Return the main process's `value` (plain data) in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


@contextlib.contextmanager
def process_group(device_name: str) -> Iterator[tuple[Ranks, torch.device]]:
    """Join the group that torchrun's environment describes, if any; gives (ranks, the device of this process).

    CUDA devices talk through NCCL, CPUs through gloo. Raises `UserError` when the device is not there.
    """
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        yield Ranks(), select_device(device_name)
        return
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"]), world_size)
    text = str(device_name).strip().lower()
    on_cuda = text not in ("cpu", "mps") and (text != "" or torch.cuda.is_available())
    if text == "mps":
        raise UserError("--device mps: several processes work on CUDA devices or on the CPU")
    device = select_device(f"cuda:{ranks.local_rank}" if on_cuda else "cpu")
    if on_cuda:
        torch.cuda.set_device(device)
    # the others wait while the main process validates: give it hours, not minutes
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=timedelta(hours=3))
    silent = contextlib.nullcontext() if ranks.is_main else contextlib.redirect_stdout(io.StringIO())
    try:
        with silent:  # what is printed, is printed once
            yield ranks, device
    finally:
        dist.destroy_process_group()


def distribute(model: nn.Module, ranks: Ranks, device: torch.device, sync_bn: bool = False) -> nn.Module:
    """Wrap `model` so that gradients are averaged over all processes (and batch norm sees all their pictures)."""
    if ranks.world_size == 1:
        return model
    if sync_bn:
        if device.type != "cuda":
            raise UserError("--sync-bn: synchronised batch norm works on CUDA devices only")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=True
    )


def bare(model: nn.Module) -> nn.Module:
    """The model inside a DistributedDataParallel wrapper, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
