"""What rows of more than five columns are: decided for a whole dataset, reported, or asked for."""

import logging
import math

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.parsing.yolo_rows import decide_reading, parse_labels
from graftdet.data.formats.yolo import BAD_ROW
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

SIDE = 100


def random_box(rng):
    width, height = rng.uniform(0.1, 0.3, 2)
    return [rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2), width, height]


def with_points(rng, count, values):
    x, y, width, height = box = random_box(rng)
    rest = []
    for _ in range(count):
        point = [x + rng.uniform(-0.4, 0.4) * width, y + rng.uniform(-0.4, 0.4) * height, rng.integers(1, 3)]
        rest += point[:values]
    return [*box, *rest], box


def polygon(rng, count):
    x, y, width, height = random_box(rng)
    angles = np.sort(rng.uniform(0, 2 * math.pi, count))
    xs, ys = x + np.cos(angles) * width / 2, y + np.sin(angles) * height / 2
    box = [(xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2, np.ptp(xs), np.ptp(ys)]
    return np.stack([xs, ys], 1).reshape(-1).tolist(), box


def oriented(rng):
    """A rotated rectangle on an image of 2:1, which relative coordinates skew."""
    x, y, angle = rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0, math.pi)
    corners = np.array([[-0.1, -0.05], [0.1, -0.05], [0.1, 0.05], [-0.1, 0.05]])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points = corners @ turn.T * [1, 2] + [x, y]
    low, high = points.min(0), points.max(0)
    return points.reshape(-1).tolist(), [*(low + high) / 2, *(high - low)]


def with_confidence(rng):
    box = random_box(rng)
    return [*box, rng.uniform()], box


KINDS = {
    "box": with_confidence,
    "polygon": lambda rng: polygon(rng, rng.integers(3, 9)),
    "polygon of one length": lambda rng: polygon(rng, 7),  # 15 columns, as the landmarks of a face
    "obb": oriented,
    "box+keypoints": lambda rng: with_points(rng, 5, 2),  # 15 columns
    "box+keypoints with visibility": lambda rng: with_points(rng, 17, 3),
    "box+keypoints of an odd length": lambda rng: with_points(rng, 2, 3),  # 11 columns, as three points
}


def write_dataset(root, rows, extra="", split="train"):
    """A dataset with one row per image; return its YAML."""
    for index, row in enumerate(rows):
        image, label = root / f"images/{split}/{index:03d}.png", root / f"labels/{split}/{index:03d}.txt"
        write_image(image, np.zeros((SIDE, SIDE, 3), np.uint8))
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(row if isinstance(row, str) else "0 " + " ".join(f"{value:.6f}" for value in row) + "\n")
    path = root / "data.yaml"
    path.write_text(f"train: images/train\nval: images/{split}\nnames: [cat]\n{extra}")
    return path


def boxes_of(path, split="train"):
    return np.concatenate([sample.boxes for sample in open_split(load_data_config(path), split).samples])


def corners(boxes):
    boxes = np.array(boxes)
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * SIDE


@pytest.mark.parametrize("kind", KINDS)
def test_the_boxes_of_each_kind_are_right_and_the_reading_is_reported(tmp_path, kind, caplog):
    rng = np.random.default_rng(3)
    rows, boxes = zip(*(KINDS[kind](rng) for _ in range(12)), strict=True)
    path = write_dataset(tmp_path, rows)
    with caplog.at_level(logging.INFO, logger="graftdet"):
        assert np.allclose(boxes_of(path), corners(boxes), atol=0.01)
    word = {"box": "boxes; further columns", "obb": "oriented boxes"}.get(
        kind, kind.split()[0].replace("+", "es with ")
    )
    assert "12 label rows of " in caplog.text and word in caplog.text


def test_plain_boxes_are_not_reported(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="graftdet"):
        boxes_of(write_dataset(tmp_path, [[0.5, 0.5, 0.2, 0.2]]))
    assert not caplog.text


