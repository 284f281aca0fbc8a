"""The module that an exported file computes."""

import copy
from typing import Any

import torch
from torch import nn

from graftdet.models.backends import ExportOptions
from graftdet.models.backends.layouts.own_outputs import NAMES
from graftdet.models.backends.tracing.nms import select
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.utils.boxes import cxcywh_to_xyxy


class ExportModule(nn.Module):
    """A fused float32 copy of a model on the CPU, from images to the outputs of a file.

    Args:
        model: the model to copy.
        options: where the graph ends.
        as_matmul: compute the last convolutions as matrix products, where the head can.
    """

    def __init__(self, model: DetectionModel, options: ExportOptions | None = None, as_matmul: bool = False):
        super().__init__()
        self.detector = copy.deepcopy(model).cpu().float().fuse().requires_grad_(False)
        for tensor in (*self.detector.parameters(), *self.detector.buffers()):
            # some converters compute wrong numbers from weights that are stored channels last
            tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
        self.options = options or ExportOptions()
        self.as_matmul = as_matmul
        self.eval()

    def forward(self, images: torch.Tensor) -> Any:
        """Images (B, C, H, W) in 0..1 -> the outputs named by `output_names`, a tensor or a tuple.

        decoded: (B, N, 5 + nc), cx, cy, w, h in pixels, objectness, class probabilities. split: boxes (B, N, 4) xyxy in
        pixels, scores (B, N, nc). nms: boxes (B, M, 4), scores (B, M), classes (B, M), count (B,). raw: maps per level.
        """
        head, maps, kind = self.detector.head, self.detector.head_inputs(images), self.options.output
        if kind == "raw":
            return tuple(self._raw(y) for y in head.export_maps(maps))
        rows = head.export_outputs(maps, self.as_matmul)
        if kind == "decoded":
            return rows
        boxes = cxcywh_to_xyxy(rows[..., :4])
        scores = rows[..., 4:5] * rows[..., 5:]
        if kind == "split":
            return boxes, scores
        return select(boxes, scores, self.options.conf, self.options.iou, self.options.max_det)

    def _raw(self, y: torch.Tensor) -> torch.Tensor:
        """(B, A channels, H, W), as it is or as cells (B, A, H W, channels)."""
        if self.options.raw_layout == "maps":
            return y
        anchors = self.detector.head.num_anchors
        return y.view(y.shape[0], anchors, y.shape[1] // anchors, -1).transpose(2, 3)

    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        if self.options.output == "raw":
            return [f"output{level}" for level in range(len(self.detector.head.strides))]
        return list(NAMES[self.options.output])

    def dynamic_axes(self) -> dict[str, dict[int, str]] | None:
        """Names of the axes that are free; None with a fixed size."""
        if not self.options.dynamic:
            return None
        axes: dict[str, dict[int, str]] = {"images": {0: "batch", 2: "height", 3: "width"}}
        for name in self.output_names():
            rows = {0: "batch"} | ({} if name == "count" else {1: "rows"})
            is_map = self.options.output == "raw" and self.options.raw_layout == "maps"
            maps = {0: "batch", 2: f"height_{name}", 3: f"width_{name}"} if is_map else {0: "batch", 2: f"cells_{name}"}
            axes[name] = maps if self.options.output == "raw" else rows
        return axes
