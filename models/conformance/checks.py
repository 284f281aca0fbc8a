"""The table of conformance checks, and running all of them on a block."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from graftdet.models.conformance.block_case import BlockCase
from graftdet.models.conformance.export_checks import fuse, onnx_dynamic_batch, tracing
from graftdet.models.conformance.numerics import CheckFailed
from graftdet.models.conformance.shape_checks import eval_and_train, odd_sizes, one_pixel, width_as_declared
from graftdet.models.conformance.training_checks import (
    complete_gradients,
    deep_copy,
    deterministic_backward,
    finite_gradients,
    half_precision,
    state_dict_round_trip,
)
from graftdet.utils.errors import first_line

Check = Callable[[BlockCase], str]
"""Raises an error if the block does not pass (`CheckFailed` with the reason), else returns a remark or ""."""

CHECKS: dict[str, Check] = {  # title -> check
    "batch of one, 1x1 maps": one_pixel,
    "odd sizes": odd_sizes,
    "eval and train": eval_and_train,
    "width as declared": width_as_declared,
    "deepcopy": deep_copy,
    "float16 and bfloat16": half_precision,
    "deterministic backward": deterministic_backward,
    "complete gradients": complete_gradients,
    "finite gradients": finite_gradients,
    "state dict round trip": state_dict_round_trip,
    "fuse": fuse,
    "tracing": tracing,
    "ONNX with dynamic batch": onnx_dynamic_batch,
}


class CheckResult(NamedTuple):
    """Result of a check: a remark, or the reason if it did not pass."""

    passed: bool
    text: str


def run_checks(cases: Iterable[BlockCase]) -> dict[str, CheckResult]:
    """Run all checks.

    Args:
        cases: Ways to build a block.

    Returns:
        Result by title of the check; a check passes if all cases pass.
    """
    cases, threads = list(cases), torch.get_num_threads()
    torch.set_num_threads(1)  # faster for maps this small
    try:
        return {title: _run_check(check, cases) for title, check in CHECKS.items()}
    finally:
        torch.set_num_threads(threads)


def _run_check(check: Check, cases: list[BlockCase]) -> CheckResult:
    remark = ""
    for case in cases:
        try:
            text = check(case)
            remark = remark or text
        except Exception as error:  # CheckFailed, or any error of the block
            kind = "" if isinstance(error, CheckFailed) else f"{type(error).__name__}: "
            return CheckResult(False, f"{kind}{first_line(error)}" + (f"; with {case}" if len(cases) > 1 else ""))
    return CheckResult(True, remark)
