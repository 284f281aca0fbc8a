"""Heads: logits and decoding apart, one decoded form. Every file in this folder is loaded."""

import pkgutil
from importlib import import_module

from graftdet.utils.registry import Registry

HEADS = Registry("head")
"""word -> nn.Module class, built with the row's args and `ch`, the list of its input widths. `forward(maps)` gives raw
maps, a list with one a level; `decode(raw)` gives boxes (B, N, 4) xyxy pixels and scores (B, N, nc);
`decode_rows(raw)` the layout of exported files; `set_strides(list)` is called once with the real strides;
`criterion(hyperparameters, image_size)` gives the loss; attributes `nc`, `strides`, `needs_nms`. Optional: `branch_names`,
the branches that can give the boxes, with `branch`, the one in use; `box_outputs`, see `graftdet.models.weights.weights_file`. The option
`without_anchors` names the head that is meant where neither the row nor the file has anchors."""

for _module in pkgutil.iter_modules(__path__):
    import_module(f".{_module.name}", __name__)
