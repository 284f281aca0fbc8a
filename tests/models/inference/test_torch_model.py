"""A model run by torch: channels-last memory and bfloat16 against plain float32."""

import numpy as np
import torch

from graftdet.models import build_model
from graftdet.models.inference import torch_model
from graftdet.models.inference.torch_model import TorchModel

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 96), np.uint8)


def model():
    torch.manual_seed(0)
    return build_model("yolov5n.yaml", nc=3).eval()


def test_channels_last_memory_gives_the_same_outputs():
    loaded = TorchModel(model(), CPU)
    assert loaded.layout == torch.channels_last and loaded.backend == "torch" and not loaded.half
    with torch.no_grad():
        expected = model()(torch.from_numpy(IMAGES) / 255)
    for found, wanted in zip(loaded(IMAGES), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_half_precision_on_a_cpu_is_bfloat16_where_it_has_it(monkeypatch):
    """Boxes are decoded in float32: pixels of bfloat16 would be 2 or 4 apart."""
    monkeypatch.setattr(torch_model, "has_bfloat16", lambda: True)
    loaded, full = TorchModel(model(), CPU, half=True), TorchModel(model(), CPU)
    assert loaded.half and loaded.backend == "torch in bfloat16"
    (boxes, scores), (full_boxes, full_scores) = loaded(IMAGES), full(IMAGES)
    assert boxes.dtype == scores.dtype == torch.float32
    assert 0 < (boxes - full_boxes).abs().max() < 2 and (scores - full_scores).abs().max() < 0.01
    assert not torch.equal(boxes, boxes.bfloat16().float())
    monkeypatch.setattr(torch_model, "has_bfloat16", lambda: False)
    assert not TorchModel(model(), CPU, half=True).half
