"""Which pretrained weights a training starts from, and what it reports."""

import pytest
import torch

from graftdet.models import ModelSpec, build_model
from graftdet.models.editing.editor import insert_row
from graftdet.models.weights.pretrained import choice
from graftdet.models.weights.pretrained.choice import choose_pretrained, describe_start, transferable_fraction
from graftdet.models.weights.safetensors_file import read_header
from graftdet.models.weights.transfer import load_into
from graftdet.models.weights.weights_file import load_weights


def model_of(text, nc=3):
    return build_model(ModelSpec.from_text(text, "mine.yaml"), nc=nc)


def start(model, file):
    return describe_start(file, load_into(model, load_weights(file.path)))


def test_without_files_training_starts_from_scratch(shipped, tiny_yaml):
    assert choose_pretrained(model_of(tiny_yaml)) is None


def test_the_file_that_knows_most_of_the_model_is_chosen(shipped, tiny_yaml, monkeypatch):
    """Whatever the order of their names, and also where a file was replaced since the last time."""
    monkeypatch.setattr(choice, "MIN_PRETRAINED_FRACTION", 0.1)
    wider = tiny_yaml.replace("C3, [16]", "C3, [32]")
    path = shipped("a", wider)
    shipped("b")
    shipped("c", tiny_yaml.replace("[24, 3, 2]", "[24, 1, 2]"))
    assert choose_pretrained(model_of(tiny_yaml)).name == "b"
    assert choose_pretrained(model_of(wider)).name == "a"
    path.unlink()
    assert choose_pretrained(model_of(wider)).name == "b"
    shipped("b", wider)
    assert transferable_fraction(model_of(wider), choose_pretrained(model_of(wider)).header) > 0.9


def test_another_architecture_starts_from_scratch(shipped, tiny_yaml):
    shipped("tiny")
    other = (
        tiny_yaml.replace("C3, [16", "C3_GhostModule, [40").replace("24, 3, 2", "40, 3, 2").replace("[16, 3", "[24, 3")
    )
    model = model_of(other)
    (file,) = choice.list_pretrained()
    assert 0 <= transferable_fraction(model, file.header) < choice.MIN_PRETRAINED_FRACTION
    assert choose_pretrained(model) is None


def test_the_limit(shipped, tiny_yaml, monkeypatch):
    shipped("tiny")
    model = model_of(tiny_yaml)
    fraction = transferable_fraction(model, choice.list_pretrained()[0].header)
    assert 0.9 < fraction < 1  # without the outputs of the head, as the number of classes differs
    monkeypatch.setattr(choice, "MIN_PRETRAINED_FRACTION", fraction)
    assert choose_pretrained(model)
    monkeypatch.setattr(choice, "MIN_PRETRAINED_FRACTION", fraction + 1e-6)
    assert choose_pretrained(model) is None


@pytest.mark.parametrize(("nc", "tolerance"), [(3, 0.02), (5, 0.07)])  # class and box outputs of Detect
def test_the_fraction_is_that_of_the_transfer(nc, tolerance, shipped, tiny_yaml):
    header = read_header(shipped("tiny", nc=nc))
    for text in (
        tiny_yaml,
        insert_row(tiny_yaml, 3, "[-1, 1, Conv, [16, 3, 1]]"),
        tiny_yaml.replace("[24, 3", "[32, 3"),
    ):
        model = model_of(text)
        expected = load_into(model_of(text), load_weights(header.path)).fraction
        assert transferable_fraction(model, header) == pytest.approx(expected, abs=tolerance)


def test_choosing_changes_nothing_and_reads_no_tensor(shipped, tiny_yaml, monkeypatch):
    shipped("tiny")
    model = model_of(tiny_yaml)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setattr(torch, "from_numpy", None)
    choose_pretrained(model)
    headers = []
    monkeypatch.setattr(choice, "list_pretrained", lambda: headers.append(1) or [])
    assert choose_pretrained(model).name == "tiny" and not headers  # the headers are read once
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_message_for_the_model_of_the_weights(shipped, tiny_yaml):
    shipped("tiny-n")
    model = model_of(tiny_yaml)
    assert start(model, choose_pretrained(model)) == (
        "pretrained weights: tiny-n (synthetic contours, Apache-2.0); --weights none trains from scratch"
    )


def test_the_message_for_an_edited_model_names_its_new_rows(shipped, tiny_yaml):
    shipped("tiny-n")
    model = model_of(insert_row(tiny_yaml, 3, "[-1, 1, Conv, [16, 3, 1]]"))
    text = start(model, choose_pretrained(model))
    assert text.startswith("pretrained weights: tiny-n (synthetic contours, Apache-2.0), ")
    assert "% of the parameters transferred" in text and "rows 5-9 are rows 4-8 of the file" in text
    assert text.endswith("; newly initialized: row 4; --weights none trains from scratch")
