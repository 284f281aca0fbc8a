"""What a row is checked for, and why it cannot run, in terms of the row."""

import inspect
import math
import re
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd as _Convolution
from torch.nn.modules.conv import _ConvTransposeNd as _Transposed

from graftdet.models.graph.arguments import BlockCall
from graftdet.models.graph.errors import HeadPositionError, RowError, RunError, SizeMismatchError, WidthMismatchError
from graftdet.models.graph.plugins import describe_error
from graftdet.models.graph.shape_inference import PROBE_SIZE
from graftdet.models.heads import HEADS
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.spec.row import IMAGE, Row
from graftdet.utils.errors import first_line
from graftdet.utils.text import counted

_TRANSLATIONS = (  # part of a message of torch -> what it means for a row
    ("is invalid for input of size", "its width, or the size of its input, is not divisible as its arguments require"),
    ("Calculated padded input size", "the input is smaller than the kernel"),
    ("invalid combination of arguments", "an argument is missing or of another type than the layer takes"),
)

_OTHER_WIDTH = re.compile(r"expected input\[.*\] to have (\d+) channels, but got (\d+) channels instead")
_MISMATCHES = ((SizeMismatchError, "size", "is", ""), (WidthMismatchError, "width", "has", " channels"))


def check_head_position(spec: ModelSpec, row: Row, is_head: bool) -> None:
    """Check that heads are the last row, and that the last row is a head.

    Raises:
        HeadPositionError: it is not so for `row`.
    """
    last = spec.rows[-1]
    if is_head and row is not last:
        fix = "remove one of the heads" if last.module in HEADS else f"move it after row {last.index}"
        raise HeadPositionError("a head must be the last row", fix)
    if row is last and not is_head:
        example = "such as [[17, 20, 23], 1, Detect, [nc, anchors]]"
        raise HeadPositionError(f"the last row must be a head ({', '.join(HEADS)})", example)


def check_weights(layer: nn.Module, widths) -> None:
    """Check that no weight is empty; `widths` are the channels that the row reads.

    Raises:
        RowError: one is.
    """
    for name, weight in layer.named_parameters():
        if not isinstance(weight, nn.UninitializedParameter) and weight.numel() == 0:
            shape = "x".join(map(str, weight.shape))
            message = f"leaves no channels inside: weight '{name}' is {shape}; the input width is {widths}"
            raise RowError(message, "is a ratio larger?")


def check_convolutions(layer: nn.Module, repeats: int) -> None:
    """Check for what torch accepts of an empty batch, and refuses or computes wrongly with an image.

    Args:
        layer: the built row.
        repeats: how many blocks it is a stack of.

    Raises:
        RowError: a padding, dilation or output padding is out of range, or a transposed convolution is stacked.
    """
    if repeats > 1 and isinstance(layer[0], _Transposed) and layer[0].stride != layer[1].stride:  # type: ignore[index]
        raise RowError(f"is a transposed convolution with a stride: its number must be 1, got {repeats}")
    for name, conv in layer.named_modules():
        if not isinstance(conv, _Convolution):
            continue
        inner = f" of '{name}'" if name else ""
        values = (conv.padding, conv.dilation, conv.output_padding, conv.stride)
        padding, dilation, more, stride = ([side for side in sides if isinstance(side, int)] for sides in values)
        if min(padding, default=0) < 0:
            raise RowError(f"the padding{inner} must be at least 0, got {min(padding)}")
        if min(dilation, default=1) < 1:
            raise RowError(f"the dilation{inner} must be at least 1, got {min(dilation)}")
        limits = map(max, stride, dilation)  # one of them where a row has a list of one, which torch takes
        if any(not 0 <= side < limit for side, limit in zip(more, limits, strict=False)):
            limit = f"at least 0 and below the stride {max(stride)}"
            raise RowError(f"the output padding{inner} must be {limit}, got {max(more)}")


def divisor_hint(call: BlockCall) -> str:
    """For widths not divisible by a number of groups: the numbers near it that divide them; otherwise empty."""
    groups = next((call.kwargs[key] for key in ("groups", "g", "num_groups", "group") if key in call.kwargs), None)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        return ""
    widths = [call.kwargs.get(call.width_in), call.width]
    common = math.gcd(*(w for w in widths if isinstance(w, int)))
    if common % groups == 0:
        return ""
    divisors = sorted((d for d in range(1, common + 1) if common % d == 0), key=lambda d: abs(d - groups))
    return f"groups that divide the widths, nearest first: {', '.join(map(str, divisors[:3]))}"


def run_error(spec: ModelSpec, row: Row, layer: nn.Module, inputs, error: Exception, joins: bool) -> RunError:
    """Why a row cannot run on what it reads, in sizes or widths where those differ.

    Args:
        spec: the model.
        row: the row.
        layer: the built row.
        inputs: shape (c, h, w) that it reads, or a list of them.
        error: what running raised.
        joins: whether the layer runs on a list of maps instead.
    """
    if not row.joined:
        c, h, w = inputs if not isinstance(inputs, list) else inputs[0]
        source = _source_text(spec, row.sources[0])
        hint = "it joins maps: give 'from' as a list" if joins else ""
        reason = "" if joins else f": {_reason(error)}"  # of a join, torch's own words name no row
        return RunError(f"cannot run on {counted(c, 'channel')} of {w}x{h} from {source}{reason}", hint)
    for kind, name, verb, unit in _MISMATCHES if all(isinstance(shape, tuple) for shape in inputs) else ():
        values = [f"{w}x{h}" if kind is SizeMismatchError else c for c, h, w in inputs]
        other = next((i for i, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            both = [f"{_source_text(spec, row.sources[i])} {verb} {values[i]}{unit}" for i in (0, other)]
            return kind(f"inputs differ in {name}: {' and '.join(both)} at {PROBE_SIZE}x{PROBE_SIZE}")
    hint = "a block that joins takes one list of maps" if _takes_several(layer) else ""
    return RunError(f"cannot join rows {list(row.sources)}: {_reason(error)}", hint)


def failure(layer: nn.Module, maps: Any, error: Exception) -> RunError:
    """Why a row fails while the model runs.

    Args:
        layer: the row.
        maps: what it read: a tensor, or a list of them; also as the only element of a tuple.
        error: what it raised.
    """
    maps = maps[0] if isinstance(maps, tuple) else maps
    shapes = ["x".join(map(str, m.shape)) for m in (maps if isinstance(maps, list) else [maps])]
    return RunError(f"fails on input {', '.join(shapes)}: {describe_error(error, block=layer)}")


def _reason(error: Exception) -> str:
    line = first_line(error)
    if widths := _OTHER_WIDTH.search(line):
        return describe_error(error, f"expects {counted(int(widths[1]), 'channel')}, but reads {widths[2]}")
    return describe_error(error, next((meaning for part, meaning in _TRANSLATIONS if part in line), ""))


def _takes_several(layer: nn.Module) -> bool:
    """Whether `forward` requires several positional arguments."""
    parameters = inspect.signature(layer.forward).parameters.values()
    required = [
        p for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) > 1


def _source_text(spec: ModelSpec, source: int) -> str:
    if source == IMAGE:
        return "the image"
    name = spec.rows[source].name
    return f"row {source} ('{name}')" if name else f"row {source}"
