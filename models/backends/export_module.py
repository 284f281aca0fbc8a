"""The module that an exported file computes."""

import copy

import torch
from torch import nn

from graftdet.models.graph.detection_model import DetectionModel


class ExportModule(nn.Module):
    """A fused float32 copy of a model on the CPU: images (B, C, H, W) in 0..1 -> predictions (B, N, 5 + nc).

    Args:
        model: the model to copy.
        as_matmul: compute the last convolutions as matrix products, where the head can.
    """

    def __init__(self, model: DetectionModel, as_matmul: bool = False):
        super().__init__()
        self.detector = copy.deepcopy(model).cpu().float().fuse().requires_grad_(False)
        for tensor in (*self.detector.parameters(), *self.detector.buffers()):
            # some converters compute wrong numbers from weights that are stored channels last
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
        self.as_matmul = as_matmul
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W) in 0..1 -> (B, N, 5 + nc): cx, cy, w, h in pixels, objectness, class probabilities."""
        return self.detector.head.export_outputs(self.detector.head_inputs(images), self.as_matmul)