def test_missing_landmarks_prove_keypoints(tmp_path):
    rows = [[0.78, 0.4, 0.36, 0.3] + [-1] * 10, [0.34, 0.84, 0.33, 0.22, *[0.3, 0.8] * 5]]
    assert np.allclose(boxes_of(write_dataset(tmp_path, rows)), corners([row[:4] for row in rows]), atol=0.01)


TWO_READINGS = [0.5, 0.5, 0.5, 0.4, 0.45, 0.45, 0.55, 0.5, 0.4, 0.55, 0.5, 0.6, 0.45, 0.5]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("box+keypoints", [25, 30, 75, 70]), ("box", [25, 30, 75, 70]), ("polygon", [40, 40, 55, 60])],
)
def test_two_readings_are_asked_for(tmp_path, labels, expected):
    path = write_dataset(tmp_path, [TWO_READINGS] * 8)
    with pytest.raises(
        UserError, match=r"15 columns can be polygons, or boxes with keypoints \(first: .*000.txt, row 1\)"
    ):
        boxes_of(path)
    path.write_text(path.read_text() + f"labels: {labels}\n")
    assert np.allclose(boxes_of(path), [expected] * 8)


def test_the_shape_of_keypoints_in_the_yaml_decides(tmp_path):
    path = write_dataset(tmp_path, [TWO_READINGS] * 8, "kpt_shape: [5, 2]\n")
    assert np.allclose(boxes_of(path), [[25, 30, 75, 70]] * 8)


def test_a_split_is_read_like_the_others(tmp_path):
    rng = np.random.default_rng(1)
    write_dataset(tmp_path, [with_points(rng, 5, 2)[0] for _ in range(20)])
    path = write_dataset(tmp_path, [TWO_READINGS], split="val")
    assert np.allclose(boxes_of(path, "val"), [[25, 30, 75, 70]])


def test_many_rows_without_any_reading_are_an_error(tmp_path):
    path = write_dataset(tmp_path, [[0.2, 0.2, 0.1, 0.1, 5, 7, 0.9, 0.1]] * 3)
    with pytest.raises(UserError, match="9 columns are neither.*add labels: box, polygon, box.keypoints or obb"):
        boxes_of(path)


def test_few_rows_without_any_reading_are_malformed(tmp_path):
    path = write_dataset(tmp_path, [[0.5, 0.5, 0.2, 0.2]] * 3 + [[0.2, 0.2, 0.1, 0.1, 5, 7, 0.9, 0.1]])
    split = open_split(load_data_config(path), "train")
    assert dict(split.problems) == {BAD_ROW: 1}


def test_boxes_beside_one_polygon(tmp_path):
    path = write_dataset(tmp_path, [[0.5, 0.5, 0.2, 0.2]] * 3 + [TWO_READINGS])
    assert boxes_of(path)[3].tolist() == pytest.approx([40, 40, 55, 60])


def test_a_sixth_column_that_is_no_confidence(tmp_path):
    path = write_dataset(tmp_path, [[0.5, 0.5, 0.2, 0.2, 17]] * 3)
    with pytest.raises(UserError, match="sixth column.*labels: box"):
        boxes_of(path)
    path.write_text(path.read_text() + "labels: box\n")
    assert np.allclose(boxes_of(path), [[40, 40, 60, 60]] * 3)


def test_unknown_values_of_labels(tmp_path):
    path = write_dataset(tmp_path, [[0.5, 0.5, 0.2, 0.2]], "labels: poligon\n")
    with pytest.raises(UserError, match=r"data.yaml: labels: expected one of box, polygon, .*did you mean 'polygon'"):
        load_data_config(path)


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_of_many_random_datasets(kind):
    wrong = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        rows = [KINDS[kind](rng)[0] for _ in range(20)]
        file = parse_labels("\n".join("0 " + " ".join(map(str, row)) for row in rows))
        wrong += decide_reading(file.long_rows, 0) != kind.split()[0]
    assert wrong == 0
