"""Families of published weights, one per file. Every file in this folder is loaded; see `base.WeightsFamily`."""

import pkgutil
from importlib import import_module
from pathlib import Path

from graftdet.models.weights.families.base import ConvertedWeights, WeightsFamily
from graftdet.models.weights.yolov5_checkpoint import PublishedWeights
from graftdet.utils.registry import Registry

FAMILIES = Registry("family of weights")
"""name of the class -> subclass of `graftdet.models.weights.families.base.WeightsFamily`."""

for _module in pkgutil.iter_modules(__path__):
    import_module(f".{_module.name}", __name__)


def find_family(weights: PublishedWeights) -> WeightsFamily | None:
    """The family that recognizes the weights, None where none does."""
    return next((family for family in (FAMILIES[name]() for name in FAMILIES) if family.recognizes(weights)), None)


def convert(weights: PublishedWeights, path: Path) -> ConvertedWeights | None:
    """The weights under the names of a model of this project; None where no family recognizes them.

    Raises:
        UserError: they are of a known family, but a part of the model is unknown.
    """
    family = find_family(weights)
    return family.convert(weights, path) if family else None
