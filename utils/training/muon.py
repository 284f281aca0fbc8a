"""The Muon optimizer: updates of matrices are orthogonalized, so that all directions have the same length.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; with the scale of Liu et al., "Muon is
Scalable for LLM Training", 2025, section 2.2, which lets it share AdamW's learning rate and weight decay.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan's quintic iteration: singular values converge to 0.7..1.2
MIN_SIDE = 64  # shorter side from which products in bfloat16 are faster


@torch.no_grad()
def orthogonalize(
    matrices: Sequence[torch.Tensor], steps: int = 5, product_type: torch.dtype | None = None
) -> list[torch.Tensor]:
    """Bring all singular values of matrices (rows, columns) near 1 by Newton-Schulz iteration.

    Each step multiplies from the shorter side by a polynomial of x x^T. If one side is at least twice the other, the
    product of these polynomials, a small square matrix, is computed first: equal up to rounding, at about half the
    cost. Matrices with equal shorter sides are computed together.

    Args:
        matrices: The matrices, of one type.
        steps: Number of iterations.
        product_type: Type of the products of large matrices; None: that of `matrices`. In bfloat16 the result is nearer
            to that in float32 than that is to orthogonal matrices: cosine similarity at least 0.998, against 0.93
            (gradients of yolov5n).

    Returns:
        The new matrices, in the type of `matrices`.
    """
    scales = (torch.stack(torch._foreach_norm(list(matrices))) + 1e-7).reciprocal()[:, None, None]
    by_side: dict[int, dict[torch.Size, list[int]]] = {}
    for index, matrix in enumerate(matrices):
        by_side.setdefault(min(matrix.shape), {}).setdefault(matrix.shape, []).append(index)
    results = list(matrices)
    for side, by_shape in by_side.items():
        own_type = product_type if side >= MIN_SIDE else None
        stacks = []
        for shape, indices in by_shape.items():
            x = torch.stack([matrices[i] for i in indices]) * scales[indices]
            stacks.append((x.mT if shape[0] > side else x).to(own_type or x.dtype))
        for (shape, indices), x in zip(by_shape.items(), _orthogonalize_stacks(stacks, steps), strict=True):
            x = x.to(matrices[0].dtype)
            for i, result in zip(indices, (x.mT if shape[0] > side else x).unbind(), strict=True):
                results[i] = result
    return results


def _orthogonalize_stacks(stacks: list[torch.Tensor], steps: int) -> list[torch.Tensor]:
    """Stacks (count, n, m) of matrices with one n and m >= n, whose norms are at most 1."""
    results = [x if x.shape[-1] >= 2 * x.shape[-2] else _iterate(x, steps) for x in stacks]
    wide = [number for number, x in enumerate(stacks) if x.shape[-1] >= 2 * x.shape[-2]]
    # rounded to bfloat16, x x^T lacks small eigenvalues: it is computed again once they have grown
    parts = (min(2, steps), max(steps - 2, 0)) if stacks[0].dtype == torch.bfloat16 else (steps,)
    for part in parts if wide else ():
        grams = torch.cat([_product(results[i], results[i].mT) for i in wide])
        factors = _factors(grams, part).split([len(results[i]) for i in wide])
        for i, factor in zip(wide, factors, strict=True):
            results[i] = _product(factor, results[i])
    return results


def _iterate(x: torch.Tensor, steps: int) -> torch.Tensor:
    for _ in range(steps):
        x = _polynomial(x @ x.mT) @ x
    return x


def _factors(gram: torch.Tensor, steps: int) -> torch.Tensor:
    """The product (..., n, n) of the factors of `steps` steps, for x x^T (..., n, n)."""
    product = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    for step in range(steps):
        factor = _polynomial(gram)
        product = factor if step == 0 else factor @ product
        if step + 1 < steps:
            gram = factor @ gram @ factor  # of the next x: all factors commute, being polynomials of the same matrix
    return product


def _polynomial(gram: torch.Tensor) -> torch.Tensor:
    """The factor (count, n, n) of the next step, for x x^T (count, n, n)."""
    a, b, c = _COEFFICIENTS
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`x @ y` of stacks; that of a single matrix is faster without its first dimension."""
    return (x[0] @ y[0])[None] if len(x) == 1 else x @ y


class Muon(torch.optim.Optimizer):
    """Muon for groups with `orthogonal` set, whose tensors are matrices (shape[0], -1); AdamW for all others.

    `betas[0]` is the momentum of both.

    Attributes:
        product_type: See `orthogonalize`. It is set from outside and no part of the state.
    """

    product_type: torch.dtype | None = None

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "orthogonal": False}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                (self._orthogonal if group["orthogonal"] else self._adam)(group, parameters)
        return loss

    def _orthogonal(self, group, parameters):
        gradients = [p.grad for p in parameters]
        averages = [self._state(p, "momentum") for p in parameters]
        beta = group["betas"][0]
        torch._foreach_lerp_(averages, gradients, 1 - beta)
        nesterov = torch._foreach_lerp(gradients, averages, beta)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        orders = [_order_in_memory(p) for p in parameters]
        permuted = [one.permute(order) for one, order in zip(nesterov, orders, strict=True)]
        updates = orthogonalize([one.flatten(1) for one in permuted], product_type=self.product_type)
        for parameter, update, one, order in zip(parameters, updates, permuted, orders, strict=True):
            scale = 0.2 * max(update.shape) ** 0.5
            update = update.reshape(one.shape).permute(*map(order.index, range(len(order))))
            parameter.sub_(update, alpha=group["lr"] * scale)

    def _adam(self, group, parameters):
        gradients = [p.grad for p in parameters]
        averages = [self._state(p, "average") for p in parameters]
        squares = [self._state(p, "square") for p in parameters]
        beta, beta2 = group["betas"]
        for p in parameters:
            self.state[p]["step"] = self.state[p].get("step", 0) + 1
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(averages, gradients, 1 - beta)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        steps = [self.state[p]["step"] for p in parameters]
        denominators = torch._foreach_div(squares, [1 - beta2**step for step in steps])
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_addcdiv_(parameters, averages, denominators, [-group["lr"] / (1 - beta**step) for step in steps])

    def _state(self, parameter, name: str):
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]


def _order_in_memory(tensor: torch.Tensor) -> list[int]:
    """Dimensions in the order of memory after the first one, whose flattening then copies nothing.

    The order of columns changes no direction of an orthogonalized matrix.
    """
    strides = tensor.stride()
    return [0, *sorted(range(1, tensor.ndim), key=lambda dimension: -strides[dimension])]
