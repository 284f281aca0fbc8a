"""The project's own YAMLs keep within the cost that they are made for."""

import pytest
import torch

from graftdet.models import build_model
from graftdet.models.analysis.summary import summarize, totals


@pytest.mark.parametrize(
    ("name", "size", "most_params", "most_gflops"),
    [("graft-n.yaml", 640, 1.9e6, 4.6), ("graft-p.yaml", 416, 1.0e6, 1.7)],
)
def test_parameters_and_flops_are_within_their_limits(name, size, most_params, most_gflops):
    """At 80 classes, unfused; FLOPs are twice the multiply-adds."""
    model = build_model(name, nc=80)
    cost = totals(summarize(model, (size, size)))
    assert cost["params"] == sum(p.numel() for p in model.parameters()) <= most_params
    assert cost["flops"] <= most_gflops * 1e9
    assert model.stride.tolist() == [8, 16, 32]


def test_rows_of_yolov5n_with_another_head():
    free, published = build_model("yolov5n-free.yaml", nc=80), build_model("yolov5n.yaml", nc=80)
    rows = lambda model: {k: v.shape for k, v in model.state_dict().items() if not k.startswith("model.24.")}  # noqa: E731
    assert rows(free) == rows(published)
    with torch.no_grad():
        boxes, scores = free.eval()(torch.zeros(1, 3, 64, 96))
    assert boxes.shape == (1, 126, 4) and scores.shape == (1, 126, 80)
