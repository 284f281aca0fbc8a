"""BlazeFaceHead, the head of BlazeFace."""

from typing import Any

import torch
from torch import nn

from graftdet.models.heads import HEADS
from graftdet.models.heads.base import Head, prior_bias
from graftdet.models.heads.exported_rows import cells_of_rows, with_objectness
from graftdet.models.heads.row_arguments import check_integer
from graftdet.models.losses.blazeface import BlazeFaceCriterion, flatten_cells
from graftdet.utils.boxes import cxcywh_to_xyxy
from graftdet.utils.errors import UserError
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.text import counted

_SIDES = (2.0, 8.0)  # initial sides of the first and the last box of a cell, in strides


@HEADS.register()
class BlazeFaceHead(Head):
    """Several boxes per cell, as offsets from its center and sizes in pixels, by one convolution per level.

    Raw outputs are a list of (B, A, H, W, 4 + nc): x, y, w, h in pixels, classes.

    Args:
        nc: number of classes.
        boxes: number of boxes per cell, for all levels or one per level.
        ch: input widths, one per level.

    Source:
        Bazarevsky et al., BlazeFace, 2019, section 3.3, without the landmarks.

    Example:
        [[17, 20, 23], 1, BlazeFaceHead, [nc, 2]]
    """

    def __init__(self, nc=1, boxes=1, ch=()):
        super().__init__(nc)
        boxes = [boxes] * len(ch) if isinstance(boxes, int) else boxes
        if not isinstance(boxes, (list, tuple)) or len(boxes) != len(ch):
            raise UserError(f"boxes: expected a list of {counted(len(ch), 'number')}, one per level, got {boxes!r}")
        for number in boxes:
            check_integer(number, "boxes, the number of boxes per cell,", 1, high=100)
        self.boxes, self.num_anchors = tuple(boxes), max(boxes)
        self.classifiers = nn.ModuleList(nn.Conv2d(c, a * nc, 1) for c, a in zip(ch, boxes, strict=True))
        self.regressors = nn.ModuleList(nn.Conv2d(c, a * 4, 1) for c, a in zip(ch, boxes, strict=True))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, c, H, W), one per level, to raw outputs (B, A, H, W, 4 + nc)."""
        return [self._level(level, x) for level, x in enumerate(maps)]

    def _level(self, level: int, x):
        outputs = [
            layer[level](x).unflatten(1, (self.boxes[level], -1)).permute(0, 1, 3, 4, 2)
            for layer in (self.regressors, self.classifiers)
        ]
        return torch.cat(outputs, -1)

    def decode(self, raw: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw outputs to boxes (B, N, 4) xyxy pixels and scores (B, N, nc)."""
        boxes, classes, _, _ = flatten_cells([y.float() for y in raw], self.strides)
        return cxcywh_to_xyxy(boxes), classes.sigmoid()

    def decode_rows(self, raw: list[torch.Tensor]) -> torch.Tensor:
        """Raw outputs to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness and classes as in `with_objectness`."""
        rows = torch.cat([y.flatten(1, 3) for y in raw], 1)  # (B, N, 4 + nc)
        cells = [
            cells_of_rows([(y.shape[2], y.shape[3])], [stride], y)[0].repeat(1, y.shape[1], 1)
            for y, stride in zip(raw, self.strides, strict=True)
        ]
        boxes = torch.cat((rows[..., :2] + torch.cat(cells, 1), rows[..., 2:4]), -1)
        return with_objectness(boxes, rows[..., 4:].sigmoid())

    def export_maps(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps (B, A (4 + nc), H, W), per box of a cell x, y, w, h, classes."""
        return [y.permute(0, 1, 4, 2, 3).flatten(1, 2) for y in self(maps)]

    def raw_format(self) -> dict[str, Any]:
        """The number of boxes per cell of each level."""
        return {"decoder": "center-offsets", "boxes": list(self.boxes)}

    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Per level the biases (4 A,) of the boxes and (A nc,) of the classes."""
        return [(box.bias, cls.bias) for box, cls in zip(self.regressors, self.classifiers, strict=True)]

    def class_layers(self) -> dict[str, int]:
        """The classifiers."""
        return {f"classifiers.{level}": 0 for level in range(len(self.classifiers))}

    def layer_anchors(self, layer: str) -> int:
        """Boxes per cell of the level of a classifier."""
        return self.boxes[int(layer.rpartition(".")[2])]

    def set_strides(self, strides: list[float]) -> None:
        """Set the strides and initialize the biases: rare classes, boxes of several sizes around the cell."""
        super().set_strides(strides)
        with torch.no_grad():
            for stride, (box, classes), number in zip(strides, self.output_biases(), self.boxes, strict=True):
                sides = torch.linspace(*_SIDES, number) * stride
                box.view(number, 4).copy_(torch.stack((0 * sides, 0 * sides, sides, sides), 1))
                classes.fill_(prior_bias())

    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> BlazeFaceCriterion:
        """Varifocal and smooth L1 losses, assigned by SimOTA."""
        return BlazeFaceCriterion(self.strides)
