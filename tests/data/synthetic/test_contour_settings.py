"""Keys of a data YAML with `format: contours`."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from graftdet.data.synthetic.contour_settings import ContourSettings
from graftdet.utils.config import CONFIGS, load_yaml
from graftdet.utils.errors import UserError


def read(num_classes=None, **values):
    return ContourSettings.from_yaml(values, Path("mine.yaml"), num_classes)


def test_published_yaml_lists_every_key_with_its_default():
    content = load_yaml(CONFIGS / "data" / "contours.yaml")
    assert set(content) == {"format", "nc", *ContourSettings.yaml_keys()}
    assert ContourSettings.from_yaml(content, Path("contours.yaml"), content["nc"]) == ContourSettings()


def test_values_are_read_as_the_type_of_the_field():
    settings = read(5, noise="1e1", textures="off", objects=7, backgrounds="plain", occlusion=None, seed=3.0)
    assert settings == ContourSettings(5, noise=10.0, textures=False, objects=(7, 7), backgrounds=("plain",), seed=3)
    assert isinstance(settings.seed, int) and isinstance(settings.noise, float)


@pytest.mark.parametrize("key", ContourSettings.RANGES)
def test_values_out_of_range_name_file_and_key(key):
    low, high = ContourSettings.RANGES[key]
    given = {"num_classes": low - 1} if key == "num_classes" else {key: [0, high + 1] if key == "objects" else low - 1}
    name = "nc" if key == "num_classes" else key
    with pytest.raises(UserError, match=rf"mine.yaml: {name}: expected {low:g} to "):
        read(**given)


def test_every_number_has_a_range():
    numbers = {field.name for field in fields(ContourSettings) if field.type not in (bool, "bool")}
    assert numbers - {"backgrounds"} == set(ContourSettings.RANGES)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objects": [5, 2]}, "objects: expected [minimum, maximum] with a maximum of at least 1, got [5, 2]"),
        ({"objects": [1, 2, 3]}, "objects: expected [minimum, maximum], got [1, 2, 3]"),
        ({"objects": 0}, "objects: expected [minimum, maximum] with a maximum of at least 1"),
        ({"backgrounds": ["plane"]}, "backgrounds: unknown background 'plane'; did you mean 'plain'? (known: plain, "),
        ({"backgrounds": []}, "backgrounds: expected a list of plain, "),
        ({"noise": "much"}, "noise: expected a number, got 'much'"),
        ({"holes": 3}, "holes: expected true or false, got 3"),
        ({"epoch_length": 1.5}, "epoch_length: expected a whole number, got 1.5"),
    ],
)
def test_invalid_values(values, message):
    with pytest.raises(UserError, match="^" + re.escape(f"mine.yaml: {message}")):
        read(**values)
