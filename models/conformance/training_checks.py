"""Conformance checks of training: copies, precision, gradients, checkpoints."""

import copy
import io

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from graftdet.models.conformance.block_case import BlockCase
from graftdet.models.conformance.numerics import (
    CheckFailed,
    Maps,
    failing_at,
    map_each,
    require_equal,
    require_finite,
    run_block,
    run_eval,
)

_NONDETERMINISTIC = (  # operations for which torch.use_deterministic_algorithms raises on CUDA
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "fractional_max_pool2d_backward",
    "grid_sampler_2d_backward",
    "max_unpool2d",
    "reflection_pad2d_backward",
    "replication_pad2d_backward",
    "histc",
    "kthvalue",
)
_INPUTS = {  # kind of input maps -> made from random ones
    "random maps": lambda m: m,
    "maps of zeros": torch.zeros_like,
    "maps of ones": torch.ones_like,
    "large maps": lambda m: 100 * m,
}


def deep_copy(case: BlockCase) -> str:
    """A block that has run can be copied (by the EMA and the exporter), and the copy shares no state with it."""
    block, maps = case.build().train(), case.maps()
    run_block(block, maps)
    copied = copy.deepcopy(block)
    expected = run_eval(block, maps)
    require_equal(run_eval(copied, maps), expected, "the copy")
    with torch.no_grad():
        for tensor in copied.state_dict().values():
            tensor.add_(1)
    require_equal(run_eval(block, maps), expected, "the original after a change of the copy")
    return ""


def half_precision(case: BlockCase) -> str:
    """Weights and maps in float16 and bfloat16, and training in mixed precision."""
    maps, remark = case.maps(), ""
    expected = run_eval(case.build(), maps)
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        with failing_at(name):
            try:
                outputs = run_eval(case.build().to(dtype), map_each(maps, lambda m, d=dtype: m.to(d)))  # type: ignore[misc]
            except NotImplementedError:  # an operation that torch has for CUDA only
                if dtype is not torch.float16:
                    raise
                remark = "float16 not supported on this CPU"
                continue
            if any(t.dtype != dtype for t in outputs):
                raise CheckFailed(f"returns {str(outputs[0].dtype).removeprefix('torch.')}")
            require_equal(outputs, expected, "compared with float32", 0.1)
    with failing_at("mixed precision (bfloat16)"), torch.autocast("cpu", dtype=torch.bfloat16):
        require_finite(run_block(case.build().train(), maps), "train mode")
    return remark


def deterministic_backward(case: BlockCase) -> str:
    """Gradients are equal in two runs, and no operation lacks a deterministic backward pass on CUDA."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    operations = _Operations()
    torch.use_deterministic_algorithms(True)
    try:
        first = _gradients(case.build(), case.maps())
        with operations:
            second = _gradients(case.build(), case.maps())
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    for name, gradient in first.items():
        if gradient is not None and not torch.equal(gradient, second[name]):
            raise CheckFailed(f"the gradient of '{name}' differs between runs with the same seed")
    used = [name for name in _NONDETERMINISTIC if name in operations.names]
    if used:
        raise CheckFailed(f"{used[0]} is not deterministic on CUDA")
    return ""


class _Operations(TorchDispatchMode):
    """Collects the names of all operations."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def _gradients(block: nn.Module, maps: Maps, seed: int = 0, train_norms: bool = True) -> dict[str, torch.Tensor | None]:
    """Gradients of a loss with respect to all trainable weights, by name, and to the inputs ("input 0", ...).

    Without `train_norms` batch norms are in eval mode: on constant maps several of them in a row overflow.
    """
    block.train()
    for module in block.modules():
        if not train_norms and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    maps = map_each(maps, lambda m: m.clone().requires_grad_())
    loss = sum(
        (t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() + t.square().mean()
        for t in run_block(block, maps, seed)
    )
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        loss.backward()
    inputs = {f"input {i}": m.grad for i, m in enumerate(maps if isinstance(maps, list) else [maps])}
    return {name: p.grad for name, p in block.named_parameters() if p.requires_grad} | inputs


def complete_gradients(case: BlockCase) -> str:
    """Every trainable weight and every input receives a gradient, which nothing in the block cuts or sets to zero.

    Weights are disturbed first: zeros, as some blocks have them at the end of a branch, would hide what is before them.
    """
    block = case.build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for name, gradient in _gradients(block, case.maps()).items():
        is_input = name.startswith("input ")
        if is_input and case.options.takes_lists:
            continue  # it may pick one of the maps
        what = name.replace("input 0", "the input") if is_input and not isinstance(case.width_in, list) else name
        what = what if is_input else f"weight '{name}'"
        if gradient is None:
            fix = "" if is_input else "; remove or freeze it (requires_grad_(False))"
            cut = ": detach(), .data, no_grad() or argmax() cuts it" if is_input else fix
            raise CheckFailed(f"{what} has no gradient{cut}")
        if not gradient.any() and (is_input or gradient.ndim > 1):
            raise CheckFailed(
                f"the gradient of {what} is zero everywhere: round(), sign(), a limit or a comparison cuts it"
            )
    return ""


def finite_gradients(case: BlockCase) -> str:
    """Gradients are finite for random, constant and large maps."""
    for kind, make in _INPUTS.items():
        with failing_at(kind):
            varied = kind in ("random maps", "large maps")
            for name, gradient in _gradients(case.build(), map_each(case.maps(), make), train_norms=varied).items():
                if gradient is not None and not torch.isfinite(gradient).all():
                    raise CheckFailed(f"the gradient of '{name}' is not finite")
    return ""


def state_dict_round_trip(case: BlockCase) -> str:
    """A block with another seed returns the same after loading the state dict: there is no state outside it."""
    block, maps = case.build(0), case.maps()
    run_block(block.train(), maps)
    file = io.BytesIO()
    torch.save(block.state_dict(), file)
    file.seek(0)
    other = case.build(1)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    require_equal(run_eval(other, maps), run_eval(block, maps), "another block with these weights")
    return ""
