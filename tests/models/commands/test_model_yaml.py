"""`models yaml`: the YAML of a weights file, as text that builds the same model."""

import pytest
import torch

from graftdet.models import ModelSpec
from graftdet.models.__main__ import main
from graftdet.models.weights.weights_file import WeightsFile, load_weights
from graftdet.utils.errors import UserError


def test_text_stays_as_it_is_but_for_the_number_of_classes(tiny_weights, tiny_yaml, tmp_path, capsys):
    main(["yaml", str(tiny_weights)])
    assert capsys.readouterr().out == tiny_yaml
    weights = load_weights(tiny_weights)
    weights.nc = 7
    assert weights.yaml_text == tiny_yaml.replace("nc: 3", "nc: 7")
    main(["yaml", str(tiny_weights), "--output", str(tmp_path / "out.yaml")])
    assert (tmp_path / "out.yaml").read_text() == tiny_yaml


def test_a_mapping_becomes_one_line_per_row(tiny_yaml):
    values = ModelSpec.from_text(tiny_yaml, "tiny.yaml").values
    backbone, head = values.pop("backbone"), values.pop("head")
    values = {"backbone": backbone, "head": head, **values, "names": ["a: b", "yes", "3"]}
    text = WeightsFile("a.pt", "published", {}, values).yaml_text
    again = ModelSpec.from_text(text, "a.yaml")
    assert {**again.values} == values and len(text.splitlines()) < 40


def test_weights_without_yaml(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: holds weights without their YAML"):
        main(["yaml", str(tmp_path / "a.pt")])
