"""Losses of a model in eval mode, computed together with its detections."""

from typing import Any

import torch

from graftdet.models.graph.detection_model import DetectionModel
from graftdet.models.losses.criterion import Criterion
from graftdet.utils.distributed import as_single_process


class ValidationLosses:
    """Runs a model on a validation batch once, for its detections and its losses.

    Heads without branches and auxiliary levels have the same raw outputs in both modes. The others run twice, in train
    mode for the losses: the head alone, with its batch norms in eval mode.

    Args:
        criterion: The loss of the model's head.
    """

    def __init__(self, criterion: Criterion):
        self.criterion = criterion

    def __call__(
        self, model: DetectionModel, images: torch.Tensor, targets: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
        """Run a batch.

        Args:
            model: In eval mode.
            images: (B, C, H, W) in 0..1.
            targets: (M, 6) image, class, cx, cy, w, h normalized to the size of the images.

        Returns:
            Boxes (B, N, 4) xyxy in pixels and scores (B, N, nc); losses by name.
        """
        head = model.head
        if not (head.branch_names or head.has_auxiliary_levels):
            raw = model.raw_outputs(images)
            return head.decode(raw), self._losses(raw, targets)
        head.training = True  # of the head alone, not of the layers in it
        try:
            maps = model.head_inputs(images)
            losses = self._losses(head(maps), targets)
        finally:
            head.training = False
        return head.decode(head(maps[: len(head.strides)])), losses

    def _losses(self, raw: Any, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        with as_single_process():  # other processes may have other batches
            return self.criterion(raw, targets)
