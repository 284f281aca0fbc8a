"""Families of published weights, one per file. Every file in this folder is loaded; see `base.WeightsFamily`."""

import pkgutil
from importlib import import_module
from pathlib import Path

from graftdet.models.weights.families.base import ConvertedWeights, WeightsFamily
from graftdet.models.weights.families.onnx_file import name_convolutions, read_convolutions
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.errors import UserError, first_line
from graftdet.utils.registry import Registry
from graftdet.utils.text import counted

FAMILIES = Registry("family of weights")
"""name of the class -> subclass of `graftdet.models.weights.families.base.WeightsFamily`."""

for _module in pkgutil.iter_modules(__path__):
    import_module(f".{_module.name}", __name__)


def convert(weights: PublishedWeights, path: Path) -> ConvertedWeights | None:
    """The weights under the names of a model of this project; None where no family recognizes them.

    Raises:
        UserError: they are of a known family, but a part of the model is unknown.
    """
    family = next((one for one in _families() if one.recognizes(weights)), None)
    if family is None:
        return None
    try:
        return family.convert(weights, path)
    except (LookupError, RuntimeError) as error:  # a tensor is missing, or has another shape than in published files
        raise UserError(f"{path}: is of the family {family.name}, but incomplete ({first_line(error)})") from None


def convert_onnx(path: Path) -> ConvertedWeights:
    """The weights of an ONNX file of a known family, under the names of a model of this project.

    Raises:
        UserError: the file cannot be read, or its layers are those of no known family.
    """
    convolutions, size = read_convolutions(path)
    for family in _families():
        weights = name_convolutions(family, convolutions, size)
        converted = convert(weights, path) if weights else None
        if converted:
            return converted
    raise UserError(
        f"{path}: its weights ({counted(len(convolutions), 'convolution')}) are those of no known family; "
        "training cannot start from it, detect.py and val.py may run it"
    )


def _families() -> list[WeightsFamily]:
    return [FAMILIES[name]() for name in FAMILIES]
