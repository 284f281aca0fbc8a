"""Arguments that a block accepts and that are probably not meant."""

from torch import nn

from graftdet.models.graph.arguments import BlockCall
from graftdet.models.graph.modules import Module
from graftdet.models.graph.signatures import plain_name, read_signature
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import Row
from graftdet.utils.text import counted

_REDUCTIONS = ("reduction", "reductionratio", "ratio", "r", "squeeze", "squeezefactor")


def argument_warnings(spec: ModelSpec, row: Row, module: Module, call: BlockCall, inputs) -> list[tuple[str, str]]:
    """Find arguments of a row that are probably not meant.

    Args:
        spec: the model.
        row: the row.
        module: its class.
        call: the arguments that it was built with.
        inputs: shape (c, h, w) that it reads, or a list of them.

    Returns:
        Message and hint of each.
    """
    width_in = inputs[0] if isinstance(inputs, tuple) else None
    found = _norm_width(spec, row, module, width_in)
    for name, parameter in read_signature(module.block, module.options).named.items():
        value, default = call.kwargs.get(name, parameter.default), parameter.default
        if isinstance(default, bool) and isinstance(value, (int, float)) and value not in (0, 1):
            found.append((f"argument '{name}' is {value}", "expected true or false"))
        elif isinstance(value, bool) and isinstance(default, int) and not isinstance(default, bool):
            found.append((f"argument '{name}' is {value}", f"expected a number such as {default}"))
        elif plain_name(name) in _REDUCTIONS and isinstance(value, int) and value > 1 and (width_in or 0) % value:
            nearest = min((d for d in range(1, width_in + 1) if width_in % d == 0), key=lambda d: abs(d - value))
            found.append((f"{width_in} channels are not divisible by {name} {value}", f"{nearest} divides them"))
    return found


def _norm_width(spec: ModelSpec, row: Row, module: Module, width_in: int | None) -> list[tuple[str, str]]:
    """Published rows of batch norms may repeat the width, which is filled in: it should be that of the input."""
    position = {nn.BatchNorm2d: 0, nn.GroupNorm: 1}.get(module.block)
    if position is None or len(row.args) <= position or width_in is None:
        return []
    width = row.args[position]
    if not isinstance(width, int) or width_in in (width, spec.scale_width(width)):
        return []
    return [(f"is written for {counted(width, 'channel')}, but reads {width_in}, which are used", "")]
