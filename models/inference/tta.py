"""Test-time augmentation: one model looks at several versions of a picture."""

import numpy as np
from graftdet.utils.images.letterbox import GRAY

SCALES = (1.0, 0.83, 0.67)
FLIPPED = (False, True, False)
FILL = GRAY / 255


class Augmented:
    """A model that looks at each picture three times: as it is, at 0.83 mirrored left to right, and at 0.67.

    Wraps `model` (images (B, 3, H, W) -> boxes (B, N, 4) xyxy pixels, scores (B, N, nc), tensors or arrays) and is
    called the same way; the boxes of all looks come back along N in the frame of the picture given, for one NMS over
    all. `stride` (default: the model's largest, or 32) is what a smaller look's sides are filled up to a multiple of.
    """

    def __init__(self, model, stride: int | None = None, scales=SCALES, flipped=FLIPPED):
        self.model = model
        self.stride = stride or largest_stride(model)
        self.looks = tuple(zip(scales, flipped, strict=True))
        self.names = getattr(model, "names", None)

    def __call__(self, images):
        import torch

        height, width = images.shape[2:]
        all_boxes, all_scores = [], []
        for scale, flipped in self.looks:
            look, gains = self._look(images, scale, flipped)
            boxes, scores = (torch.as_tensor(output) for output in self.model(look))
            boxes = boxes.float() / boxes.new_tensor([*gains, *gains], dtype=torch.float32)
            if flipped:
                x1, y1, x2, y2 = boxes.unbind(-1)
                boxes = torch.stack((width - x2, y1, width - x1, y2), dim=-1)
            all_boxes.append(boxes)
            all_scores.append(scores.float())
        return torch.cat(all_boxes, 1), torch.cat(all_scores, 1)

    def _look(self, images, scale: float, flipped: bool):
        """The pictures mirrored and scaled, filled right and below; with their gains in x and y."""
        import torch
        from torch.nn import functional

        images = torch.as_tensor(images)
        height, width = images.shape[2:]
        if flipped:
            images = images.flip(3)
        if scale == 1:
            return images, (1.0, 1.0)
        new_height, new_width = max(round(height * scale), 1), max(round(width * scale), 1)
        images = functional.interpolate(images, (new_height, new_width), mode="bilinear", align_corners=False)
        right, below = -new_width % self.stride, -new_height % self.stride
        return functional.pad(images, (0, right, 0, below), value=FILL), (new_width / width, new_height / height)


def largest_stride(model) -> int:
    """The largest of a model's strides (a number, a list or a tensor); 32 when it does not say."""
    stride = getattr(model, "stride", None)
    if stride is None:
        return 32
    return int(np.max(stride.tolist() if hasattr(stride, "tolist") else stride))
