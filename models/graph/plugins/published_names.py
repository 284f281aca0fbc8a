"""The names that blocks written for YOLOv5 and its forks import: blocks and helper functions of the project.

Signatures follow the published interface, so that a pasted class finds what it calls.
"""

import copy
import functools
import logging
import math
import typing
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from graftdet.models.blocks import BLOCKS, conv
from graftdet.models.blocks.transformer import TransformerBlock, TransformerLayer
from graftdet.models.heads import HEADS
from graftdet.utils import boxes
from graftdet.utils.device import select_device


class _DilationOmitted:
    """Mix-in: arguments of older files as well, where the activation follows the groups directly."""

    default_act = nn.SiLU()

    def __init__(self, c1, c2, *args, **kwargs):
        position = 4 if isinstance(self, conv.Conv) and not isinstance(self, conv.DWConv) else 2
        if len(args) > position and (isinstance(args[position], (bool, nn.Module)) or args[position] is None):
            args = (*args[:position], 1, *args[position:])
        super().__init__(c1, c2, *args, **kwargs)


class Conv(_DilationOmitted, conv.Conv):
    """`Conv(c1, c2, k, s, p, g, d, act)`, or without d."""


class DWConv(_DilationOmitted, conv.DWConv):
    """`DWConv(c1, c2, k, s, d, act)`, or without d."""


def autopad(k: Any, p: Any = None, d: int = 1) -> Any:
    """The padding `p`, or the one that keeps the size at stride 1 with kernel `k` and dilation `d`."""
    return conv.same_padding(k, p, d)


def make_divisible(x: float, divisor: int | torch.Tensor) -> int:
    """The smallest multiple of `divisor` that is at least `x`; of strides in a tensor, the largest counts."""
    step = int(divisor.max()) if isinstance(divisor, torch.Tensor) else divisor
    return math.ceil(x / step) * step


def fuse_conv_and_bn(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution with the batch norm behind it merged into it."""
    modes = convolution.training, norm.training
    merged = fuse_conv_bn_eval(convolution.eval(), norm.eval())
    convolution.train(modes[0])
    norm.train(modes[1])
    return merged.requires_grad_(False)


def initialize_weights(model: nn.Module) -> None:
    """Set epsilon and momentum of the batch norms as YOLOv5 does."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-3, 0.03


def copy_attr(a: object, b: object, include: Collection[str] = (), exclude: Collection[str] = ()) -> None:
    """Copy the public attributes of `b` to `a`: those of `include`, if any, without those of `exclude`."""
    for key, value in vars(b).items():
        if not key.startswith("_") and key not in exclude and (not include or key in include):
            setattr(a, key, value)


def check_version(current: str = "0.0.0", minimum: str = "0.0.0", *_: Any, **__: Any) -> bool:
    """Whether a version such as 2.1.0 is at least `minimum`."""

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.split("+")[0].split(".")[:3] if part.isdecimal()]

    return numbers(current) >= numbers(minimum)


def check_requirements(*_: Any, **__: Any) -> bool:
    """Nothing: packages are never installed by the program."""
    return True


def smart_inference_mode() -> Callable:
    """The decorator `torch.inference_mode()`."""
    return torch.inference_mode()


def _same(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator that changes nothing, with or without arguments."""
    return function if callable(function) else _same


HELPERS: dict[str, Any] = {
    "autopad": autopad,
    "make_divisible": make_divisible,
    "fuse_conv_and_bn": fuse_conv_and_bn,
    "initialize_weights": initialize_weights,
    "copy_attr": copy_attr,
    "check_version": check_version,
    "check_requirements": check_requirements,
    "smart_inference_mode": smart_inference_mode,
    "TryExcept": _same,
    "threaded": _same,
    "select_device": select_device,
    "xywh2xyxy": boxes.cxcywh_to_xyxy,
    "xyxy2xywh": boxes.xyxy_to_cxcywh,
    "LOGGER": logging.getLogger("graftdet.plugins"),
    "TORCH_1_10": True,
    "SiLU": nn.SiLU,
    "Hardswish": nn.Hardswish,
    "Mish": nn.Mish,
}
"""Helper functions and layers, by their published names."""

OWN_CLASSES: dict[str, type] = {
    "Conv": Conv,
    "DWConv": DWConv,
    "TransformerLayer": TransformerLayer,
    "TransformerBlock": TransformerBlock,
}
"""Classes that are no blocks of the registry, or take further arguments."""

IMPORTED: dict[str, tuple[Any, str]] = {
    "torch": (torch, "import torch"),
    "nn": (nn, "from torch import nn"),
    "F": (F, "import torch.nn.functional as F"),
    "math": (math, "import math"),
    "np": (np, "import numpy as np"),
    "Path": (Path, "from pathlib import Path"),
    "copy": (copy, "import copy"),
    "deepcopy": (copy.deepcopy, "from copy import deepcopy"),
    "warnings": (warnings, "import warnings"),
    "Tensor": (torch.Tensor, "from torch import Tensor"),
    "Optional": (typing.Optional, "from typing import Optional"),
    "List": (list, "from typing import List"),
    "partial": (functools.partial, "from functools import partial"),
    "trunc_normal_": (nn.init.trunc_normal_, "from torch.nn.init import trunc_normal_"),
    "Parameter": (nn.Parameter, "from torch.nn import Parameter"),
}
"""Names that pasted code uses without importing them -> what a star import gives for them, and the line to write."""


def find_name(name: str) -> Any:
    """What a published name stands for.

    Raises:
        KeyError: the project has nothing of that name.
    """
    if name in OWN_CLASSES:
        return OWN_CLASSES[name]
    if name in HELPERS:
        return HELPERS[name]
    for registry in (BLOCKS, HEADS):
        if name in registry:
            return registry[name]
    return IMPORTED[name][0]


def all_names() -> list[str]:
    """All names of blocks and helpers."""
    blocks = (name for name in (*BLOCKS, *HEADS) if "." not in name)
    return sorted({*blocks, *OWN_CLASSES, *HELPERS}, key=str.lower)


def import_line(name: str) -> str | None:
    """The import that gives pasted code a name, such as `from models.common import Conv`; None for an unknown one."""
    if name in IMPORTED:
        return IMPORTED[name][1]
    return f"from models.common import {name}" if name in all_names() else None
