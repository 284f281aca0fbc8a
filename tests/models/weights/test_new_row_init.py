"""New rows of a trained model: left as they are by the transfer, initialized as an identity by a step of their own."""

import pytest
import torch

from graftdet.models import build_model
from graftdet.models.editing.editor import insert_row, swap_module
from graftdet.models.spec.model_spec import ModelSpec
from graftdet.models.weights.new_row_init import NewRowInit, initialize_new_rows
from graftdet.models.weights.transfer import load_into
from graftdet.models.weights.weights_file import WeightsFile
from graftdet.utils.config import CONFIGS, read_text

YAML = read_text(CONFIGS / "models" / "yolov5n.yaml").replace("nc: 80", "nc: 3")


def model_of(text, seed=0):
    torch.manual_seed(seed)
    return build_model(ModelSpec.from_text(text, "new.yaml"))


@pytest.fixture(scope="module")
def weights():
    """Weights whose batch norms hold real statistics."""
    old = model_of(YAML, seed=1).train()
    with torch.no_grad():
        for _ in range(40):
            old(torch.rand(4, 3, 64, 64))
    return WeightsFile("old.pt", "checkpoint", old.state_dict(), YAML)


def identity_error(model, row, seed=0):
    """The mean squared difference between input and output of `row`, on random images."""
    torch.manual_seed(seed)
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        for layer in model.eval().model[:row]:
            x = layer(x)
        return float((model.model[row](x) - x).square().mean() / x.var())


def test_a_transfer_leaves_inserted_rows_as_they_are(weights):
    model, plain = (model_of(insert_row(YAML, 4, "[-1, 1, CBH, [256, 3, 1]]")) for _ in range(2))
    report = load_into(model, weights)
    assert report.inserted_rows == [5] and "row" not in str(report).split(";")[0]
    for (name, tensor), other in zip(
        model.model[5].state_dict().items(), plain.model[5].state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other), name


@pytest.mark.parametrize("row", ["[-1, 1, SELayer, [4]]", "[-1, 1, CBH, [256, 3, 1]]"])
def test_an_initialized_row_passes_its_input_through(weights, row):
    """Each row is fitted alone: the rows around it, the random state and the mode stay as they were."""
    model = model_of(insert_row(YAML, 4, row))
    rows = load_into(model, weights).inserted_rows
    before, mode = identity_error(model, 5), model.train().model[5].training
    random_state = torch.random.get_rng_state()
    result = initialize_new_rows(model, rows)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert list(result.errors) == [5] and result.errors[5] < 0.5
    assert model.model[5].training is mode and not any(p.grad is not None for p in model.parameters())
    assert torch.equal(model.model[4].cv1.conv.weight, weights.state["model.4.cv1.conv.weight"])
    assert identity_error(model, 5) < min(before, 0.5)
    assert str(result).startswith("new rows: 5 initialized to pass their input through (least squares; relative error")


def test_a_row_in_place_of_another_is_not_inserted(weights):
    swapped = model_of(swap_module(YAML, "SPPF", "SPP")[0].replace("SPP, [1024, 5]", "C3, [1024]"))
    assert load_into(swapped, weights).inserted_rows == []


def test_a_row_that_changes_the_shape_stays_random(weights):
    model = model_of(YAML)
    before = model.model[1].conv.weight.clone()
    result = initialize_new_rows(model, [1, 16])  # a convolution of stride 2, and Concat
    assert result.errors == {} and torch.equal(model.model[1].conv.weight, before)
    assert str(result) == "new rows: 1, 16 start from random weights"


def test_the_message_separates_good_and_poor_rows():
    """A channel shuffle never outputs its input, however it is trained."""
    text = str(NewRowInit([5, 9, 12], {5: 0.04, 9: 1.01}))
    assert "5 initialized to pass their input through (least squares; relative error 4%)" in text
    assert "9 do not pass their input through yet, train them (relative error 100%)" in text
    assert text.endswith("12 start from random weights")
    assert str(NewRowInit([5])) == "new rows: 5 start from random weights"
