"""Rows of six columns: a confidence, or the angle of an oriented box; decided for a whole dataset."""

import logging
import math

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.parsing.sixth_column import Undecided, angle_unit, decide_sixth_column
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

WIDTH, HEIGHT = 200, 100
BOX = (0.5, 0.5, 0.2, 0.1)  # 40 x 10 pixels about (100, 50)


def write_dataset(root, sixths, extra=""):
    """A dataset of one row per image, the same box with different values after it; return its YAML."""
    for index, sixth in enumerate(sixths):
        write_image(root / f"images/{index}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        (root / "labels").mkdir(exist_ok=True)
        (root / f"labels/{index}.txt").write_text(f"0 {' '.join(map(str, BOX))} {sixth}\n")
    (root / "data.yaml").write_text(f"train: images\nnames: [cat]\n{extra}")
    return root / "data.yaml"


def boxes_of(path):
    return [sample.boxes[0].tolist() for sample in open_split(load_data_config(path), "train").samples]


def turned(degrees):
    """The upright box around the turned one, in pixels."""
    points = np.array([[-20, -5], [20, -5], [20, 5], [-20, 5]]) @ rotation(math.radians(degrees)).T + [100, 50]
    return [*points.min(0), *points.max(0)]


def rotation(angle):
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


@pytest.mark.parametrize("unit", ["degrees", "radians"])
def test_boxes_with_an_angle(tmp_path, unit, caplog):
    angles = [0, 30.5, 90, -45, 120]
    sixths = angles if unit == "degrees" else [math.radians(angle) for angle in angles]
    with caplog.at_level(logging.INFO, logger="graftdet"):
        assert np.allclose(boxes_of(write_dataset(tmp_path, sixths)), [turned(angle) for angle in angles], atol=1e-3)
    assert "5 label rows of 6 columns: read as oriented boxes" in caplog.text
    assert f"is read as angles in {unit} (key angles)" in caplog.text


def test_the_yaml_states_the_unit_of_small_angles(tmp_path):
    angles = [-3.5, 2.5, 0]
    path = write_dataset(tmp_path, angles, "angles: degrees\n")
    assert np.allclose(boxes_of(path), [turned(angle) for angle in angles], atol=1e-3)
    path.write_text(path.read_text().replace("degrees", "turns"))
    with pytest.raises(UserError, match="angles: expected degrees or radians, got 'turns'"):
        load_data_config(path)


def test_two_readings_are_asked_for(tmp_path):
    path = write_dataset(tmp_path, [0, 0.4, 0.8])
    with pytest.raises(UserError, match=r"confidence \(labels: box\) or an angle \(labels: obb\).*add labels:"):
        boxes_of(path)
    path.write_text(path.read_text() + "labels: obb\n")
    assert np.allclose(boxes_of(path)[1], turned(math.degrees(0.4)), atol=1e-3)
    path.write_text(path.read_text().replace("obb", "box"))
    assert np.allclose(boxes_of(path), [turned(0)] * 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.3, 0.9, 1], "box"),
        ([0, 1, 1, 0], "box"),  # a flag
        ([0, 0, 0], "box"),  # the same as boxes that are not turned
        ([-0.2, 0.3], "obb"),
        ([1.5708, 0.2], "obb"),
        ([-90, 0, 45], "obb"),
        ([0, 0.5], None),
        ([17, 17], None),
        ([1, 2, 3], None),
        ([400.5, 1], None),
        ([math.nan, 1], None),
    ],
)
def test_ranges_of_values(values, expected):
    if expected is None:
        with pytest.raises(Undecided, match="labels: box"):
            decide_sixth_column(values)
    else:
        assert decide_sixth_column(values) == expected


def test_units():
    assert angle_unit([-math.pi, 2 * math.pi]) == "radians" and angle_unit([1, 7]) == "degrees"
