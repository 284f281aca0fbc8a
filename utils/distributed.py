"""Several processes, one device each, as `torchrun` starts them; everything here does nothing in a single process."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from graftdet.utils.device import select_device
from graftdet.utils.errors import UserError
from torch import nn

_LOST = re.compile("gloo|nccl|connection|timed out|timeout", re.IGNORECASE)  # what lost processes are told with


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

    def gather(self, value) -> list | None:
        """The `value` (plain data) of every process, in their order, in the main one; None in the others."""
        if self.world_size == 1:
            return [value]
        values = [None] * self.world_size if self.is_main else None
        dist.gather_object(value, values)
        return values

    @torch.no_grad()
    def align(self, model: nn.Module) -> None:
        """Give `model` the floating-point state that it has in the main process."""
        if self.world_size == 1:
            return
        state = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
        together = torch.cat([tensor.float().flatten() for tensor in state])
        dist.broadcast(together, src=0)
        for tensor, values in zip(state, together.split([tensor.numel() for tensor in state]), strict=True):
            tensor.copy_(values.view(tensor.shape))


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
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=timedelta(minutes=10))
    silent = contextlib.nullcontext() if ranks.is_main else contextlib.redirect_stdout(io.StringIO())
    try:
        with silent:  # what is printed, is printed once
            yield ranks, device
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(
            f"process {ranks.rank} of {world_size}: another one does not answer and has probably ended; what it said last tells why ({reason})"
        ) from None
    dist.destroy_process_group()  # not after an error: that would wait for those that are no more


def distribute(model: nn.Module, ranks: Ranks, device: torch.device, sync_bn: bool = False) -> nn.Module:
    """Wrap `model` so that gradients are averaged over all processes (and batch norm sees all their pictures)."""
    if ranks.world_size == 1:
        return model
    if sync_bn and device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    elif sync_bn:
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = NormOverAll  # all who know this norm go on with it
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def over_processes(total: torch.Tensor, least: torch.Tensor | float = 0.0) -> torch.Tensor:
    """The sum of `total` over all processes, at least `least`, divided by their number.

    A process that divides its own sum by this has its part of the mean over all: the gradients, averaged, are those of
    one process with the whole batch. In a single process that is `total`, at least `least`.
    """
    total, least = total.detach().clone(), torch.as_tensor(least, dtype=total.dtype, device=total.device)
    if not _in_group():
        return torch.maximum(total, least)
    dist.all_reduce(total)
    return torch.maximum(total, least) / dist.get_world_size()


def mean_over_processes(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """The mean of each number over all processes, which have them by the same names."""
    if not _in_group():
        return values
    return dict(zip(values, over_processes(torch.tensor(list(values.values()), device=device)).tolist(), strict=True))


def _in_group() -> bool:
    return dist.is_available() and dist.is_initialized()


class _SumOverAll(torch.autograd.Function):
    """The sum of a tensor over all processes; what they have each learnt about it by then is summed on the way back."""

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


class NormOverAll(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the pictures of all processes; for devices that torch's own
    `SyncBatchNorm` does not know. In eval mode it is a batch norm as any other."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        values = x.float()  # (B, C, H, W)
        sums = torch.cat((values.sum((0, 2, 3)), values.new_tensor([values[:, 0].numel()])))
        sums = _SumOverAll.apply(sums)
        number, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = values - mean[:, None, None]
        variance = _SumOverAll.apply(centred.square().sum((0, 2, 3))) / number
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * number / (number - 1), share)
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale[:, None, None]).to(x.dtype)
        return torch.addcmul(self.bias[:, None, None], centred, (self.weight * scale)[:, None, None]).to(x.dtype)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a DistributedDataParallel wrapper, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
