"""The anchor-based YOLOv5 head: one 1x1 convolution a level."""

import math

import torch
from graftdet.models.heads import HEADS
from graftdet.models.heads.argument_checks import check_anchors, check_classes
from graftdet.utils.errors import UserError, did_you_mean
from torch import nn


@HEADS.register(without_anchors="AnchorFreeDetect")
class Detect(nn.Module):
    """Boxes as offsets to anchors (Redmon and Farhadi, YOLOv3, 2018, section 2.1, in YOLOv5's bounded form).

    Args:
        nc: number of classes.
        anchors: a list of [w, h, w, h, ...] in pixels a level, or a number of anchors a level without values:
            placeholder numbers that the automatic anchors replace before training.
        ch: input widths, one a level.

    The buffer `anchors` is (levels, A, 2) in units of each level's stride once `set_strides` was called.
    """

    needs_nms = True
    box_outputs = ("m.", 5)
    by_matrices = False  # the same outputs by products of matrices, cells first: no map is turned afterwards

    def __init__(self, nc=80, anchors=(), ch=()):
        super().__init__()
        check_classes(nc)
        if isinstance(anchors, str):
            hint = did_you_mean(anchors, ["anchors"]) or "; expected anchors, a number a level or a list a level"
            raise UserError(f"has no anchors: '{anchors}' is a word{hint}")
        if isinstance(anchors, (bool, float)) or (isinstance(anchors, int) and anchors < 1):
            raise UserError(f"anchors must be a number a level of at least 1 or a list a level, got {anchors!r}")
        self.placeholder_anchors = isinstance(anchors, int)
        if self.placeholder_anchors:
            anchors = [list(range(2 * anchors))] * len(ch)
        elif anchors:
            check_anchors(anchors)
        if not anchors:
            expected = "expected a number a level or a list of [w, h, w, h, ...] a level"
            raise UserError(f"has no anchors; {expected}, or AnchorFreeDetect in place of Detect, which needs none")
        if len(anchors) != len(ch):
            raise UserError(f"anchors for {len(anchors)} levels, but 'from' names {len(ch)}: they must agree")
        self.nc = nc
        self.num_anchors = len(anchors[0]) // 2
        self.strides: list[float] = []
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32).view(len(ch), -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(width, self.num_anchors * (nc + 5), 1) for width in ch)

    def forward(self, maps):
        """Maps (B, c, H, W), one a level, to raw outputs (B, A, H, W, 5 + nc): x, y, w, h, objectness, classes."""
        raw = []
        for conv, x in zip(self.m, maps, strict=True):
            b, _, h, w = x.shape
            if self.by_matrices:
                weights, biases = (
                    conv.weight.flatten(1).unflatten(0, (self.num_anchors, -1)),
                    conv.bias.view(self.num_anchors, -1),
                )
                cells = x.permute(0, 2, 3, 1)
                raw.append(
                    torch.stack([cells @ matrix.T + bias for matrix, bias in zip(weights, biases, strict=True)], 1)
                )
            else:
                raw.append(conv(x).view(b, self.num_anchors, -1, h, w).permute(0, 1, 3, 4, 2).contiguous())
        return raw

    def decode_rows(self, raw):
        """Raw maps to (B, N, 5 + nc): cx, cy, w, h in pixels, objectness and class probabilities (recipe: decode)."""
        rows = []
        for level, (y, stride) in enumerate(zip(raw, self.strides, strict=True)):
            b, a, h, w, no = y.shape
            y = y.sigmoid()
            grid_y, grid_x = torch.meshgrid(
                torch.arange(h, device=y.device, dtype=y.dtype),
                torch.arange(w, device=y.device, dtype=y.dtype),
                indexing="ij",
            )
            cell = torch.stack((grid_x, grid_y), -1)  # (H, W, 2)
            xy = (y[..., 0:2] * 2 - 0.5 + cell) * stride
            anchor = (self.anchors[level] * stride).to(y.dtype).view(1, a, 1, 1, 2)
            wh = (y[..., 2:4] * 2) ** 2 * anchor
            rows.append(torch.cat((xy, wh, y[..., 4:]), -1).reshape(b, a * h * w, no))
        return torch.cat(rows, 1)

    def decode(self, raw):
        """Raw maps to boxes (B, N, 4) xyxy pixels and scores (B, N, nc), objectness times class."""
        rows = self.decode_rows([y.float() for y in raw])
        centre, half = rows[..., 0:2], rows[..., 2:4] / 2
        return torch.cat((centre - half, centre + half), -1), rows[..., 4:5] * rows[..., 5:]

    def set_strides(self, strides: list[float]) -> None:
        """Take the real strides, put the anchors into their units and start the biases (Lin et al., 2017, 3.3)."""
        self.strides = [float(s) for s in strides]
        area = self.anchors.prod(-1).mean(-1)
        if (area[-1] - area[0]) * (self.strides[-1] - self.strides[0]) < 0:  # written from large to small
            self.anchors = self.anchors.flip(0)
        self.anchors = self.anchors / torch.tensor(self.strides).view(-1, 1, 1)
        for conv, stride in zip(self.m, self.strides, strict=True):
            bias = conv.bias.detach().view(self.num_anchors, -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (self.nc - 0.99999))

    def set_anchors(self, anchors_pixels) -> None:
        """Replace the anchors: (levels, A, 2) pixels, the small ones first where the strides grow."""
        pixels = torch.as_tensor(anchors_pixels, dtype=self.anchors.dtype, device=self.anchors.device)
        if pixels.shape != self.anchors.shape:
            raise ValueError(f"expected anchors of shape {tuple(self.anchors.shape)}, got {tuple(pixels.shape)}")
        self.anchors = pixels / torch.tensor(self.strides, device=pixels.device).view(-1, 1, 1)
        self.placeholder_anchors = False

    def criterion(self, hyperparameters, image_size: int = 640):
        """The loss of this head with gains scaled by levels, classes and training size (recipe: gains)."""
        from graftdet.models.losses.anchor_based import AnchorCriterion

        return AnchorCriterion.for_head(self, hyperparameters, image_size)
