"""What makes a training step faster on the device at hand and changes nothing of what is learnt."""

import importlib.util
import os
import shutil

import torch
from graftdet.utils.device import cpu_flags, fastest_layout
from graftdet.utils.errors import UserError
from torch import nn

_SMOOTH = (nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid)


def fastest_form(
    model: nn.Module, device: torch.device, picture: tuple[int, int, int] = (3, 64, 64)
) -> torch.memory_format:
    """Bring `model` into the form it trains fastest in; gives the order in memory of its pictures (`fastest_layout`)."""
    write_beside(model)
    return fastest_layout(model, device, picture)


def compiled(model: nn.Module, asked: bool, device: torch.device) -> nn.Module:
    """`model`, which torch's compiler translates when it is first called, if `asked`: for each size of a batch once, in
    minutes. It stays itself: names, weights and copies made before know nothing of it. Raises `UserError` where the
    compiler has no compiler of its own to hand its text to."""
    if asked:
        if device.type == "cuda" and importlib.util.find_spec("triton") is None:
            raise UserError("--compile: needs the package triton on CUDA devices; train without it")
        if device.type != "cuda" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
            raise UserError(
                "--compile: needs a C++ compiler, and neither g++ nor clang++ is installed; train without it"
            )
        model.compile(dynamic=False)
    return model


def mixed_precision(choice: str, device: torch.device) -> tuple[torch.dtype | None, torch.amp.GradScaler | None]:
    """The type to autocast to (None: float32 everywhere) and the gradient scaler that it needs.

    'auto' takes float16 on CUDA and bfloat16 on CPUs with matrix units for it (AMX); the vector instructions that
    older CPUs have (AVX512-BF16) measured slower than float32. 'on' takes them on any device, 'off' on none.
    """
    if choice == "off":
        return None, None
    if device.type == "cuda":
        return torch.float16, torch.amp.GradScaler("cuda")
    if choice == "on":
        return (torch.bfloat16 if device.type == "cpu" else torch.float16), None
    return (torch.bfloat16 if device.type == "cpu" and "amx_bf16" in cpu_flags() else None), None


def write_beside(model: nn.Module) -> None:
    """Let smooth activations write beside what they read, not over it: their gradient asks for what they read, so
    autograd would copy it first (a twelfth of a step on a CPU, and no memory saved)."""
    for module in model.modules():
        if isinstance(module, _SMOOTH):
            module.inplace = False
