"""What an export module takes and returns, found by running it."""

from typing import Any

import torch

from graftdet.models.backends import ExportOptions
from graftdet.models.backends.layouts.description import Description
from graftdet.models.backends.metadata import make_metadata
from graftdet.models.backends.tracing.export_module import ExportModule


def describe(module: ExportModule, model: Any, options: ExportOptions) -> Description:
    """The description of an export.

    Args:
        module: the export module of the model.
        model: the `DetectionModel`.
        options: how it is exported.
    """
    images = torch.zeros(options.batch_size, model.channels, *options.size)
    with torch.inference_mode():
        outputs = module(images)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    shapes: list[list[int | None]] = [[None] * y.ndim if options.dynamic else list(y.shape) for y in outputs]
    for shape, y in zip(shapes, outputs, strict=True):
        shape[-1] = None if options.dynamic and options.output == "raw" else y.shape[-1]
    free = [None, model.channels, None, None] if options.dynamic else list(images.shape)
    return Description(free, list(zip(module.output_names(), shapes, strict=True)), make_metadata(model, options))
