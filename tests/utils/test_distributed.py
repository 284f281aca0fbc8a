"""What several processes compute together."""

import os
import socket
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
import torch.distributed as dist
from torch import nn

from graftdet.utils.distributed import DistributedBatchNorm, as_single_process, average_over_processes

BARE = {"affine": False, "track_running_stats": False}
SETTINGS = [{}, {"affine": False}, {"track_running_stats": False}, BARE, {"momentum": None}]


def case(settings):
    """(batch_norm, images (5, 4, 3, 3), weights of the loss), the same in each process."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        batch_norm = nn.BatchNorm2d(4, **settings)
        for parameter in batch_norm.parameters():
            nn.init.normal_(parameter)
        return batch_norm, 3 * torch.randn(5, 4, 3, 3) + 1, torch.randn(5, 4, 3, 3)


def forward_and_backward(batch_norm, x, weights):
    """Output, the gradient that reaches the images, and the statistics after two batches; then what eval mode gives."""
    x = x.clone().requires_grad_()
    batch_norm.train()(x)
    out = batch_norm(x)
    (out * weights).sum().backward()
    state = {name: value.clone() for name, value in batch_norm.state_dict().items()}
    return out.detach(), x.grad, state, batch_norm.eval()(x).detach()


def run_process(rank, port):
    """Results of one of two processes, of which the second has fewer images."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    part, results = slice(0, 3) if rank == 0 else slice(3, 5), []
    for settings in SETTINGS:
        batch_norm, x, weights = case(settings)
        batch_norm.__class__ = DistributedBatchNorm
        results.append(forward_and_backward(batch_norm, x[part], weights[part]))
    dist.destroy_process_group()
    return results


@pytest.fixture(scope="module")
def parts_of_processes():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run_process, (0, 1), (port, port)))


@pytest.mark.parametrize("number", range(len(SETTINGS)), ids=lambda number: str(SETTINGS[number]))
def test_distributed_batch_norm_equals_batch_norm_of_the_joint_batch(number, parts_of_processes):
    batch_norm, x, weights = case(SETTINGS[number])
    out, gradient, state, validated = forward_and_backward(batch_norm, x, weights)
    parts = [part[number] for part in parts_of_processes]
    assert torch.allclose(torch.cat([part[0] for part in parts]), out, atol=1e-5)
    assert torch.allclose(torch.cat([part[1] for part in parts]), gradient, atol=1e-5)
    for part in parts:
        assert part[2].keys() == state.keys()
        assert all(torch.allclose(part[2][name], state[name], atol=1e-5) for name in state)
    if batch_norm.track_running_stats:  # without, each process has its own images in eval mode, as torch's batch norm
        assert torch.allclose(torch.cat([part[3] for part in parts]), validated, atol=1e-5)


def test_a_process_alone_waits_for_no_other(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor: tensor.add_(5))
    total = torch.tensor(3.0)
    with as_single_process():
        assert average_over_processes(total) == 3
    assert average_over_processes(total) == 4
