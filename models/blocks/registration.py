"""What a block declares when it is registered, beyond its class: `@BLOCKS.register(..., width_out="double_oup")`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from graftdet.models.blocks.argument_ranges import ArgumentRange

BindingRule = Literal["infer", "stack", "plain"]


@dataclass(frozen=True)
class BlockOptions:
    """Options of `@BLOCKS.register`: what is special about a block, which the parser does not know.

    Args:
        rule: how a row's args are bound. "infer": the input width is filled in, and the row's number is the argument n
            where there is one. "stack": n is an ordinary argument; the row's number stacks whole blocks. "plain":
            nothing is filled in.
        width_in: the argument that takes the input width, if its name does not show it.
        width_out: the argument that, where it is given, is the output width instead of c2.
        odd_means: the argument that an odd number above 1 means in place of the output width or of the argument after
            it, which are even in rows of published files.
        small_first: the arguments, in order, that a row gives which begins with a number below 8, which is no width.
        widths_out: the argument that is a list of output widths, one per map that the block gives.
        takes_lists: the block reads a row that gives a list of maps (a whole backbone).
        joins_lists: the block joins rows, of which any may give a list of maps: it reads a list of maps and lists.
        arguments: argument name -> the range of its values, see `graftdet.models.blocks.argument_ranges`.
        defaults_with_module: module name -> arguments with another default in a model that has a row of that module.
        defaults_by_scale: letters of scales ("mlx") -> values of arguments in a model of one of these scales. They
            replace a positional False as well, as in the published sizes; a keyword argument of the row wins.
        model_defaults, scale_defaults: the defaults that apply in one model, set by `for_model`.
    """

    rule: BindingRule = "infer"
    width_in: str | None = None
    width_out: str | None = None
    odd_means: str | None = None
    small_first: tuple[str, ...] = ()
    widths_out: str | None = None
    takes_lists: bool = False
    joins_lists: bool = False
    arguments: Mapping[str, ArgumentRange] = field(default_factory=dict)
    defaults_with_module: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    defaults_by_scale: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_defaults: Mapping[str, Any] = field(default_factory=dict)
    scale_defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.rule not in get_args(BindingRule):
            raise ValueError(f"rule must be one of {', '.join(get_args(BindingRule))}, got {self.rule!r}")

    def for_model(self, modules: Collection[str], scale: str | None) -> "BlockOptions":
        """The options with the defaults that apply in one model.

        Args:
            modules: module names of the model's rows.
            scale: the key of the model's scale ("n", "s", ...); None for a file without scales.
        """
        by_module = [values for module, values in self.defaults_with_module.items() if module in modules]
        by_scale = [values for scales, values in self.defaults_by_scale.items() if scale in list(scales)]
        if not by_module and not by_scale:
            return self
        return replace(self, model_defaults=_merge(by_module), scale_defaults=_merge(by_scale))


def _merge(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


PLAIN = BlockOptions(rule="plain")
