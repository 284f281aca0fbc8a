"""ONNX files as weights: those of no known family, malformed ones, weights in another file."""

import numpy as np
import pytest

from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.errors import UserError

onnx = pytest.importorskip("onnx")


def save(path, weight):
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:], [weight])), str(path))
    return path


def test_files_that_are_not_read(tmp_path):
    weight = onnx.numpy_helper.from_array(np.zeros((4, 3, 1, 1), np.float32), "w")
    with pytest.raises(UserError, match=r"a\.onnx: its weights \(1 convolution\) are those of no known family"):
        load_weights(save(tmp_path / "a.onnx", weight))
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    weight.external_data.add(key="location", value="../secret")
    with pytest.raises(UserError, match=r"b\.onnx: has its weights in another file"):
        load_weights(save(tmp_path / "b.onnx", weight))
    (tmp_path / "c.onnx").write_bytes(b"\x08\x07not onnx")
    with pytest.raises(UserError, match=r"c\.onnx"):
        load_weights(tmp_path / "c.onnx")
