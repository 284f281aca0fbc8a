"""Parameters that the first batch trains nothing of: a block cuts the gradient, or does not use them."""

import logging

from torch import nn

from graftdet.utils.distributed import unwrap

logger = logging.getLogger(__name__)

MAX_LISTED = 3


def parameters_without_gradient(model: nn.Module) -> list[str]:
    """Names of the trainable parameters that received no gradient, in order; those of frozen rows are not counted.

    Args:
        model: The model after a backward pass, before its gradients are set to zero.
    """
    return [name for name, p in unwrap(model).named_parameters() if p.requires_grad and p.grad is None]


def warn_of_missing_gradients(model: nn.Module) -> None:
    """Log a warning that names the parameters without gradient and the rows that they belong to, if there are any."""
    names = parameters_without_gradient(model)
    if not names:
        return
    count = sum(parameter.requires_grad for parameter in unwrap(model).parameters())
    rows = sorted({int(parts[1]) for name in names if len(parts := name.split(".")) > 2 and parts[1].isdecimal()})
    where = f", in row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}" if rows else ""
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    logger.warning(
        "%d of %d trainable parameters received no gradient in the first batch%s (%s); they are not trained: a block "
        "after them cuts the gradient (detach, no_grad, .data, argmax), or their own block does not use them; "
        "check blocks with `python -m models conform`",
        len(names),
        count,
        where,
        listed,
    )
