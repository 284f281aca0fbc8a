"""Operations of ONNX graphs that a reader lacks are written as others: the same numbers."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from graftdet.models.backends.tracing.onnx_tracing import simplified, trace_to_onnx
from graftdet.models.blocks.channel_attention import ECA, SimAM
from graftdet.models.blocks.swin import C3STR

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
RANGES = [4, 5, 6, 7, 0, 1, 3]


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


def rewritten(module, x, opset=17):
    """The operations of the graph; the outputs of onnxruntime are those of the module."""
    traced = trace_to_onnx(module, (x,), opset_version=opset, input_names=["x"], output_names=["y"])
    data = simplified(traced, False)
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model)
    assert {one.name for one in model.graph.initializer} <= {name for node in model.graph.node for name in node.input}
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], module(x).numpy(), rtol=1e-5, atol=1e-6)
    return model.graph, [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("opset", [12, 17])
def test_axes_are_inserted_one_by_one_from_the_first(opset):
    """onnxslim makes one Unsqueeze of two."""
    pytest.importorskip("onnxslim")
    gate = Function(lambda x: x.mean((2, 3)).unsqueeze(-1).unsqueeze(-1) * x)
    assert rewritten(gate, torch.rand(1, 3, 4, 4), opset)[1].count("Unsqueeze") == 2
    graph, _ = rewritten(Function(lambda x: x.mean(3).unsqueeze(-1) * x), torch.rand(1, 3, 4, 4), opset)
    (node,) = (node for node in graph.node if node.op_type == "Unsqueeze")
    constants = {one.name: onnx.numpy_helper.to_array(one).tolist() for one in graph.initializer}
    assert (list(node.attribute[0].ints) if node.attribute else constants[node.input[1]]) == [3]


@pytest.mark.parametrize("has_onnxslim", [True, False])
def test_zeros_around_a_pool_of_negative_values(has_onnxslim, monkeypatch):
    """onnxruntime would take the padding of the pool, minus infinity, for that of the row before it, zero."""
    if has_onnxslim:
        pytest.importorskip("onnxslim")
    else:
        monkeypatch.setitem(sys.modules, "onnxslim", None)
    rewritten(nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)), -torch.rand(1, 3, 4, 4) - 1)


def test_a_pad_has_no_empty_input():
    graph, operations = rewritten(
        Function(lambda x: nn.functional.pad(x, (0, 0, 0, 0, 0, 2)) + 1), torch.rand(1, 3, 4, 4)
    )
    assert "Pad" in operations and all("" not in node.input for node in graph.node)


def test_parts_of_several_sizes_are_slices():
    x = torch.rand(1, 8, 2, 2)
    uneven = Function(lambda x: torch.cat([part * 2 for part in reversed(x.split([2, 5, 1], 1))], 1))
    assert rewritten(uneven, x)[1].count("Slice") == 3
    even = Function(lambda x: torch.cat([part * 2 for part in reversed(x.split(4, 1))], 1))
    assert "Slice" not in rewritten(even, x)[1]


@pytest.mark.parametrize(("order", "num_slices"), [(RANGES, 3), (list(reversed(range(40))), 0), ([2], 0)])
def test_few_ranges_of_channels_are_slices(order, num_slices):
    indices = torch.tensor(order)
    _, operations = rewritten(Function(lambda x: x.index_select(1, indices) * 2), torch.rand(1, 40, 2, 3))
    assert operations.count("Slice") == num_slices and ("Gather" in operations) == (not num_slices)


def test_blocks_have_no_operation_that_opencv_lacks():
    """No constants of true and false in shifted windows, no convolution along one axis, no sum along axes."""
    pytest.importorskip("onnxslim")
    module = nn.Sequential(C3STR(8, 64, 2), ECA(64), SimAM(64)).eval().requires_grad_(False)
    graph, operations = rewritten(module, torch.rand(1, 8, 10, 9))
    assert all(one.data_type != onnx.TensorProto.BOOL for one in graph.initializer)
    assert "ReduceSum" not in operations
    dimensions = {one.name: len(one.dims) for one in graph.initializer}
    assert {dimensions[node.input[1]] for node in graph.node if node.op_type == "Conv"} == {4}
