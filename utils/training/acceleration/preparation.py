"""Preparation of a model for training: memory format, activations, gradients, compilation.

Results do not change, or by rounding only.
"""

import importlib.util
import os
import shutil
from collections.abc import Iterable

import torch
from torch import nn

from graftdet.utils.errors import UserError
from graftdet.utils.memory_format import Explain, prefer_channels_last
from graftdet.utils.training.acceleration.dense_gradients import make_gradients_dense
from graftdet.utils.training.acceleration.depthwise_gradients import speed_up_depthwise_gradients

_SMOOTH_ACTIVATIONS = (nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid)


def prepare_for_training(
    model: nn.Module,
    device: torch.device,
    image_shape: tuple[int, int, int] = (3, 64, 64),
    blocks: Iterable[nn.Module] | None = None,
    explain: Explain | None = None,
) -> torch.memory_format:
    """Bring `model` into the form in which most models train fastest.

    Args:
        model: The model, changed in place.
        device: The device that it is on.
        image_shape: Shape (C, H, W) of the training images.
        blocks: Its parts that may need contiguous memory; None: its children.
        explain: Makes the error for a block that cannot be trained.

    Returns:
        The memory format for its input images.

    Raises:
        Exception: What a block raises in training, or what `explain` makes of it.
    """
    disable_inplace_activations(model)
    layout = prefer_channels_last(model, device, image_shape, blocks, training=True, explain=explain)
    if device.type == "cpu":
        make_gradients_dense(model)
        speed_up_depthwise_gradients(model)
    return layout


def compile_model(model: nn.Module, enabled: bool, device: torch.device) -> nn.Module:
    """Let torch compile `model`, in place, at its first call (takes minutes per image size).

    Names, weights and copies of the model do not change.

    Raises:
        UserError: If torch has no compiler to generate code with.
    """
    if enabled:
        if device.type == "cuda" and importlib.util.find_spec("triton") is None:
            raise UserError("--compile: needs the package triton on CUDA devices; train without it")
        if device.type != "cuda" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))):
            raise UserError(
                "--compile: needs a C++ compiler, and neither g++ nor clang++ is installed; train without it"
            )
        model.compile(dynamic=False)
    return model


def disable_inplace_activations(model: nn.Module) -> None:
    """Let smooth activations allocate their output: their gradient needs the input, which autograd otherwise copies
    (8 % of a training step on a CPU, and no memory is saved).
    """
    for module in model.modules():
        if isinstance(module, _SMOOTH_ACTIVATIONS):
            module.inplace = False
