"""What breaks a block later: each trial takes a `Subject`, raises `Failure` with the reason, or returns a remark."""

import copy
import io
import math
import warnings

import torch
from graftdet.models.backends.onnx_tracing import trace_to_onnx
from graftdet.models.conformance.block_case import SIZE, Subject
from graftdet.models.conformance.numerics import (
    Failure,
    change,
    evaluated,
    must_agree,
    must_be_finite,
    run_block,
    seed_all,
    telling,
)
from graftdet.models.graph.detection_model import fuse_modules
from graftdet.utils.errors import first_line
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

TRIALS = {}
# Operations whose backward pass has no deterministic form on CUDA (torch.use_deterministic_algorithms raises there).
_NOT_DETERMINISTIC = (
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "grid_sampler_2d_backward",
    "max_unpool2d", "reflection_pad2d_backward", "replication_pad2d_backward", "histc", "kthvalue",
)  # fmt: skip


def trial(name: str):
    """Register a trial under the name its line has."""

    def add(function):
        TRIALS[name] = function
        return function

    return add


@trial("batch of one, 1x1 maps")
def one_pixel(subject: Subject):
    """1x1 maps in eval mode, of a block that strides the map that it makes 1x1 at least; one picture in train mode,
    which batch norm behind a global pool cannot do."""
    least = 1
    try:
        must_be_finite(evaluated(subject.new(), subject.maps(1, 1, 1)), "1x1 map")
    except Exception as error:
        least = _stride(subject)
        if least == 1:
            raise Failure(f"1x1 map in eval mode: {first_line(error)}") from error
        with telling(f"{least}x{least} map in eval mode"):
            must_be_finite(evaluated(subject.new(), subject.maps(1, least, least)), "small map")
    with telling("one picture in train mode"):
        must_be_finite(run_block(subject.new().train(), subject.maps(1, 2 * SIZE, 2 * SIZE)), "one picture")
    return f"reads maps from {least}x{least} on" if least > 1 else ""


def _stride(subject: Subject) -> int:
    """Cells of the map that comes in a cell of the coarsest one that goes out."""
    return max(round(SIZE / min(t.shape[2:])) for t in evaluated(subject.new(), subject.maps()))


@trial("odd sizes")
def odd_sizes(subject: Subject):
    """Sides that no stride divides; a block that strides may refuse those, since pictures come in multiples of what
    all rows together stride."""
    try:
        _sizes(subject, (17, 31), (33, 15))
    except Failure:
        stride = _stride(subject)
        if stride < 2:
            raise
        _sizes(subject, (5 * stride, 3 * stride), (stride, 7 * stride))
        return f"reads sides that are multiples of {stride}, as maps that a row strides by {stride} have in a model"
    return ""


def _sizes(subject: Subject, *sizes: tuple[int, int]) -> None:
    """Raise `Failure` where a map of one of the sizes is refused, or the one that goes out is not as large as expected."""
    block = subject.new()
    usual = evaluated(block, subject.maps())
    for height, width in sizes:
        with telling(f"{width}x{height} map"):
            for even, odd in zip(usual, evaluated(block, subject.maps(2, height, width)), strict=True):
                for side, now, before in ((height, odd.shape[2], even.shape[2]), (width, odd.shape[3], even.shape[3])):
                    exact = side * before / SIZE
                    if not math.floor(exact) <= now <= math.ceil(exact):
                        raise Failure(f"gives {now} for a side of {side}, expected about {exact:g}")


@trial("eval and train")
def eval_and_train(subject: Subject):
    """Eval mode is repeatable, sees each picture alone and learns nothing; both modes give maps of the same shape."""
    block, maps = subject.new(), subject.maps()
    state = copy.deepcopy(block.state_dict())
    first = evaluated(block, maps, seed=0)
    must_agree(evaluated(block, maps, seed=1), first, "eval mode, a second time")
    for index in range(2):
        alone = evaluated(block, change(maps, lambda m, i=index: m[i : i + 1]))
        must_agree(alone, [t[index : index + 1] for t in first], "eval mode, one picture without the other", 1e-4)
    if any(not torch.equal(tensor, state[name]) for name, tensor in block.state_dict().items()):
        raise Failure("eval mode changes its weights or buffers")
    trained = run_block(block.train(), maps)
    shapes = [[tuple(t.shape) for t in tensors] for tensors in (trained, first)]
    if shapes[0] != shapes[1]:
        raise Failure(f"train mode gives {shapes[0]}, eval mode {shapes[1]}")


