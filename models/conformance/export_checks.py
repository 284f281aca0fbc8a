"""Conformance checks of deployment: fusing, tracing, ONNX."""

import warnings

import torch
from torch import nn

from graftdet.models.backends.tracing.onnx_tracing import trace_to_onnx
from graftdet.models.conformance.block_case import SIZE, BlockCase
from graftdet.models.conformance.numerics import failing_at, require_equal, run_block, run_eval, seed_all
from graftdet.models.graph.detection_model import fuse_modules


def fuse(case: BlockCase) -> str:
    """Merging batch norms into convolutions, as before detection and export, does not change the outputs."""
    block, maps = case.build().eval(), case.maps()
    with torch.no_grad():
        _randomize_norms(block)
        expected = run_eval(block, maps)
        fuse_modules(block)
        require_equal(run_eval(block, maps), expected, "fused", 1e-4)
    return ""


def _randomize_norms(block: nn.Module) -> None:
    """Give batch norms random statistics and weights: fresh ones are identities."""
    generator = torch.Generator().manual_seed(0)
    for module in block.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.eps = 1e-3  # as in a model
            ranges = (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            )
            for tensor, low, high in ranges:
                if tensor is not None:
                    tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))


def tracing(case: BlockCase) -> str:
    """torch.jit.trace at one size, run on other maps and at another size."""
    block, maps = case.build().eval(), case.maps()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_all(0)
        traced = torch.jit.trace(block, (maps,), check_trace=False)
        for height, width in ((SIZE, SIZE), (48, 40)):
            other = case.maps(2, height, width, seed=1)
            with failing_at(f"traced at {SIZE}x{SIZE}, run at {width}x{height}"):
                require_equal(run_block(traced, other), run_eval(block, other), "compared with the block", 1e-4)
    return ""


def onnx_dynamic_batch(case: BlockCase) -> str:
    """ONNX export with a dynamic batch size, run in onnxruntime with several batch sizes."""
    try:
        import onnxruntime
    except ImportError:
        return "skipped, onnxruntime is not installed"
    block, maps = case.build().eval(), case.maps()
    inputs = [f"map{i}" for i in range(len(maps))] if isinstance(maps, list) else ["map"]
    outputs = [f"out{i}" for i in range(len(run_eval(block, maps)))]
    axes = {name: {0: "batch"} for name in [*inputs, *outputs]}
    exported = trace_to_onnx(
        block, (maps,), opset_version=17, input_names=inputs, output_names=outputs, dynamic_axes=axes
    )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(exported, settings, providers=["CPUExecutionProvider"])
    for batch in (2, 1, 3):
        maps = case.maps(batch, seed=batch)
        arrays = {name: m.numpy() for name, m in zip(inputs, maps if isinstance(maps, list) else [maps], strict=True)}
        feed = {used.name: arrays[used.name] for used in session.get_inputs()}  # the export drops unused inputs
        with failing_at(f"exported with a batch of 2, run with {batch}"):
            found = [torch.from_numpy(array) for array in session.run(outputs, feed)]
            require_equal(found, run_eval(block, maps), "compared with torch", 1e-3)
    return ""
