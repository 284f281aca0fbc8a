"""Area attention of YOLOv12: published counts, a slow reference, maps that do not divide evenly, export."""

import numpy as np
import pytest
import torch

from graftdet.models import build_model
from graftdet.models.lint.check import check_model
from graftdet.models.spec.model_spec import ModelSpec

ROWS = """\
nc: 80
scales: {n: [0.5, 0.25, 1024], s: [0.5, 0.5, 1024], m: [0.5, 1.0, 512], l: [1.0, 1.0, 512]}
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 2, C3k2, [256, False, 0.25]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [-1, 2, C3k2, [512, False, 0.25]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [-1, 4, A2C2f, [512, True, 4]]
  - [-1, 1, Conv, [1024, 3, 2]]
  - [-1, 4, A2C2f, [1024, True, 1]]
head:
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 6], 1, Concat, [1]]
  - [-1, 2, A2C2f, [512, False, -1]]
  - [-1, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, 4], 1, Concat, [1]]
  - [-1, 2, A2C2f, [256, False, -1]]
  - [-1, 1, Conv, [256, 3, 2]]
  - [[-1, 11], 1, Concat, [1]]
  - [-1, 2, A2C2f, [512, False, -1]]
  - [-1, 1, Conv, [512, 3, 2]]
  - [[-1, 8], 1, Concat, [1]]
  - [-1, 2, C3k2, [1024, True]]
  - [[14, 17, 20], 1, Detect, [nc]]
"""


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("n", 2_602_288 - 464_912),
        ("s", 9_284_096 - 850_368),
        ("m", 20_199_168 - 1_472_704),
        ("l", 26_450_784 - 1_472_704),
    ],
)
def test_published_counts(size, count):
    """Totals at 80 classes without the published head; from m and l on, blocks have more than the file states."""
    model = build_model(ModelSpec.from_text(ROWS + f"scale: {size}\n", "yolo12.yaml"))
    assert sum(p.numel() for layer in model.model[:-1] for p in layer.parameters()) == count


def test_keyword_arguments_of_a_row_override_those_of_the_size():
    text = ROWS.replace("C3k2, [256, False, 0.25]", "C3k2, [256, {c3k: False, e: 0.25}]").replace(
        "[512, True, 4]", "[512, {mlp_ratio: 3.0}]"
    )
    model = build_model(ModelSpec.from_text(text + "scale: l\n", "yolo12.yaml"))
    rows = {row.index: call.kwargs for row, call in zip(model.spec.rows, model.block_calls, strict=True)}
    assert rows[2]["c3k"] is False and rows[4]["c3k"] is True and "c3k" not in {**rows[6]}
    assert rows[6]["mlp_ratio"] == 3.0 and rows[6]["residual"] is True and rows[8]["mlp_ratio"] == 1.2
    assert check_model(ModelSpec.from_text(text + "scale: l\n", "yolo12.yaml")) == []


@pytest.mark.parametrize(("h", "w"), [(8, 6), (7, 5), (3, 1), (1, 1)])
@pytest.mark.parametrize("area", [1, 4])
def test_attention_equals_a_slow_reference(h, w, area, block_of):
    """Each position attends to its strip only, head by head."""
    attention = block_of("A2C2f", 128, 128, 1, True, area).m[0][0].attn
    x = torch.randn(2, 64, h, w, requires_grad=True)
    y = attention(x)
    qkv = attention.qkv(x).flatten(2).view(2, 2, 96, h * w)  # two heads of 32 channels
    length = -(-h * w // area)
    values, seen = torch.zeros(2, 64, h * w), torch.zeros(2, 64, h * w)
    for b in range(2):
        for head in range(2):
            q, k, v = qkv[b, head].split(32)
            for position in range(h * w):
                strip = slice(position // length * length, position // length * length + length)
                weights = ((q[:, position] @ k[:, strip]) / 32**0.5).softmax(-1)
                seen[b, head * 32 : head * 32 + 32, position] = v[:, strip] @ weights
                values[b, head * 32 : head * 32 + 32, position] = v[:, position]
    want = attention.proj(seen.view(2, 64, h, w) + attention.pe(values.view(2, 64, h, w)))
    torch.testing.assert_close(y, want, atol=2e-5, rtol=1e-4)
    y.square().sum().backward()
    assert x.grad.isfinite().all()


def test_residual_scale_and_wrong_widths(block_of):
    block, x = block_of("A2C2f", 64, 64, 2, True, 1, True), torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        scaled = block(x)
        block.gamma.zero_()
        assert torch.equal(block(x), x)
        block.gamma.fill_(0.01)
        assert torch.equal(block(x), scaled) and not torch.equal(scaled, x)
    with pytest.raises(ValueError, match="expected widths that agree, got 32 and 64"):
        block_of("A2C2f", 32, 64, 1, True, 1, True)
    assert block_of("A2C2f", 32, 64, 1, False, -1, True).gamma is None
    with pytest.raises(ValueError, match="area, the number of strips, .* got -1"):
        block_of("A2C2f", 64, 64, 1, True, -1)


def test_onnx_export_accepts_any_size(block_of, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    block, path = block_of("A2C2f", 32, 64, 1, True, 4), str(tmp_path / "block.onnx")
    axes = {"x": {0: "b", 2: "h", 3: "w"}}
    torch.onnx.export(
        block, (torch.randn(1, 32, 8, 8),), path, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 32, 8, 8), (3, 32, 7, 5), (2, 32, 1, 3)):
        x = torch.randn(*shape)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], block(x).numpy(), atol=1e-4, rtol=1e-4)
