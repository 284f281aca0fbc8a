"""What a TorchScript file may do: compute with tensors. It is a program, and some of its operators write files."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graftdet.utils.errors import UserError

_NAMESPACES = ("aten", "prim", "prims", "torchvision", "quantized")
_FORBIDDEN = re.compile(r"aten::(save|from_file|warn|_print)|prim::\w*(Print|Python|rpc|fork|Call|Profile|BailOut)\w*")
_MAX_CODE = 2**26  # bytes of code that are looked at; that of yolov5x has 2^18


def check_code(path: Path) -> None:
    """Raise `UserError` for a file that would run code while it is opened: `__setstate__`, or classes of C++.

    Args:
        path: the file, which may be malformed; its reader reports that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith((".py", ".pkl"))]
            if sum(info.file_size for info in members) > _MAX_CODE:
                raise UserError(f"{path}: has more than {_MAX_CODE} bytes of code")
            for info in members:
                with archive.open(info) as file:
                    content = file.read(info.file_size)
                if b"__setstate__" in content or b"torch.classes" in content:
                    raise UserError(f"{path}: refused: it runs code while it is opened, which a model does not need")
    except UserError:
        raise
    except Exception:  # zipfile raises many types
        return


def check_operators(path: Path, module: Any) -> None:
    """Raise `UserError` for an operator that does more than compute.

    Args:
        path: the file, for messages.
        module: what `torch.jit.load` returned; it was not called.
    """
    for node in _nodes(module.inlined_graph):
        kind = node.kind()
        if kind.split("::")[0] not in _NAMESPACES or _FORBIDDEN.fullmatch(kind):
            raise UserError(f"{path}: refused: its operator {kind} does more than compute; it was not run")


def _nodes(block: Any) -> Iterator[Any]:
    """All nodes of a graph or block, with those of inner blocks and graphs."""
    waiting = [block]
    while waiting:
        for node in waiting.pop().nodes():
            yield node
            waiting += node.blocks()
            waiting += [node.g(name) for name in node.attributeNames() if node.kindOf(name) == "g"]
