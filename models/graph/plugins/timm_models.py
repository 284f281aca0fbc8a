"""Models of timm (PyTorch Image Models, Apache-2.0) as backbone rows: the module `timm` of `--plugins timm`."""

import importlib
from types import ModuleType

import torch
from torch import Tensor, nn

from graftdet.models.blocks import BLOCKS
from graftdet.models.blocks.backbone import STRIDES, are_distinct_choices
from graftdet.models.graph.module_names import TIMM
from graftdet.utils.errors import UserError, first_line, nearest


class TimmBackbone(nn.Module):
    """A model of timm without its classifier, with random weights; files are loaded by `--weights FILE --into ROW`.

    (B, c1, H, W) -> list of maps, one per requested stride.

    Args:
        c1: input channels.
        name: name of the model in timm.
        out: strides of the maps that are returned.
        pretrained: False; weights are never downloaded.

    Example:
        [-1, 1, timm, [mobilenetv3_small_100]]
    """

    published_prefix = "body."
    """What names of the row begin with and those in files of timm do not. Behind it names may have `_` for
    `.`: timm flattens the containers of some models that give lists of maps.
    """

    def __init__(self, c1, name, out=STRIDES, pretrained=False):
        super().__init__()
        if pretrained:
            raise UserError(
                "weights are never downloaded: omit pretrained and give a file with --weights FILE --into ROW"
            )
        timm = import_timm()
        with torch.device("meta"):
            strides = _create(timm, name, c1).feature_info.reduction()
        if not are_distinct_choices(out, strides):
            raise UserError(f"out: expected a list of different strides, some of {sorted(set(strides))}, got {out!r}")
        last = {stride: index for index, stride in enumerate(strides)}
        indices = sorted(last[stride] for stride in out)
        self.body = _create(timm, name, c1, out_indices=indices)
        self.order = [indices.index(last[stride]) for stride in out]
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, c1, H, W) -> list of (B, c, H / stride, W / stride), in the order of `out`."""
        maps = self.body(x)
        if self.channels_last:
            maps = [y.permute(0, 3, 1, 2).contiguous() for y in maps]
        return [maps[index] for index in self.order]


def load_timm() -> list[str]:
    """Make the module `timm` available in YAMLs; returns its name.

    Raises:
        UserError: timm is not installed or cannot be imported.
    """
    import_timm()
    if TIMM not in BLOCKS:
        BLOCKS.register(TIMM)(TimmBackbone)
    return [TIMM]


def import_timm() -> ModuleType:
    """The package timm.

    Raises:
        UserError: it is not installed or cannot be imported.
    """
    try:
        return importlib.import_module(TIMM)
    except ModuleNotFoundError as error:
        if error.name != TIMM:
            raise UserError(f"--plugins {TIMM}: cannot be imported ({first_line(error)})") from None
        raise UserError(f"--plugins {TIMM}: is not installed; install it with 'pip install {TIMM}'") from None
    except Exception as error:  # what a package does at import is its author's
        raise UserError(f"--plugins {TIMM}: cannot be imported ({type(error).__name__}: {first_line(error)})") from None


def _create(timm: ModuleType, name: object, c1: int, **options) -> nn.Module:
    """A model of timm that gives a list of maps, with random weights."""
    names = timm.list_models()
    if not isinstance(name, str) or name.partition(".")[0] not in names:
        near = nearest(str(name), names)
        hint = f"; did you mean '{near}'?" if near else ""
        raise UserError(f"name: timm has no model {name!r}{hint}")
    try:
        return timm.create_model(name, pretrained=False, features_only=True, in_chans=c1, **options)
    except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
        raise UserError(f"timm cannot build {name} as a list of maps ({first_line(error)})") from None
