"""Colour jitter of whole batches on the device that trains: what the loader's CPU cores need not do."""

import torch


def pictures_on(batch: dict, device: torch.device) -> torch.Tensor:
    """The pictures of a batch of `graftdet.data.loader`, uint8 (B, 3, H, W) RGB on `device`, in the colours that they are trained in:
    where the loader left the jitter to the device, the batch has "hsv_gains" (B, 3)."""
    images = batch["images"].to(device, non_blocking=True)
    if "hsv_gains" not in batch:
        return images
    return scale_hsv(images, batch["hsv_gains"].to(device, non_blocking=True))


def scale_hsv(images: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Scale hue, saturation and value of pictures uint8 (B, 3, H, W) RGB by `gains` float (B, 3).

    As `graftdet.data.augmentation.transforms.hsv_jitter` does, whole numbers in between included (hue 0..179, saturation 0..255), but for a
    level or two, by which OpenCV rounds otherwise at the end. Hue comes round, saturation and value stop at 255.
    """
    rgb = images.float()
    value, chroma = rgb.amax(1), rgb.amax(1) - rgb.amin(1)  # (B, H, W)
    hue_gain, saturation_gain, value_gain = gains.to(rgb.dtype)[:, :, None, None].unbind(1)  # (B, 1, 1) each
    red, green, blue = rgb.unbind(1)
    hue = torch.where(
        value == red, green - blue, torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
    )
    hue = (_quotient(hue, 30, chroma).remainder_(180) * hue_gain).remainder_(180).floor_().div_(30)  # 0..6
    saturation = (_quotient(chroma, 255, value) * saturation_gain).floor_().clamp_(max=255).div_(255)
    value = (value * value_gain).floor_().clamp_(max=255)
    out = torch.empty_like(images)
    for channel, start in enumerate((5, 3, 1)):  # where on the circle of hues it is at its least (Smith, 1978)
        place = (hue + start).remainder_(6)
        lacks = torch.minimum(place, 4 - place).clamp_(0, 1)
        out[:, channel] = (value - value * saturation * lacks).round_().to(torch.uint8)
    return out


def _quotient(x, full: float, most):
    """full * x / most in whole numbers, as OpenCV rounds it: the share of one in 4096ths first. 0 where `most` is 0."""
    return (x * (full * 4096 / most.clamp(min=1)).round_() + 2048).div_(4096).floor_()