@trial("deepcopy")
def deep_copy(subject: Subject):
    """The average of weights and the exporter copy a model that has run; the copy must be apart from the original."""
    block, maps = subject.new().train(), subject.maps()
    run_block(block, maps)
    copied = copy.deepcopy(block)
    expected = evaluated(block, maps)
    must_agree(evaluated(copied, maps), expected, "the copy")
    with torch.no_grad():
        for tensor in copied.state_dict().values():
            tensor.add_(1)
    must_agree(evaluated(block, maps), expected, "the original after the copy was changed")


@trial("float16 and bfloat16")
def half_precision(subject: Subject):
    maps, remarks = subject.maps(), []
    expected = evaluated(subject.new(), maps)
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        with telling(name):
            try:
                found = evaluated(subject.new().to(dtype), change(maps, lambda m, d=dtype: m.to(d)))
            except RuntimeError as error:
                if "not implemented for 'Half'" not in str(error):
                    raise
                remarks.append("no float16 on this CPU")
                continue
            if any(t.dtype != dtype for t in found):
                raise Failure(f"gives {str(found[0].dtype).removeprefix('torch.')}")
            must_agree(found, expected, "beside float32", 0.1)
    with telling("mixed precision (bfloat16)"), torch.autocast("cpu", dtype=torch.bfloat16):
        must_be_finite(run_block(subject.new().train(), maps), "train mode")
    return ", ".join(remarks)


