"""The modules that rows may name, as the palette and the completion of the page show them."""

import functools
from typing import Any


@functools.cache
def module_list() -> list[dict[str, Any]]:
    """Return all blocks, heads (those of plugins included) and layers of torch.nn as JSON values."""
    from graftdet.models.analysis.module_description import describe_all
    from graftdet.models.graph.module_names import torch_layers

    modules = []
    for module in describe_all():
        arguments = [
            {"name": argument.name, "default": argument.default, "meaning": argument.meaning}
            for argument in module.arguments
            if not argument.filled_in
        ]
        modules.append(
            {
                **{"name": module.name, "kind": module.kind, "aliases": list(module.aliases), "family": module.family},
                **{"signature": module.signature, "purpose": module.purpose, "source": module.source},
                **{"example": module.example.partition("\n")[0], "arguments": arguments},
            }
        )
    return modules + [{"name": f"nn.{name}", "kind": "layer"} for name in sorted(torch_layers())]
