"""Do the batch norms of loaded weights fit the connections between the layers of a row?"""

import torch
from torch import nn

from graftdet.models.graph.shape_inference import evaluating

SIDE, NUM_IMAGES = 128, 8  # of the noise images
MAX_DEVIATION = 0.5  # standard deviations: 0.25 and 0.28 for weights in their own network, 0.7 in another one
# Publishers scale images to 0..1, normalize them by ImageNet's mean and deviation, or subtract the mean from 0..255.
_INPUTS = ((1.0, 0.0), (1 / 0.226, 0.449), (255.0, 0.449))  # factor, and mean of the images in 0..1


@torch.no_grad()
def measure_deviation(layer: nn.Module, channels: int) -> float:
    """How far what batch norms read is from their running means, for the input scaling with which it is nearest.

    Weights that were trained with other connections between layers, such as another channel shuffle, fit in name and
    shape, but the maps in the network then have other means than those that the batch norms have recorded.

    Args:
        layer: a row that reads images, with loaded weights.
        channels: channels of the images.

    Returns:
        The median over batch norms and channels, in standard deviations; 0 without batch norms. Maps come from noise
        images, so that 0.3 is usual.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        coarse = nn.functional.interpolate(torch.rand(NUM_IMAGES, channels, 6, 6), (SIDE, SIDE), mode="bilinear")
        images = 0.8 * coarse + 0.2 * torch.rand(NUM_IMAGES, channels, SIDE, SIDE)  # (B, C, H, W) in 0..1
    deviations: list[torch.Tensor] = []

    def record(batch_norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        assert batch_norm.running_mean is not None and batch_norm.running_var is not None
        difference = inputs[0].mean((0, 2, 3)) - batch_norm.running_mean
        deviations.append((difference.abs() / batch_norm.running_var.clamp(min=1e-6).sqrt()).median())

    hooks = [m.register_forward_pre_hook(record) for m in layer.modules() if isinstance(m, nn.BatchNorm2d)]
    results = []
    try:
        with evaluating(layer):
            for factor, mean in _INPUTS if hooks else ():
                deviations.clear()
                layer(((images - mean) * factor).to(next(layer.parameters())))
                results.append(float(torch.stack(deviations).median()))
    finally:
        for hook in hooks:
            hook.remove()
    return min(results, default=0.0)