def _backward(block, maps, seed=0, norms=True) -> dict[str, torch.Tensor | None]:
    """Gradients of a loss by all weights that learn, and by what was read ('input ...'). Without `norms`, batch norms
    are in eval mode: many of them in a row make constant maps explode, which is not the block's doing."""
    block.train()
    for module in block.modules():
        if not norms and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    maps = change(maps, lambda m: m.clone().requires_grad_())
    loss = sum(
        ((t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() + t.square().mean())
        for t in run_block(block, maps, seed)
    )
    if loss.requires_grad:
        loss.backward()
    read = {f"input {i}": m.grad for i, m in enumerate(maps if isinstance(maps, list) else [maps])}
    return {name: p.grad for name, p in block.named_parameters() if p.requires_grad} | read


@trial("deterministic backward")
def deterministic_backward(subject: Subject):
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    seen = _Operations()
    torch.use_deterministic_algorithms(True)
    try:
        first = _backward(subject.new(), subject.maps())
        with seen:
            second = _backward(subject.new(), subject.maps())
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    for name, gradient in first.items():
        if gradient is not None and not torch.equal(gradient, second[name]):
            raise Failure(f"the gradient of '{name}' differs from run to run with the same seed")
    named = [name for name in _NOT_DETERMINISTIC if name in seen.names]
    if named:
        raise Failure(f"{named[0]} has no deterministic form on CUDA")


class _Operations(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@trial("finite gradients")
def finite_gradients(subject: Subject):
    """On usual, large and constant maps; every weight that learns must have one."""
    kinds = {
        "usual maps": lambda m: m, "maps of zeros": torch.zeros_like, "maps of ones": torch.ones_like, "large maps": lambda m: 100 * m,
    }  # fmt: skip
    for kind, make in kinds.items():
        with telling(kind):
            varied = kind in ("usual maps", "large maps")
            for name, gradient in _backward(subject.new(), change(subject.maps(), make), norms=varied).items():
                if gradient is None and kind == "usual maps" and not name.startswith("input"):
                    raise Failure(
                        f"weight '{name}' gets no gradient; leave it out or freeze it (requires_grad_(False))"
                    )
                if gradient is not None and not torch.isfinite(gradient).all():
                    raise Failure(f"the gradient of '{name}' is not finite")


@trial("state dict round trip")
def state_dict_round_trip(subject: Subject):
    """What a checkpoint holds makes another block the same: no numbers that matter live outside the state dict."""
    block, maps = subject.new(0), subject.maps()
    run_block(block.train(), maps)
    file = io.BytesIO()
    torch.save(block.state_dict(), file)
    file.seek(0)
    other = subject.new(1)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    must_agree(evaluated(other, maps), evaluated(block, maps), "another block with these weights")


@trial("fuse")
def fuse(subject: Subject):
    """Merging batch norms into convolutions, as before detecting and exporting, leaves the numbers as they are."""
    block, maps = subject.new().eval(), subject.maps()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in block.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.eps = 1e-3  # as in a model
                parts = (
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 2.0),
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                )
                for tensor, low, high in parts:
                    if tensor is not None:
                        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
        expected = evaluated(block, maps)
        fuse_modules(block)
        must_agree(evaluated(block, maps), expected, "fused", 1e-4)


@trial("tracing")
def tracing(subject: Subject):
    """torch.jit.trace at one size, run on other numbers and at another size."""
    block, maps = subject.new().eval(), subject.maps()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_all(0)
        traced = torch.jit.trace(block, (maps,), check_trace=False)
        for height, width in ((SIZE, SIZE), (48, 40)):
            other = subject.maps(2, height, width, seed=1)
            with telling(f"traced at {SIZE}x{SIZE}, run at {width}x{height}"):
                must_agree(run_block(traced, other), evaluated(block, other), "beside the block itself", 1e-4)


@trial("ONNX with dynamic batch")
def onnx_dynamic_batch(subject: Subject):
    try:
        import onnxruntime
    except ImportError:
        return "left out, onnxruntime is not installed"
    block, maps = subject.new().eval(), subject.maps()
    inputs = [f"map{i}" for i in range(len(maps))] if isinstance(maps, list) else ["map"]
    outputs = [f"out{i}" for i in range(len(evaluated(block, maps)))]
    axes = {name: {0: "batch"} for name in [*inputs, *outputs]}
    exported = trace_to_onnx(
        block, (maps,), opset_version=17, input_names=inputs, output_names=outputs, dynamic_axes=axes
    )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(exported, settings, providers=["CPUExecutionProvider"])
    for batch in (2, 1, 3):
        given = subject.maps(batch, seed=batch)
        feed = {name: m.numpy() for name, m in zip(inputs, given if isinstance(given, list) else [given], strict=True)}
        feed = {given.name: feed[given.name] for given in session.get_inputs()}  # maps that nothing reads are left out
        with telling(f"exported with a batch of 2, run with {batch}"):
            found = [torch.from_numpy(array) for array in session.run(outputs, feed)]
            must_agree(found, evaluated(block, given), "beside torch", 1e-3)


@trial("width as declared")
def width_as_declared(subject: Subject):
    """The output width is what the row says, for several widths, also where the row stacks the block twice."""
    usual = [t.shape[1] for t in evaluated(subject.new(), subject.maps())]
    if subject.recipe.width is None:
        return f"no argument of it, gives {', '.join(map(str, usual))} for {subject.width_in}"
    if len(usual) > 1:
        return f"several maps, of {', '.join(map(str, usual))} channels"
    name = next(key for key in subject.signature.named if key == subject.signature.width_out)
    for width in (subject.recipe.width, 8, 24, 40, 64):
        for number in (1, 2) if not isinstance(subject.width_in, list) else (1,):
            given = subject.with_argument(name, width)
            try:
                recipe = subject.recipe_of(*given, number)
                blocks = [subject.block(*recipe.args, **recipe.kwargs)]
                blocks += [
                    subject.block(*recipe.repeat_args, **recipe.repeat_kwargs) for _ in range(recipe.repeats - 1)
                ]
                found = evaluated(nn.Sequential(*blocks), subject.maps())
            except Exception as error:
                if width == subject.recipe.width:
                    raise Failure(f"number {number}: {first_line(error)}") from error
                continue  # a width that the block refuses with these arguments
            if [t.shape[1] for t in found] != [recipe.width]:
                kept = found[0].shape[1] == usual[0] != recipe.width and subject.width_in == usual[0]
                hint = (
                    f", the width that it reads: '{name}' changes nothing"
                    if kept
                    else ", number 2"
                    if number > 1
                    else ""
                )
                raise Failure(f"declares {recipe.width} channels, gives {found[0].shape[1]}{hint}")
    return ""
