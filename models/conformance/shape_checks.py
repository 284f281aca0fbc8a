"""Conformance checks of output shapes, and of eval against train mode."""

import copy
import math

import torch
from torch import nn

from graftdet.models.conformance.block_case import SIZE, BlockCase
from graftdet.models.conformance.numerics import (
    CheckFailed,
    failing_at,
    map_each,
    require_equal,
    require_finite,
    run_block,
    run_eval,
)
from graftdet.utils.errors import first_line
from graftdet.utils.text import counted


def one_pixel(case: BlockCase) -> str:
    """1x1 maps in eval mode, and a batch of one in train mode (fails with batch norm after global pooling).

    A block with a stride may require maps that become 1x1 by its stride.
    """
    side = 1
    try:
        require_finite(run_eval(case.build(), case.maps(1, 1, 1)), "1x1 map")
    except Exception as error:
        side = _stride(case)
        if side == 1:
            raise CheckFailed(f"1x1 map in eval mode: {first_line(error)}") from error
        with failing_at(f"{side}x{side} map in eval mode"):
            require_finite(run_eval(case.build(), case.maps(1, side, side)), "small map")
    with failing_at("batch of one in train mode"):
        require_finite(run_block(case.build().train(), case.maps(1, 2 * SIZE, 2 * SIZE)), "batch of one")
    return f"requires maps of at least {side}x{side}" if side > 1 else ""


def _stride(case: BlockCase) -> int:
    """Input cells per cell of the coarsest output map."""
    return max(round(SIZE / min(t.shape[2:])) for t in run_eval(case.build(), case.maps()))


def odd_sizes(case: BlockCase) -> str:
    """Sides that are no multiple of any stride.

    A block with a stride may require multiples of it: image sizes are multiples of the strides of all rows together.
    """
    try:
        _require_sizes(case, (17, 31), (33, 15))
    except CheckFailed:
        stride = _stride(case)
        if stride < 2:
            raise
        _require_sizes(case, (5 * stride, 3 * stride), (stride, 7 * stride))
        return f"requires sides that are multiples of {stride}, which the image size ensures"
    return ""


def _require_sizes(case: BlockCase, *sizes: tuple[int, int]) -> None:
    """Raise `CheckFailed` if a map of one of the sizes is refused, or the size of the output is not as expected."""
    block = case.build()
    usual = run_eval(block, case.maps())
    for height, width in sizes:
        with failing_at(f"{width}x{height} map"):
            for even, odd in zip(usual, run_eval(block, case.maps(2, height, width)), strict=True):
                for side, now, before in ((height, odd.shape[2], even.shape[2]), (width, odd.shape[3], even.shape[3])):
                    exact = side * before / SIZE
                    if not math.floor(exact) <= now <= math.ceil(exact):
                        raise CheckFailed(f"returns {now} for a side of {side}, expected about {exact:g}")


def eval_and_train(case: BlockCase) -> str:
    """Eval mode is repeatable, treats images independently and changes no state; train mode returns the same shapes."""
    block, maps = case.build(), case.maps()
    state = copy.deepcopy(block.state_dict())
    first = run_eval(block, maps, seed=0)
    require_equal(run_eval(block, maps, seed=1), first, "eval mode, second run")
    for index in range(2):
        alone = run_eval(block, map_each(maps, lambda m, i=index: m[i : i + 1]))  # type: ignore[misc]
        require_equal(alone, [t[index : index + 1] for t in first], "eval mode, one image without the other", 1e-4)
    if any(not torch.equal(tensor, state[name]) for name, tensor in block.state_dict().items()):
        raise CheckFailed("eval mode changes weights or buffers")
    train, evaluated = ([tuple(t.shape) for t in tensors] for tensors in (run_block(block.train(), maps), first))
    if train != evaluated:
        raise CheckFailed(f"train mode returns {train}, eval mode {evaluated}")
    return ""


def width_as_declared(case: BlockCase) -> str:
    """The output has as many channels as the row declares, for several widths, also if the row repeats the block."""
    usual = [t.shape[1] for t in run_eval(case.build(), case.maps())]
    if case.call.width is None:
        return f"has no width argument, returns {', '.join(map(str, usual))} channels for {case.width_in}"
    if len(usual) > 1:
        return f"returns several maps, with {', '.join(map(str, usual))} channels"
    name = next(key for key in case.signature.named if key == case.signature.width_out)
    for width in (case.call.width, 8, 24, 40, 64):
        for number in (1, 2) if not isinstance(case.width_in, list) else (1,):
            _require_width(case, name, width, number, usual[0])
    return ""


def _require_width(case: BlockCase, name: str, width: int, number: int, usual: int) -> None:
    """Check one width of the argument `name` in a row of `number` blocks; skip widths that the block refuses."""
    try:
        call = case.call_for(*case.with_argument(name, width), number)
        blocks = [case.block(*call.args, **call.kwargs)]
        blocks += [case.block(*call.repeat_args, **call.repeat_kwargs) for _ in range(call.repeats - 1)]
        outputs = run_eval(nn.Sequential(*blocks), case.maps())
    except Exception as error:
        if width == case.call.width:
            raise CheckFailed(f"number {number}: {first_line(error)}") from error
        return
    returned = outputs[0].shape[1]
    if [t.shape[1] for t in outputs] != [call.width]:
        ignored = returned == usual != call.width and case.width_in == usual
        hint = f" (the input width; '{name}' has no effect)" if ignored else ", number 2" if number > 1 else ""
        raise CheckFailed(f"declares {counted(call.width, 'channel')}, returns {returned}{hint}")
