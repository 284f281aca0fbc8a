"""The graph of an export module by torch.export, for formats that do not start from a trace."""

from typing import Any

import torch

from graftdet.models.backends import ExportOptions
from graftdet.models.backends.tracing.export_module import ExportModule
from graftdet.models.backends.tracing.onnx_tracing import unfused_attention


def exported_program(module: ExportModule, options: ExportOptions) -> Any:
    """The `torch.export.ExportedProgram` of a module for one input size.

    Args:
        module: the export module.
        options: batch size and size of the input.

    Raises:
        Exception: whatever torch raises for a block that it cannot export.
    """
    images = torch.zeros(options.batch_size, module.detector.channels, *options.size)
    with torch.no_grad(), unfused_attention():
        return torch.export.export(module, (images,))
