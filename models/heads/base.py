"""The contract of detection heads, as an abstract class, and the registry that accepts nothing else."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from graftdet.models.heads.exported_rows import with_objectness
from graftdet.models.heads.row_arguments import check_num_classes
from graftdet.utils.boxes import xyxy_to_cxcywh
from graftdet.utils.hyperparameters import Hyperparameters
from graftdet.utils.registry import Registry

PRIOR = 0.01
"""Initial probability of objects and classes (Lin et al., Focal Loss, 2017, section 4.1)."""


def prior_bias(probability: float = PRIOR) -> float:
    """The bias of an output whose initial probability is `probability`: its logit."""
    return torch.logit(torch.tensor(probability)).item()


class Head(nn.Module, ABC):
    """Base class of detection heads: the last row of a model, which turns feature maps into boxes and scores.

    The constructor takes the row's arguments and `ch`, the list of its input widths, one per level, in the order of the
    row's `from`. It calls `super().__init__(nc)`, which raises `UserError` unless `nc` is an integer of at least 1.
    Whatever `forward` returns is called *raw*: a list of tensors, one per level, or a dict of such lists, one per
    branch. Only the head and its criterion know its layout.

    Attributes:
        nc: number of classes.
        strides: pixels per cell, one per level; set by `set_strides`.
        needs_nms: whether `decode` returns several boxes per object.
        anchors: (levels, A, 2) width and height in units of each level's stride; None where the head has none.
        placeholder_anchors: whether `anchors` must be replaced by fitted ones before training.
        num_anchors: anchors per cell, 1 where the head has none.
        reg_max: number of bins of the distribution that each ltrb distance is predicted by (Li et al., Generalized
            Focal Loss, 2020, section 3.2); None where the head predicts no distributions.
        branch_names: branches that can give the boxes; empty where the head has no branches.
        branch: the one of them in use, or None.
        has_auxiliary_levels: whether the second half of its inputs are auxiliary levels, of the sizes of the first half
            and read in train mode only; strides, anchors and outputs in eval mode are those of the first half.
        distillation_branch: the branch with many positives per object, whose outputs distillation compares, or None.
    """

    anchors: torch.Tensor | None
    needs_nms: bool = True
    placeholder_anchors: bool = False
    num_anchors: int = 1
    reg_max: int | None = None
    branch_names: tuple[str, ...] = ()
    branch: str | None = None
    has_auxiliary_levels: bool = False
    distillation_branch: str | None = None

    def __init__(self, nc: int):
        super().__init__()
        check_num_classes(nc)
        self.nc = nc
        self.strides: list[float] = []
        self.register_buffer("anchors", None)

    @abstractmethod
    def forward(self, maps: list[torch.Tensor]) -> Any:
        """Predict from feature maps.

        Args:
            maps: (B, c, H, W) tensors, one per level.

        Returns:
            The raw outputs.
        """

    @abstractmethod
    def decode(self, raw: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn raw outputs into boxes (B, N, 4) xyxy in pixels of the input, and scores (B, N, nc) 0..1, in float32."""

    @abstractmethod
    def criterion(self, hyperparameters: Hyperparameters, image_size: int = 640) -> Any:
        """Return the loss: a `graftdet.models.losses.criterion.Criterion`.

        Args:
            hyperparameters: the training recipe.
            image_size: longer side of the training images in pixels.
        """

    @abstractmethod
    def output_biases(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Biases of the outputs before the classes and of the class outputs, per level (and branch), as views."""

    def set_strides(self, strides: list[float]) -> None:
        """Set the real strides in pixels per cell, one per input; called once, after the model is built.

        Heads extend this to initialize what depends on the strides, such as their output biases.
        """
        count = len(strides) // 2 if self.has_auxiliary_levels else len(strides)
        self.strides = [float(stride) for stride in strides[:count]]

    def set_anchors(self, anchors_pixels: Any) -> None:
        """Replace the anchors by (levels, A, 2) widths and heights in pixels. Raises `TypeError` for a head without."""
        raise TypeError(f"{type(self).__name__} has no anchors")

    def class_layers(self) -> dict[str, int]:
        """Layers whose outputs depend on the classes: name within the head -> outputs per anchor before the classes.

        The outputs of a layer are A anchors times (others + nc). When weights are transferred between models with
        different classes, each class takes the outputs of the class of its name, and all others keep theirs.
        """
        return {}

    def layer_anchors(self, layer: str) -> int:
        """Anchors per cell of one of the `class_layers`, by its name; other numbers than `num_anchors` are possible."""
        return self.num_anchors

    def decode_rows(self, raw: Any) -> torch.Tensor:
        """Turn raw outputs into the layout of exported files.

        Returns:
            (B, N, 5 + nc): cx, cy, w, h in pixels of the input, objectness, class probabilities. The score of a class
            is objectness times probability; heads without objectness return both as `with_objectness` states.
        """
        boxes, scores = self.decode(raw)
        return with_objectness(xyxy_to_cxcywh(boxes), scores)

    def export_outputs(self, maps: list[torch.Tensor], as_matmul: bool = False) -> torch.Tensor:
        """Compute what an exported file returns.

        Args:
            maps: (B, c, H, W) tensors, one per level.
            as_matmul: compute 1x1 output convolutions as matrix products where the head can; some runtimes are faster
                with them.

        Returns:
            The rows of `decode_rows`, (B, N, 5 + nc).
        """
        return self.decode_rows(self(maps))

    def export_maps(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Compute what an exported file with raw outputs returns.

        Args:
            maps: (B, c, H, W) tensors, one per level.

        Returns:
            Outputs before any decoding, (B, channels, H, W), one per level; `raw_format` states how to read them.
        """
        return self(maps)

    def raw_format(self) -> dict[str, Any] | None:
        """How `export_maps` are decoded: plain data for `graftdet.models.backends.layouts.raw_decoding.decode_raw`.

        Returns:
            "decoder", one of that module's `DECODERS`, and its parameters; None where no decoder reads the maps, and
            a file cannot be exported with raw outputs.
        """
        return None

    def distillation_maps(self, raw: Any) -> list[torch.Tensor]:
        """The raw maps that a student and its teacher are compared by, one per level; `decode` accepts them, too."""
        return raw

    def fuse(self) -> None:
        """Merge or drop what eval mode does not need, in place. Batch norms of convolutions are fused by the model."""


CONTRACT = tuple(sorted(Head.__abstractmethods__))


@dataclass(frozen=True)
class HeadOptions:
    """Options of a head's registration.

    Attributes:
        without_anchors: name of the head that is built instead where neither the row nor the file has anchors.
        argument_aliases: older names of constructor arguments, accepted in a row's keywords -> present names.
    """

    without_anchors: str | None = None
    argument_aliases: dict[str, str] = field(default_factory=dict)


class HeadRegistry(Registry):
    """A registry of `Head` classes. Registering anything else raises `TypeError` that lists what is missing."""

    def __init__(self) -> None:
        super().__init__("head", HeadOptions)

    def register(self, *names: str, **options: Any) -> Callable:
        """Return a decorator that registers a head; `options` are those of `HeadOptions`."""
        add = super().register(*names, **options)

        def add_head(entry):
            check_head_class(entry)
            return add(entry)

        return add_head


def check_head_class(entry: Any) -> None:
    """Raise `TypeError` unless `entry` is a subclass of `Head` that defines all abstract methods."""
    name = getattr(entry, "__name__", repr(entry))
    if not (inspect.isclass(entry) and issubclass(entry, Head)):
        methods = ", ".join(CONTRACT)
        raise TypeError(f"head '{name}' must be a subclass of graftdet.models.heads.base.Head, which defines {methods}")
    missing = sorted(entry.__abstractmethods__)
    if missing:
        raise TypeError(f"head '{name}' must define {', '.join(missing)} (abstract in graftdet.models.heads.base.Head)")
