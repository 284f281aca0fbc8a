"""A folder of pretrained weights with random stand-ins in place of `configs/weights`."""

from dataclasses import replace

import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.weights.pretrained import files
from graftdet.models.weights.pretrained.card import ApComparison, TrainingRecord, WeightsCard
from graftdet.models.weights.weights_file import WeightsFile, save_weights


@pytest.fixture
def make_card():
    """`make_card(**fields)`: a complete card, with other values of these fields."""
    run = TrainingRecord("python train.py --cfg tiny.yaml", "0123456789abcdef", 7, 8, 12_000, 0.8)
    comparison = ApComparison("BCCD test, 30 epochs", 0.62, 0.591)

    def make(**values):
        card = WeightsCard(
            "tiny.yaml", 1000, "synthetic contours", "Apache-2.0", 320, [run], [comparison], "Small objects."
        )
        return replace(card, **values)

    return make


@pytest.fixture
def shipped(tmp_path, monkeypatch, tiny_yaml, make_card):
    """`shipped(name, text=tiny_yaml, nc=5, names=None, **card)`: adds random weights of a model to the folder; gives their path."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    monkeypatch.setattr(files, "FOLDER", folder)

    def add(name, text=tiny_yaml, nc=5, names=None, **card):
        with torch.random.fork_rng():
            torch.manual_seed(len(name))
            model = build_model(ModelSpec.from_text(text, f"{name}.yaml"), nc=nc)
        names = names or [f"contour {index}" for index in range(nc)]
        weights = WeightsFile("x", "checkpoint", model.state_dict(), text, names, nc, 64, card=make_card(**card))
        return save_weights(folder / f"{name}.safetensors", weights)

    return add
