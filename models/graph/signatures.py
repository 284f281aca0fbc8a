"""What a block's constructor takes, by whatever names: the input width, the output width, all other arguments."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from graftdet.models.blocks.registration import BlockOptions

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
KEYWORD_ONLY, POSITIONAL_ONLY = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY
VAR_POSITIONAL, VAR_KEYWORD = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
REQUIRED = inspect.Parameter.empty

# Names without case and underscores. The input and output width at any position:
WIDTH_IN = frozenset(
    """
    c1 cin ci chin cinput inch inchs inc inp inchannel inchannels inputchannel inputchannels inchan inchans
    channelin channelsin inplane inplanes planesin indim indims dimin inputdim infeature infeatures infeat infeats
    infilter infilters inwidth inputwidth widthin nin ninput numin ninchannels numinchannels numinputchannels inputc
    inputch innc inchannelslist inchannellist inchslist inplaneslist channelslist channellist
    """.split()
)
WIDTH_OUT = frozenset(
    """
    c2 cout co chout coutput outch outchs outc ouc oup outp outchannel outchannels outputchannel outputchannels
    outchan outchans channelout channelsout outplane outplanes planesout outdim outdims dimout outputdim outfeature
    outfeatures outfeat outfeats outfilter outfilters outwidth outputwidth widthout nout noutput noutputs numout
    noutchannels numoutchannels numoutputchannels outputc outputch outnc
    """.split()
)
# The input width as the first argument, the output width as the second one after an input width:
WIDTH_FIRST = frozenset(
    """
    c dim dims channel channels numchannels nchannels chan chans ch nc numfeatures nfeatures features nfeat nfeats
    planes width filters nfilters numfilters nf embeddim dmodel inputs
    """.split()
)
WIDTH_SECOND = frozenset("planes filters channels features nfilters numfilters nf dim out outputs".split())
STRIDE = ("s", "stride", "strides")
SHORT_NAMES = {
    "s": ("s", "stride", "strides"),
    "k": ("k", "kernel", "ks", "ksize", "kernelsize"),
    "p": ("p", "pad", "padding"),
    "g": ("g", "group", "groups"),
    "d": ("d", "dilation", "dilations"),
    "act": ("act", "activation", "actlayer"),
    "c2": (*sorted(WIDTH_OUT),),
}
# A first argument of an unknown name is taken as the input width, but none of these:
NO_WIDTH = frozenset(
    """
    k ks kernel kernels kernelsize ksize s stride strides p pad padding d dilation g group groups n num number r
    ratio reduction scale scales scalefactor upscalefactor gain alpha beta gamma factor size sizes outputsize
    imgsize dimension axis act activation actlayer norm normlayer mode shape heads numheads nheads head eps momentum
    drop dropout droppath block blocks layer layers depth index i e expand expansion expandratio bias inplace
    anchors name h w height resolution module modules fn func rate prob ninputs numinputs
    """.split()
)
TORCH_WIDTH_IN = ("in_channels", "num_features", "num_channels", "in_features")


def plain_name(name: str) -> str:
    """`In_Channels` -> `inchannels`."""
    return name.lower().replace("_", "")


@dataclass(frozen=True)
class Signature:
    """Constructor arguments after self.

    Args:
        named: name -> parameter, including those of parent classes that `*args` or `**kwargs` pass on.
        own: name -> parameter of the class's own constructor.
        open_positional, open_keywords: whether further arguments are accepted, positional or by keyword.
        width_in: name of the argument that is the input width; None if there is none.
        width_out: name of the argument that is the output width; None if there is none.
        guessed: the input width was recognized by its position, not by its name.
    """

    named: dict[str, inspect.Parameter]
    own: dict[str, inspect.Parameter]
    open_positional: bool
    open_keywords: bool
    width_in: str | None
    width_out: str | None
    guessed: bool = False

    @property
    def required(self) -> list[str]:
        """Names without default."""
        return [name for name, p in self.named.items() if p.default is REQUIRED]

    def call(self, bound: dict[str, Any], extra: Sequence = ()) -> tuple[list, dict[str, Any]]:
        """Arrange values for one call of the constructor.

        Args:
            bound: values by name.
            extra: further positional values.

        Returns:
            Positional and keyword arguments.
        """
        kinds = {p.kind for p in self.own.values()}
        passed_on = [name for name in bound if name in self.named and name not in self.own]
        in_order = VAR_POSITIONAL in kinds and (extra or (passed_on and VAR_KEYWORD not in kinds))
        args, kwargs = [], dict(bound)
        for name, parameter in self.named.items():
            if parameter.kind not in POSITIONAL or not (in_order or parameter.kind is POSITIONAL_ONLY):
                continue
            if name not in bound and (parameter.default is REQUIRED or not in_order):
                break
            args.append(kwargs.pop(name) if name in bound else parameter.default)
        return [*args, *extra], kwargs


def read_signature(block: Callable, options: object = None) -> Signature:
    """Read the signature of a class or function.

    Args:
        block: the class, whose parents are read as well while it takes `*args` or `**kwargs`.
        options: those of its registration, which may name the widths; ignored unless `BlockOptions`.
    """
    options = options if isinstance(options, BlockOptions) else BlockOptions()  # of heads: the head itself
    named, own, open_positional, open_keywords = _parameters(block)
    if options.rule == "plain":
        return Signature(named, own, open_positional, open_keywords, None, None)
    names = list(named)
    width_in, guessed = options.width_in, False
    if width_in is None:
        width_in = _find_width_in(block, named)
        if width_in is None and _may_be_width(block, named, names):
            width_in, guessed = names[0], True
    width_out = None
    if width_in is not None:
        width_out = _find_width_out(names, named, width_in, guessed)
    return Signature(named, own, open_positional, open_keywords, width_in, width_out, guessed)


def _parameters(block):
    """Named parameters; while a class takes `*args` or `**kwargs`, those of its parent class as well."""
    own = dict(inspect.signature(block).parameters)
    if not inspect.isclass(block):
        inits = [own.values()]
    else:
        classes = [c for c in block.__mro__ if "__init__" in vars(c) and c not in (nn.Module, object)]
        inits = [list(inspect.signature(c.__init__).parameters.values())[1:] for c in classes] or [own.values()]
    named, positional, keywords = {}, True, True
    for parameters in inits:
        for p in parameters:
            if p.kind in POSITIONAL and not positional:  # only **kwargs reaches it
                p = p.replace(kind=KEYWORD_ONLY)
            variable = p.kind in (VAR_POSITIONAL, VAR_KEYWORD)
            if p.name not in named and not variable and (p.kind is not KEYWORD_ONLY or keywords):
                named[p.name] = p
        positional = positional and any(p.kind is VAR_POSITIONAL for p in parameters)
        keywords = keywords and any(p.kind is VAR_KEYWORD for p in parameters)
        if not positional and not keywords:
            break
    in_order = sorted(named.values(), key=lambda p: p.kind is KEYWORD_ONLY)  # keyword-only ones last, else as written
    return {p.name: p for p in in_order}, own, positional, keywords


def _is_torch(block) -> bool:
    return block.__module__.startswith("torch.nn")


def _find_width_in(block, named) -> str | None:
    if _is_torch(block):
        return next((name for name in TORCH_WIDTH_IN if name in named), None)
    for name in named:
        if plain_name(name) in WIDTH_IN:
            return name
    counts = next((name for name in named if plain_name(name) in ("ninputs", "numinputs")), None)
    if counts and any(plain_name(name) in WIDTH_OUT for name in named):
        return counts  # next to n_outputs; alone it is the number of maps that are joined
    first = next(iter(named), None)
    return first if first is not None and plain_name(first) in WIDTH_FIRST else None


def _may_be_width(block, named, names) -> bool:
    """Whether a first argument of an unknown name can be the input width."""
    return bool(names) and not _is_torch(block) and _unknown_width(named[names[0]])


def _unknown_width(parameter) -> bool:
    whole = parameter.annotation in (REQUIRED, int, "int")
    return parameter.default is REQUIRED and whole and plain_name(parameter.name) not in NO_WIDTH


def _find_width_out(names, named, width_in, guessed) -> str | None:
    """The argument that is the output width: by name, or the second one after the input width."""
    others = [name for name in names if name != width_in]
    for name in others:
        if plain_name(name) in WIDTH_OUT and _takes_width(named[name]):
            return name
    if not others or names.index(width_in) != 0 or not _takes_width(named[others[0]]):
        return None
    if plain_name(others[0]) in WIDTH_SECOND or (guessed and _unknown_width(named[others[0]])):
        return others[0]
    return None


def _takes_width(parameter) -> bool:
    default = parameter.default
    return default is REQUIRED or default is None or (isinstance(default, int) and not isinstance(default, bool))
