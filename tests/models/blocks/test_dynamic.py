"""Dynamic convolutions: against one convolution per image, exported at any batch size, fused, with dropped paths."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graftdet.models import BLOCKS, build_model
from graftdet.models.backends import ExportOptions
from graftdet.models.backends import onnx as onnx_backend
from graftdet.models.blocks.dynamic import DropPath

CASES = {
    "plain 1x1": (6, 8, 1),
    "3x3": (6, 8, 3),
    "strided": (6, 8, 3, 2),
    "depthwise": (6, 6, 5, 2, None, 1, 6),
    "grouped, biased": (6, 4, 3, 1, None, 2, 2, True),
    "biased 1x1": (6, 4, 1, 1, None, 1, 1, True),
}


def one_image_at_a_time(block, x):
    """The definition: a kernel mixed for each image."""
    experts, maps = block.cond_conv, []
    for image in x:
        weights = torch.sigmoid(block.routing(image.mean((1, 2))))  # (experts,)
        kernel = (weights[:, None] * experts.weight).sum(0).view(experts.shape)
        bias = None if experts.bias is None else (weights[:, None] * experts.bias).sum(0)
        maps.append(F.conv2d(image[None], kernel, bias, experts.s, experts.p, experts.d, experts.g))
    return torch.cat(maps)


@pytest.mark.parametrize("case", CASES)
def test_each_image_gets_its_own_kernel(case):
    torch.manual_seed(0)
    block = BLOCKS["DynamicConv"](*CASES[case])
    if block.cond_conv.bias is not None:
        nn.init.normal_(block.cond_conv.bias)
    x = torch.randn(3, 6, 7, 9) * torch.tensor([0.1, 1.0, 5.0])[:, None, None, None]
    want = one_image_at_a_time(block, x)
    assert torch.allclose(block(x), want, atol=1e-5)
    last = block(x.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(last, want, atol=1e-5) and last.is_contiguous(memory_format=torch.channels_last)
    assert not torch.allclose(block(x)[0], block(x[:1] * 2)[0] / 2, atol=1e-5) or block.cond_conv.bias is not None
    routing = torch.sigmoid(block.routing(x.mean((2, 3))))
    bias = 0 if block.cond_conv.bias is None else (routing @ block.cond_conv.bias)[:, :, None, None]
    assert torch.allclose(block.cond_conv._sum_of_experts(x, routing) + bias, want, atol=1e-5)


def test_every_expert_has_a_gradient():
    block = BLOCKS["DynamicGhostModule"](6, 7)
    block(torch.randn(2, 6, 5, 5)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())
    assert block.primary_conv[0].cond_conv.weight.grad.abs().sum(1).min() > 0


def randomize(model):
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("name", ["yolov5n-C3_GhostModule", "dynamic-ghost"])
def test_onnx_export_accepts_any_batch_size(name, tmp_path):
    model = build_model(f"{name}.yaml", nc=2).eval()
    path = onnx_backend.export(model, tmp_path / "dynamic.onnx", ExportOptions(size=(64, 64), dynamic=True))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.rand(batch, 3, 64, 64) * torch.tensor([1.0, 0.2, 0.6])[:batch, None, None, None]
        with torch.no_grad():
            want = model.head.decode_rows(model.raw_outputs(images)).numpy()
        got = session.run(None, {"images": images.numpy()})[0]
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["yolov5n-C3_GhostModule", "dynamic-ghost"])
def test_fusing_changes_no_output_and_removes_every_batch_norm(name):
    model = randomize(build_model(f"{name}.yaml", nc=2))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = model.raw_outputs(x)
        after = model.fuse().raw_outputs(x)
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_published_parameter_count():
    assert sum(p.numel() for p in build_model("yolov5n-C3_GhostModule.yaml").parameters()) == 1_434_773


def test_drop_path_drops_a_quarter_in_training_only():
    x = torch.ones(2000, 1, 1, 1)
    path = DropPath(0.25)
    torch.manual_seed(0)
    y = path.train()(x)
    assert sorted(y.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert float(y.mean()) == pytest.approx(1, abs=0.06)
    assert path.eval()(x) is x
    with pytest.raises(ValueError, match="drop_path"):
        DropPath(1.0)


def test_the_shortcut_remains_if_the_path_is_dropped():
    x = torch.randn(2, 8, 5, 5)
    block = BLOCKS["DynamicConvBnAct"](8, 8, 3, skip=True).eval()
    assert torch.allclose(block(x), x + block.act1(block.bn1(block.conv(x))))
    assert not BLOCKS["DynamicConvBnAct"](8, 8, 3, 2, skip=True).add
    dropped = BLOCKS["DynamicGhostBottleneck"](8, 12, 3, 2, 0.25, 0.999999).train()
    torch.manual_seed(0)
    y = dropped(x)
    torch.manual_seed(0)
    assert torch.allclose(y, dropped.shortcut(x), atol=1e-5)


def test_shortcut_has_dynamic_convolutions_if_the_shape_changes():
    block = BLOCKS["DynamicGhostBottleneck"]
    assert [type(m).__name__ for m in block(8, 12).shortcut] == ["DynamicConv", "BatchNorm2d"] * 2
    assert len(block(8, 8).shortcut) == 0 and len(block(8, 8, 3, 2).shortcut) == 4
    assert block(8, 12).ghost1.c2 == 16
