"""12-bit images in 16-bit files: found, reported once, and scaled by `depth:`."""

import cv2
import numpy as np
import pytest

from graftdet.data.dataset import DetectionDataset, ItemKey
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.tools.audit import audit
from graftdet.data.tools.convert import convert
from graftdet.data.tools.report import CLEAN, WARNINGS, report_status
from graftdet.data.tools.split import split_dataset
from graftdet.utils.errors import UserError
from graftdet.utils.images.bit_depth import ABOVE_DEPTH, PART_OF_RANGE
from graftdet.utils.images.io import decode_image, sixteen_bit_range, unused_depth

GRAY = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4095


def write_dataset(root, shift, extra="", suffix=".png", count=3):
    for index in range(count):
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
        image = (GRAY << shift).astype(np.uint16)
        image[0, 0] = index
        (root / f"images/{index}{suffix}").write_bytes(cv2.imencode(suffix, image)[1].tobytes())
        (root / f"labels/{index}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    path = root / "data.yaml"
    path.write_text(f"train: images\nnames: [cat]\n{extra}")
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jp2", ".pgm"])
def test_the_depth_scales_the_values(suffix):
    data = cv2.imencode(suffix, GRAY)[1].tobytes()
    assert sixteen_bit_range(data) == (0, 4095)
    assert np.array_equal(decode_image(data, "a")[..., 0], GRAY >> 8)
    assert np.array_equal(decode_image(data, "a", depth=12)[..., 0], GRAY >> 4)
    assert np.array_equal(decode_image(data, "a", depth=10)[..., 0], np.minimum(GRAY >> 2, 255))


def test_color_alpha_and_8_bits(tmp_path):
    color = np.dstack([GRAY, GRAY // 2, GRAY // 4, GRAY])
    data = cv2.imencode(".png", color)[1].tobytes()
    assert np.array_equal(decode_image(data, "a", depth=12), color[..., :3] >> 4)
    eight = cv2.imencode(".png", (GRAY >> 4).astype(np.uint8))[1].tobytes()
    assert sixteen_bit_range(eight) is None
    assert np.array_equal(decode_image(eight, "a", depth=12), decode_image(eight, "a"))


@pytest.mark.parametrize(
    ("largest", "depth"), [(0, 8), (255, 8), (3000, 12), (16383, 14), (16384, None), (65535, None)]
)
def test_unused_depth(largest, depth):
    assert unused_depth(largest) == depth


@pytest.mark.parametrize("suffix", [".png", ".pgm"])
def test_check_reports_the_range_once_and_the_yaml_removes_it(tmp_path, suffix, caplog):
    path = write_dataset(tmp_path, 0, suffix=suffix)
    report = audit(load_data_config(path))
    train = report["splits"]["train"]
    assert train["problems"][PART_OF_RANGE] == 3 and report_status(report) == WARNINGS
    assert "values 0 to 4095 of 65535; depth: 12 in the data YAML" in train["examples"][PART_OF_RANGE][0]
    open_split(load_data_config(path), "train")
    assert caplog.text.count("depth: 12") == 1
    caplog.clear()
    path.write_text(path.read_text() + "depth: 12\n")
    report = audit(load_data_config(path))
    assert PART_OF_RANGE not in report["splits"]["train"]["problems"] and report_status(report) == CLEAN
    split = open_split(load_data_config(path), "train")
    assert not caplog.text
    for cache in ("none", "ram", "disk"):
        image = DetectionDataset(split, 64, cache=cache)[ItemKey(0, 1, 64)].image
        assert image.max() == 255, cache


def test_written_datasets_have_the_same_depth(tmp_path):
    config = load_data_config(write_dataset(tmp_path / "source", 0, "depth: 12\n"))
    converted = convert(config, "coco", tmp_path / "converted").yaml
    divided = split_dataset(config, [0.7, 0.3], tmp_path / "divided").yaml
    assert [load_data_config(path).reading.depth for path in (converted, divided)] == [12, 12]
    plain = load_data_config(write_dataset(tmp_path / "plain", 4))
    assert "depth" not in convert(plain, "yolo", tmp_path / "whole").yaml.read_text()


def test_the_whole_range_is_no_problem(tmp_path, caplog):
    path = write_dataset(tmp_path, 4)
    assert report_status(audit(load_data_config(path))) == CLEAN
    open_split(load_data_config(path), "train")
    assert not caplog.text


def test_a_depth_that_is_too_small(tmp_path):
    report = audit(load_data_config(write_dataset(tmp_path, 0, "depth: 10\n")))
    assert "depth: 12 in the data YAML fits" in report["splits"]["train"]["examples"][ABOVE_DEPTH][0]


@pytest.mark.parametrize("value", ["7", "17", "abc"])
def test_invalid_depths(tmp_path, value):
    with pytest.raises(UserError, match="data.yaml: depth: expected"):
        load_data_config(write_dataset(tmp_path, 0, f"depth: {value}\n"))
