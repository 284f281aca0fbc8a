"""A model run by torch."""

from typing import Any

import numpy as np
import torch
from torch import nn

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.inference.predictor import Predictor
from graftdet.utils.memory_format import prefer_channels_last
from graftdet.utils.processor import has_bfloat16


class TorchModel(Predictor):
    """A `DetectionModel` fused and ready for inference.

    Args:
        model: the model; fused in place and moved to `device`.
        device: where to run it.
        half: compute in half precision: float16 on CUDA, bfloat16 on CPUs that have it. Boxes are decoded in float32.
        size: longer side of the training images in pixels, where it is known.
        square_letterbox: see `Predictor`.

    Attributes:
        model: the fused `DetectionModel`.
    """

    def __init__(
        self,
        model: DetectionModel,
        device: torch.device,
        half: bool = False,
        size: int | None = None,
        square_letterbox: bool = False,
    ):
        self.device = torch.device(device)
        self._autocast = half and self.device.type == "cpu" and has_bfloat16()
        self.dtype = torch.float16 if half and self.device.type == "cuda" else torch.float32
        self.half = self._autocast or self.dtype == torch.float16
        self.backend = "torch" + " in bfloat16" * self._autocast
        self.model: nn.Module = model.fuse().to(self.device).requires_grad_(False)
        self.layout = prefer_channels_last(self.model, self.device, model.trial_shape, model.model)
        self.model.to(self.dtype)
        self.names = list(model.names)
        self.names_known = self.names != [str(index) for index in range(model.nc)]
        self.stride = model.size_multiple
        self.needs_nms = model.needs_nms
        self.train_size, self.square_letterbox = size or 640, square_letterbox

    @torch.inference_mode()
    def forward(self, images: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """RGB (B, 3, H, W), uint8 0..255 or float 0..1, array or tensor -> boxes (B, N, 4), scores (B, N, nc)."""
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.ascontiguousarray(images))
        scale = 1 / 255 if images.dtype == torch.uint8 else 1
        images = images.to(self.device, non_blocking=True).to(self.dtype) * scale
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast):
            boxes, scores = self.model(images.contiguous(memory_format=self.layout))
        return (boxes.float(), scores.float()) if self._autocast else (boxes, scores)
