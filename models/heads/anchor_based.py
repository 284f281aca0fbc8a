"""Detect: the anchor-based YOLOv5 head, one 1x1 convolution per level."""

import math
from itertools import cycle
from typing import Any

import torch
from torch import nn

from graftdet.models.heads import HEADS
from graftdet.models.heads.base import Head
from graftdet.models.heads.exported_rows import cells_of_rows
from graftdet.models.heads.row_arguments import check_anchor_lists
from graftdet.models.losses.anchor_based import AnchorBasedCriterion
from graftdet.models.losses.criterion import Criterion
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.errors import UserError, did_you_mean
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.text import counted


@HEADS.register(without_anchors="AnchorFreeDetect")
class Detect(Head):
    """Anchor-based head of YOLOv5: boxes as offsets to anchors, one 1x1 convolution per level.

    Args:
        nc: number of classes.
        anchors: one list of [w, h, w, h, ...] in pixels per level, or a number of anchors per level without values:
            placeholders that the automatic anchors replace before training.
        ch: input widths, one per level.

    Source:
        Redmon and Farhadi, YOLOv3, 2018, section 2.1, with the bounded offsets and sizes of YOLOv5.

    Example:
        [[17, 20, 23], 1, Detect, [nc, anchors]]
    """

    def __init__(self, nc=80, anchors=(), ch=()):
        super().__init__(nc)
        self.placeholder_anchors = isinstance(anchors, int)
        levels = _anchors_per_level(anchors, len(ch))
        self.num_anchors = len(levels[0]) // 2
        self.register_buffer("anchors", torch.tensor(levels, dtype=torch.float32).view(len(ch), -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(width, self.num_anchors * (nc + 5), 1) for width in ch)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, A, H, W, 5 + nc): x, y, w, h, objectness, classes."""
        return [self._raw_outputs(conv, x) for conv, x in zip(self.m, maps, strict=True)]

    def _raw_outputs(self, conv: nn.Module, x):
        """Map (B, c, H, W) to raw outputs (B, A, H, W, 5 + nc) of one level."""
        b, _, h, w = x.shape
        return conv(x).view(b, self.num_anchors, -1, h, w).permute(0, 1, 3, 4, 2).contiguous()

    def export_outputs(self, maps: list[torch.Tensor], as_matmul: bool = False) -> torch.Tensor:
        """Rows (B, N, 5 + nc). As matrix products the outputs need no transposition: a tenth faster in OpenVINO."""
        if not as_matmul:
            return super().export_outputs(maps)
        return self.decode_rows([self._matmul_outputs(conv, x) for conv, x in zip(self.m, maps, strict=True)])

    def export_maps(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, A (5 + nc), H, W) before the sigmoid: per anchor x, y, w, h, objectness, classes."""
        return [conv(x) for conv, x in zip(self.m, maps, strict=True)]

    def raw_format(self) -> dict[str, Any]:
        """The anchors, (levels, A, 2) in pixels."""
        strides = torch.tensor(self.strides, device=self.anchors.device).view(-1, 1, 1)
        return {
            "decoder": "anchors",
            "anchors": [level.tolist() for level in (self.anchors * strides).round(decimals=3)],
        }

    def _matmul_outputs(self, conv: nn.Conv2d, x):
        """Map (B, c, H, W) to raw outputs (B, A, H, W, 5 + nc), as `forward`."""
        weights = conv.weight.flatten(1).unflatten(0, (self.num_anchors, -1))  # (A, 5 + nc, c)
        biases = conv.bias.view(self.num_anchors, -1)
        cells = x.permute(0, 2, 3, 1)
        return torch.stack([cells @ matrix.T + bias for matrix, bias in zip(weights, biases, strict=True)], 1)

    def decode_rows(self, raw: list[torch.Tensor]) -> torch.Tensor:
        """Raw outputs to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness and class probabilities.

        xy = (2 sigmoid(y) - 0.5 + cell) stride, wh = (2 sigmoid(y))^2 anchor, as in the published YOLOv5 models.
        """
        rows = torch.cat([y.flatten(1, 3) for y in raw], 1).sigmoid()
        corners, doubled, anchors = self._row_constants(raw)  # (1, N, 2)
        xy, wh = rows[..., :2] * doubled + corners, rows[..., 2:4]
        return torch.cat((xy, wh * wh * anchors, rows[..., 4:]), -1)

    def _row_constants(self, raw: list[torch.Tensor]) -> list[torch.Tensor]:
        """Per row (1, N, 2): half a cell before its cell, two strides and four anchors, in pixels."""
        parts = []
        for y, stride, anchors in zip(raw, self.strides, self.anchors, strict=True):
            _, a, h, w, _ = y.shape
            points, strides = cells_of_rows([(h, w)], [stride], y)
            four = (4 * stride * anchors).to(y.dtype)[:, None].repeat(1, h * w, 1).view(1, -1, 2)
            parts.append(((points - strides).repeat(1, a, 1), (2 * strides).repeat(1, a, 1), four))
        return [torch.cat(level, 1) for level in zip(*parts, strict=True)]

    def decode(self, raw: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw outputs to boxes (B, N, 4) xyxy pixels and scores (B, N, nc), objectness times class."""
        rows = self.decode_rows([y.float() for y in raw])
        return cxcywh_to_xyxy(rows[..., :4]), rows[..., 4:5] * rows[..., 5:]

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (A, 5) of x, y, w, h and objectness, and (A, nc) of the classes, as views."""
        biases = [conv.bias.view(self.num_anchors, -1) for conv in self.m]
        return [(bias[:, :5], bias[:, 5:]) for bias in biases]

    def class_layers(self) -> dict[str, int]:
        """The convolutions, whose outputs per anchor are x, y, w, h, objectness, classes."""
        return {f"m.{level}": 5 for level in range(len(self.m))}

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides, convert the anchors to their units and initialize the biases (Lin et al., 2017, 3.3)."""
        super().set_strides(strides)
        area = self.anchors.prod(-1).mean(-1)
        if (area[-1] - area[0]) * (self.strides[-1] - self.strides[0]) < 0:  # written from large to small
            self.anchors = self.anchors.flip(0)
        self.anchors = self.anchors / torch.tensor(self.strides).view(-1, 1, 1)
        with torch.no_grad():
            for (box, classes), stride in zip(self.output_biases(), cycle(self.strides), strict=False):
                box[:, 4] += math.log(8 / (640 / stride) ** 2)
                classes += math.log(0.6 / (self.nc - 0.99999))

    def set_anchors(self, anchors_pixels: Any) -> None:
        """Replace the anchors by (levels, A, 2) pixels, in the order of the levels.

        Raises:
            ValueError: the shape is another one than that of the present anchors.
        """
        pixels = torch.as_tensor(anchors_pixels, dtype=self.anchors.dtype, device=self.anchors.device)
        if pixels.shape != self.anchors.shape:
            raise ValueError(f"expected anchors of shape {tuple(self.anchors.shape)}, got {tuple(pixels.shape)}")
        self.anchors = pixels / torch.tensor(self.strides, device=pixels.device).view(-1, 1, 1)
        self.placeholder_anchors = False

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> Criterion:
        """The published YOLOv5 loss, its gains scaled by levels, classes and training size."""
        return AnchorBasedCriterion.from_hyperparameters(self.nc, self.anchors, hyperparameters, image_size)


def _anchors_per_level(anchors, levels: int) -> list[list[float]]:
    """The argument `anchors` as one list [w, h, w, h, ...] per level. Raises `UserError`."""
    if isinstance(anchors, str):
        hint = did_you_mean(anchors, ["anchors"]) or "; expected anchors, a number per level or a list per level"
        raise UserError(f"has no anchors: got '{anchors}'{hint}")
    if isinstance(anchors, (bool, float)) or (isinstance(anchors, int) and not 1 <= anchors <= 100):
        raise UserError(f"anchors must be a number per level (1 to 100) or a list per level, got {anchors!r}")
    if isinstance(anchors, int):
        return [list(range(2 * anchors))] * levels
    if not anchors:
        expected = "expected a number per level or a list of [w, h, w, h, ...] per level"
        raise UserError(f"has no anchors; {expected}, or use AnchorFreeDetect, which needs none, instead of Detect")
    check_anchor_lists(anchors)
    if len(anchors) != levels:
        raise UserError(
            f"anchors for {counted(len(anchors), 'level')}, but 'from' names {counted(levels, 'input')}; "
            "the numbers must be equal"
        )
    return anchors
