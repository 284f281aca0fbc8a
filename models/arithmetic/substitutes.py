"""Modules of the project that are written anew for the stand-in, since they do with torch what arithmetic does here."""

import contextlib
import sys
from types import ModuleType
from typing import Any

from graftdet.models.arithmetic.module import Module
from graftdet.models.arithmetic.tensor import ShapeTensor, Unsupported
from graftdet.utils.errors import UserError, first_line

PROBE_SIZE = 640


def run(layer: Module, inputs: Any) -> Any:
    """Run a layer on one image.

    Args:
        layer: a row of a model.
        inputs: shape (c, h, w) that it reads, or a list of them, also nested.

    Returns:
        Its output.
    """
    return layer(_image(inputs))


def _image(shape: Any) -> Any:
    """A tensor of one image, or a list of them."""
    return [_image(item) for item in shape] if isinstance(shape, list) else ShapeTensor(1, *shape)


def output_shapes(layer: Module, inputs: Any) -> Any:
    """The output shape (c, h, w), or a list of them: `graftdet.models.graph.shape_inference.output_shapes`."""
    output = run(layer, inputs)
    return [_map_shape(item) for item in output] if isinstance(output, (list, tuple)) else _map_shape(output)


def _map_shape(output: Any) -> tuple[int, ...]:
    if not isinstance(output, ShapeTensor) or output.ndim != 4:
        raise UserError("gives no map (B, C, H, W)")
    return tuple(output.shape[1:])


def shape_inference() -> ModuleType:
    """The module `graftdet.models.graph.shape_inference`."""
    module = ModuleType("graftdet.models.graph.shape_inference")
    vars(module).update(PROBE_SIZE=PROBE_SIZE, output_shapes=output_shapes, needs_values=lambda error: False)
    return module


def size_limit() -> ModuleType:
    """The module `graftdet.models.graph.size_limit`: nothing here takes memory."""
    module = ModuleType("graftdet.models.graph.size_limit")
    vars(module).update(LimitedWeights=contextlib.nullcontext, check_map=lambda shape: None)
    return module


def plugins() -> ModuleType:
    """The module `graftdet.models.graph.plugins`: classes of plugins are left to torch."""
    module = ModuleType("graftdet.models.graph.plugins")
    vars(module).update(
        refuse_ambiguous=_refuse_with_plugins,
        find_in_packages=lambda name: None,
        describe_error=lambda error, *_, **__: first_line(error),
    )
    return module


def _refuse_with_plugins(name: str) -> None:
    """Leave all rows to torch once a plugin is loaded, which may give names another meaning."""
    loaded = sys.modules.get("graftdet.models.graph.plugins")
    if loaded is not None and loaded.any_loaded():
        raise Unsupported("plugins")
