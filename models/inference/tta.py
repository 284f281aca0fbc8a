"""Test-time augmentation: one model runs on several views of each image."""

from collections.abc import Sequence
from typing import Any

from graftdet.utils.images.letterbox import GRAY

SCALES = (1.0, 0.83, 0.67)
FLIPS = (False, True, False)
PADDING = GRAY / 255


class AugmentedModel:
    """A model that runs on three views of each image: unchanged, scaled by 0.83 and flipped, scaled by 0.67.

    It is called like the model. The boxes of all views are returned together, in pixels of the given image, for one
    NMS.

    Args:
        model: images (B, 3, H, W) -> boxes (B, N, 4) xyxy pixels, scores (B, N, nc), tensors or arrays.
        stride: sides of scaled views are padded to multiples of it (default: that of the model).
        scales: scale of each view.
        flips: whether each view is flipped left to right.
    """

    needs_nms = True  # each view finds the same objects

    def __init__(
        self,
        model: Any,
        stride: int | None = None,
        scales: Sequence[float] = SCALES,
        flips: Sequence[bool] = FLIPS,
    ):
        self.model = model
        self.stride = int(stride or model.stride)
        self.views = tuple(zip(scales, flips, strict=True))
        self.names = model.names

    def __call__(self, images: Any) -> tuple[Any, Any]:
        """Images (B, 3, H, W) in 0..1 -> boxes (B, sum of N, 4) xyxy pixels, scores (B, sum of N, nc), tensors."""
        import torch

        _height, width = images.shape[2:]
        all_boxes, all_scores = [], []
        for scale, flip in self.views:
            view, gains = self._make_view(images, scale, flip)
            boxes, scores = (torch.as_tensor(output) for output in self.model(view))
            boxes = boxes.float() / boxes.new_tensor([*gains, *gains], dtype=torch.float32)
            if flip:
                x1, y1, x2, y2 = boxes.unbind(-1)
                boxes = torch.stack((width - x2, y1, width - x1, y2), dim=-1)
            all_boxes.append(boxes)
            all_scores.append(scores.float())
        return torch.cat(all_boxes, 1), torch.cat(all_scores, 1)

    def _make_view(self, images, scale: float, flip: bool):
        """Images flipped, scaled and padded at the right and bottom; and their gains in x and y."""
        import torch
        from torch.nn import functional

        images = torch.as_tensor(images)
        height, width = images.shape[2:]
        if flip:
            images = images.flip(3)
        if scale == 1:
            return images, (1.0, 1.0)
        new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
        images = functional.interpolate(images, (new_height, new_width), mode="bilinear", align_corners=False)
        right, bottom = -new_width % self.stride, -new_height % self.stride
        return functional.pad(images, (0, right, 0, bottom), value=PADDING), (new_width / width, new_height / height)
