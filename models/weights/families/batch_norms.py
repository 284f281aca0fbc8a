"""Batch norms that an exported file has merged into the convolutions: their statistics are found again from images."""

from collections.abc import Collection, Iterable

import torch
from torch import nn


@torch.no_grad()
def restore_batch_norms(model: nn.Module, loaded: Collection[str], batches: Iterable[torch.Tensor]) -> int:
    """Give batch norms the statistics of what they read, in place; the output in eval mode stays the same.

    A merged batch norm is an identity with a bias. In train mode it would normalize by the statistics of the batch,
    which the scale and the bias know nothing of.

    Args:
        model: a model whose weights were loaded.
        loaded: names of the tensors that came from the file; batch norms of other rows stay as they are.
        batches: images (B, C, H, W) in 0..1 as in training.

    Returns:
        The number of batch norms that were restored.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and f"{name}.weight" in loaded
    }
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in layers}

    def record(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].double()  # (B, c, H, W)
            sums[name].append(torch.stack((x.mean((0, 2, 3)), x.square().mean((0, 2, 3)))))

        return hook

    hooks = [module.register_forward_pre_hook(record(name)) for name, module in layers.items()]
    training, device = model.training, next(model.parameters()).device
    try:
        model.eval()
        for images in batches:
            model.raw_outputs(images.to(device))  # type: ignore[operator]
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    restored = {name: torch.stack(values).mean(0) for name, values in sums.items() if values}
    for name, (mean, square) in restored.items():
        _set_statistics(layers[name], mean, (square - mean.square()).clamp(min=0))
    return len(restored)


def _set_statistics(layer: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Replace the statistics; weight and bias change so that the output in eval mode does not."""
    assert layer.running_mean is not None and layer.running_var is not None
    scale = layer.weight.double() / (layer.running_var.double() + layer.eps).sqrt()
    layer.bias.copy_(layer.bias + scale * (mean - layer.running_mean.double()))
    layer.weight.copy_(scale * (variance + layer.eps).sqrt())
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
