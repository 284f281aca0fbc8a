"""What a model computes stays on the device of its input: no forward pass makes tensors on another one.

The device "meta" has shapes without values, and refuses tensors of the CPU as a GPU does.
"""

import pytest
import torch

from graftdet.models import build_model

CONFIGS = [  # every head
    "yolov5n.yaml",
    "graft-n.yaml",
    "graft-p.yaml",
    "yolov5n-free.yaml",
    "yolov5n-nms-free.yaml",
    "picodet.yaml",
    "blazeface.yaml",
    "yolov3-tiny.yaml",
    "yolov5s-transformer.yaml",
]


def tensors(value):
    """All tensors in nested lists, tuples and dicts."""
    if torch.is_tensor(value):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for item in items for tensor in tensors(item)]


@pytest.mark.parametrize("config", CONFIGS)
def test_models_run_on_another_device(config):
    model = build_model(config, nc=3).to("meta")
    images = torch.rand(2, model.channels, 128, 128, device="meta")
    with torch.no_grad():
        for training in (True, False):
            outputs = tensors(model.train(training)(images))
            assert outputs and {tensor.device.type for tensor in outputs} == {"meta"}
        assert {tensor.device.type for tensor in tensors(model.fuse()(images))} == {"meta"}
