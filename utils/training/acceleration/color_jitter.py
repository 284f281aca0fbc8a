"""Color jitter of whole batches on the training device, which saves the loader that work on the CPU."""

from typing import Any

import torch


def images_on_device(batch: dict[str, Any], device: torch.device | str) -> torch.Tensor:
    """Move the images of a batch to `device` and apply the color jitter that the loader deferred.

    Args:
        batch: A batch of `graftdet.data.loader`; with "hsv_gains" (B, 3) where the jitter is deferred.
        device: The training device.

    Returns:
        Images uint8 (B, 3, H, W) RGB.
    """
    images = batch["images"].to(device, non_blocking=True)
    if "hsv_gains" not in batch:
        return images
    return scale_hsv(images, batch["hsv_gains"].to(device, non_blocking=True))


def scale_hsv(images: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Scale hue, saturation and value; hue wraps around, saturation and value are clipped at 255.

    Equal to `graftdet.data.augmentation.transforms.hsv_jitter`, including OpenCV's integer HSV (hue 0..179, saturation
    0..255), except for one or two gray levels, because OpenCV rounds differently at the end. HSV to RGB follows Smith,
    "Color gamut transform pairs", 1978.

    Args:
        images: uint8 (B, 3, H, W) RGB.
        gains: float (B, 3), factors of hue, saturation and value.

    Returns:
        Images uint8 (B, 3, H, W) RGB.
    """
    rgb = images.float()
    value, chroma = rgb.amax(1), rgb.amax(1) - rgb.amin(1)  # (B, H, W)
    hue_gain, saturation_gain, value_gain = gains.to(rgb.dtype)[:, :, None, None].unbind(1)  # (B, 1, 1) each
    red, green, blue = rgb.unbind(1)
    hue = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    )
    hue = (_integer_quotient(hue, 30, chroma).remainder_(180) * hue_gain).remainder_(180).floor_().div_(30)  # 0..6
    saturation = (_integer_quotient(chroma, 255, value) * saturation_gain).floor_().clamp_(max=255).div_(255)
    value = (value * value_gain).floor_().clamp_(max=255)
    out = torch.empty_like(images)
    for channel, offset in enumerate((5, 3, 1)):  # sector of the hue circle in which the channel starts at its minimum
        position = (hue + offset).remainder_(6)
        deficit = torch.minimum(position, 4 - position).clamp_(0, 1)
        out[:, channel] = (value - value * saturation * deficit).round_().to(torch.uint8)
    return out


def _integer_quotient(x: torch.Tensor, scale: float, divisor: torch.Tensor) -> torch.Tensor:
    """Scale * x / divisor as OpenCV rounds it: scale / divisor in units of 1/4096 first. 0 where `divisor` is 0."""
    return (x * (scale * 4096 / divisor.clamp(min=1)).round_() + 2048).div_(4096).floor_()
