"""Whether a model has no problem at all, by arithmetic: the pass over its rows, with the stand-in for torch."""

import math

from graftdet.models.arithmetic.loader import loader
from graftdet.models.arithmetic.module import Module
from graftdet.models.arithmetic.row_costs import LOCK, RowCost, level_strides, row_costs
from graftdet.models.arithmetic.tensor import Unsupported
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.utils.errors import UserError
from graftdet.utils.untrusted.limits import MAX_MAP, MAX_MODEL_BYTES, limit

_BYTES = 4  # of a float32 parameter


def is_faultless(spec: ModelSpec, nc: int | None = None) -> bool:
    """Whether a model has neither errors nor warnings.

    Args:
        spec: the model, which was parsed without problems.
        nc: number of classes; None takes the file's.

    Returns:
        True if it has none. False if it has one, or if its code uses something of torch that the arithmetic lacks.
    """
    spec = spec.with_classes(nc)
    if spec.nc is None or not spec.rows:
        return False
    with LOCK:
        Module.restart_count()
        try:
            costs = row_costs(spec)
            return not _is_large(costs) and not _has_warnings(spec) and level_strides(spec, costs) is not None
        except (Unsupported, UserError):
            return False


def _is_large(costs: list[RowCost | None]) -> bool:
    """Whether weights or a map are larger than is allowed."""
    known = [cost for cost in costs if cost]
    shapes = [one for cost in known for one in (cost.shape if isinstance(cost.shape, list) else [cost.shape])]
    weights = sum(cost.params for cost in known) * _BYTES
    return weights > limit(MAX_MODEL_BYTES) or any(math.prod(shape) > limit(MAX_MAP) for shape in shapes)


def _has_warnings(spec: ModelSpec) -> bool:
    """Whether the pass over the rows finds an error or a warning."""
    lint = "graftdet.models.lint"
    found = loader().load(f"{lint}.propagation").Propagation(spec)
    return bool(
        found.problems
        or found.warnings
        or loader().load("graftdet.models.graph.errors").ignored_key_problems(spec)
        or loader().load(f"{lint}.graph_warnings").graph_warnings(spec, found, [])
    )
