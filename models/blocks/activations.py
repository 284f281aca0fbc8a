"""Activations by name: a table of torch.nn classes and number arguments, never evaluated.

The default of a model (SiLU, or `activation:` of its YAML) applies while that model is built and nowhere else.
"""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn

from graftdet.utils.errors import UserError, did_you_mean, first_line

TABLE = {
    cls.__name__: cls
    for cls in (
        nn.CELU,
        nn.ELU,
        nn.GELU,
        nn.Hardshrink,
        nn.Hardsigmoid,
        nn.Hardswish,
        nn.Hardtanh,
        nn.Identity,
        nn.LeakyReLU,
        nn.LogSigmoid,
        nn.Mish,
        nn.PReLU,
        nn.ReLU,
        nn.ReLU6,
        nn.RReLU,
        nn.SELU,
        nn.SiLU,
        nn.Sigmoid,
        nn.Softplus,
        nn.Softshrink,
        nn.Softsign,
        nn.Tanh,
        nn.Tanhshrink,
        nn.Threshold,
    )
}
MAX_TEXT = 200  # characters of an activation
_CALL = re.compile(r"^(?:torch\.)?(?:nn\.)?(\w+)\s*(?:\(\s*(.*?)\s*\))?$")
_ARGUMENT = re.compile(r"^(?:(\w+)\s*=\s*)?([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|True|False|'\w+'|\"\w+\")$")
_default: ContextVar[nn.Module | None] = ContextVar("default_activation", default=None)


def parse_activation(text: str) -> nn.Module:
    """Build an activation from its name.

    Args:
        text: such as `nn.LeakyReLU(0.1)`, `ReLU` or `nn.ReLU(inplace=True)`; case does not matter.

    Raises:
        UserError: an unknown name, or an argument that is not a number, True, False or a quoted string.
    """
    if len(text) > MAX_TEXT:
        raise UserError(f"unknown activation '{text[:40]}...' of {len(text)} characters; expected nn.SiLU() or such")
    match = _CALL.match(text.strip())
    by_lower = {name.lower(): name for name in TABLE}
    if not match or match[1].lower() not in by_lower:
        hint = did_you_mean({"swish": "SiLU"}.get(match[1].lower(), match[1]), TABLE) if match else ""
        raise UserError(f"unknown activation '{text}'{hint or '; expected one of torch.nn, such as nn.SiLU()'}")
    args, kwargs = [], {}
    for part in filter(None, re.split(r"\s*,\s*", match[2] or "")):
        found = _ARGUMENT.match(part)
        if not found:
            raise UserError(f"activation '{text}': expected a number argument, got '{part}'")
        name, value = found.groups()
        value = {"True": True, "False": False}.get(value, value)
        if isinstance(value, str):
            value = value[1:-1] if value[0] in "'\"" else float(value) if re.search(r"[.eE]", value) else int(value)
        if name:
            kwargs[name] = value
        else:
            args.append(value)
    try:
        return TABLE[by_lower[match[1].lower()]](*args, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"activation '{text}': {error}") from None


def parse_default(text: str) -> nn.Module:
    """Build the default activation of a model.

    Args:
        text: its name, as in `activation: nn.LeakyReLU(0.1)`.

    Raises:
        UserError: it is unknown, or cannot run on maps of any width.
    """
    module = parse_activation(text)
    for width in (3, 5):
        try:
            module(torch.zeros(1, width, 1, 1))
        except RuntimeError as error:
            raise UserError(f"'{text}' cannot run on maps of any width: {first_line(error)}") from None
    return module


def is_activation(value: object) -> bool:
    """Whether `value` is text that names an activation."""
    try:
        return isinstance(value, str) and parse_activation(value) is not None
    except UserError:
        return False


def activation(act: bool | str | nn.Module | type[nn.Module] | None = True) -> nn.Module:
    """Return a new activation module.

    Args:
        act: True for the model's default, False or None for none (an identity), a name, a module or its class.

    Raises:
        UserError: anything else, or an unknown name.
    """
    if act is True:
        default = _default.get()
        return nn.SiLU(inplace=True) if default is None else copy.deepcopy(default)
    if act is False or act is None:
        return nn.Identity()
    if isinstance(act, str):
        return parse_activation(act)
    if isinstance(act, nn.Module):
        return copy.deepcopy(act)
    if isinstance(act, type) and issubclass(act, nn.Module):
        return act()
    raise UserError(f"expected an activation (true, false or a name such as nn.ReLU()), got {act!r}")


@contextmanager
def default_activation(text: str | None) -> Iterator[None]:
    """Within the context, `activation(True)` returns what `text` names (None: SiLU), see `parse_default`."""
    token = _default.set(None if text is None else parse_default(text))
    try:
        yield
    finally:
        _default.reset(token)
