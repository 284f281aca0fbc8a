"""One way to build a block outside a model, and maps to run it on."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn

from graftdet.models.blocks.registration import BlockOptions
from graftdet.models.conformance.numerics import Maps, seed_all
from graftdet.models.graph.arguments import BlockCall, make_block_call
from graftdet.models.graph.signatures import Signature, read_signature
from graftdet.models.spec.scales import scale_width

SIZE = 32  # height and width of the maps, pixels


@dataclass
class BlockCase:
    """A block with arguments.

    Attributes:
        name: Module name of the block.
        block: Its class.
        options: That it was registered with.
        args: Positional arguments of the row.
        kwargs: Keyword arguments of the row.
        width_in: Channels of the input map; a list for a block that joins several maps.
        width_argument: What the constructor gets as the input width, if that is not `width_in`.
        signature: Of the constructor.
        call: Arguments of the constructor.
    """

    name: str
    block: type[nn.Module]
    options: BlockOptions
    args: list
    kwargs: dict
    width_in: int | list[int]
    width_argument: int | list[int] | None = None
    signature: Signature = field(init=False)
    call: BlockCall = field(init=False)

    def __post_init__(self):
        self.signature = read_signature(self.block, self.options)
        self.call = self.call_for(self.args, self.kwargs)

    def with_argument(self, name: str, value: object) -> tuple[list, dict]:
        """Return the row's args and kwargs with another value of one argument."""
        positional = [key for key in self.signature.named if key != self.call.width_in and key not in self.kwargs]
        positional = [key for key in positional if key != "n" or self.options.rule != "infer"]
        if name in positional[: len(self.args)]:
            index = positional.index(name)
            return [*self.args[:index], value, *self.args[index + 1 :]], self.kwargs
        return self.args, {**self.kwargs, name: value}

    def call_for(self, args: list, kwargs: dict, number: int = 1) -> BlockCall:
        """Return the constructor arguments for a row with these args, kwargs and number."""
        width = self.width_argument or self.width_in
        scale = partial(scale_width, multiple=1.0)
        return make_block_call(self.block, self.options, args, kwargs, width, number, scale)

    def build(self, seed: int = 0) -> nn.Module:
        """Return a new block; its weights depend on `seed` only."""
        seed_all(seed)
        return self.block(*self.call.args, **self.call.kwargs)

    def maps(self, batch: int = 2, height: int = SIZE, width: int = SIZE, seed: int = 0) -> Maps:
        """Return normally distributed input: (batch, c, height, width), or a list of these for a block that joins."""
        generator = torch.Generator().manual_seed(seed)
        if isinstance(self.width_in, list):
            return [torch.randn(batch, c, height, width, generator=generator) for c in self.width_in]
        return torch.randn(batch, self.width_in, height, width, generator=generator)

    def __str__(self) -> str:
        arguments = [str(a) for a in self.call.args] + [f"{k}={v}" for k, v in self.call.kwargs.items()]
        stated = self.call.width_in and not self.width_argument
        return f"{self.name}({', '.join(arguments)})" + ("" if stated else f" on {self.width_in} channels")
