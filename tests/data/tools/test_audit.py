"""One fixture per problem, exact counts."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from graftdet.data.__main__ import main
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.exif import NOT_ROTATED, OTHER_SIZE
from graftdet.data.formats.validation import CLIPPED, DEGENERATE, MISSING, NOT_FINITE, OUTSIDE, UNREADABLE
from graftdet.data.tools import audit as audits
from graftdet.data.tools.audit import audit
from graftdet.data.tools.report import WARNINGS, format_report, report_status
from graftdet.utils import cli
from graftdet.utils.errors import UserError

WIDTH, HEIGHT = 64, 48


def encoded(suffix=".png", seed=0, channels=3, dtype=np.uint8, height=HEIGHT, width=WIDTH):
    """An encoded image of noise; its content depends on the seed."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    image = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    return cv2.imencode(suffix, image)[1].tobytes()


def with_exif(jpeg, orientation):
    """`jpeg` with an APP1 segment of this orientation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    payload = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def cmyk_jpeg(width=16, height=16):
    """A baseline JPEG of four components and one flat color, written by hand (ITU T.81)."""

    def segment(marker, payload):
        return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload

    table = segment(0xDB, b"\0" + b"\x01" * 64)
    frame = struct.pack(">BHHB", 8, height, width, 4) + b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3, 4))
    codes = b"".join(  # one code of one bit each: DC difference 0 bits long, and end of block
        segment(0xC4, bytes([kind]) + b"\x01" + b"\0" * 15 + b"\0") for kind in (0x00, 0x10)
    )
    scan = b"\x04" + b"".join(bytes([i, 0x00]) for i in (1, 2, 3, 4)) + b"\x00\x3f\x00"
    bits = 2 * 4 * (width // 8) * (height // 8)  # two zero bits per block
    adobe = segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0))
    data = b"\0" * (bits // 8)
    return b"\xff\xd8" + adobe + table + segment(0xC0, frame) + codes + segment(0xDA, scan) + data + b"\xff\xd9"


class Folder:
    """A small COCO dataset of three valid images per split, to which a test adds a problem."""

    def __init__(self, root: Path):
        self.root = root
        self.splits = {}
        for number, split in enumerate(("train", "val")):
            self.splits[split] = {
                "images": [],
                "annotations": [],
                "categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}],
            }
            for index in range(3):
                self.add(f"{split}_{index}.png", encoded(seed=10 * number + index), split=split)

    def add(self, name, data, boxes=((8, 8, 20, 20),), split="train", width=WIDTH, height=HEIGHT, **extra):
        """Add an image (None: the file is missing) with boxes xywh of the first category; return its id."""
        document = self.splits[split]
        if data is not None:
            path = self.root / "images" / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        image_id = len(document["images"]) + 1
        document["images"].append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box in boxes:
            self.annotate({"image_id": image_id, "category_id": 3, "bbox": list(box), "iscrowd": 0, **extra}, split)
        return image_id

    def annotate(self, annotation, split="train"):
        rows = self.splits[split]["annotations"]
        rows.append({"id": len(rows) + 1, **annotation})

    def save(self):
        lines = ["format: coco"]
        for split, document in self.splits.items():
            path = self.root / "annotations" / f"instances_{split}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(document))
            lines.append(f"{split}: {{images: images/{split}, annotations: annotations/instances_{split}.json}}")
        path = self.root / "data.yaml"
        path.write_text("\n".join(lines))
        return load_data_config(path)

    def report(self):
        return audit(self.save())


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "döta set")


def test_clean_dataset_has_no_problems(folder):
    folder.add("empty.png", encoded(seed=50), boxes=())
    folder.annotate({"image_id": 1, "category_id": 7, "bbox": [0, 0, 40, 40], "iscrowd": 1})
    folder.annotate({"image_id": 1, "category_id": 7, "bbox": [0, 0, 30, 40], "area": 9300})
    report = folder.report()
    train = report["splits"]["train"]
    assert (train["images"], train["usable"], train["empty"], train["boxes"], train["crowds"]) == (4, 4, 1, 4, 1)
    assert train["classes"] == {"a": 3, "b": 1} and report["names"] == ["a", "b"]
    assert train["sizes"] == {"small": 3, "medium": 0, "large": 1}  # 400 px, and 9300 px as in the source
    assert train["quantiles"]["box width"] == [20, 20, 20, 22.5, 30]
    assert train["quantiles"]["image width"] == [WIDTH] * 5
    assert [report["splits"][split]["problems"] for split in ("train", "val")] == [{}, {}]
    assert report["leakage"] == {"train-val": {"count": 0, "examples": []}}
    assert format_report(report).endswith("no problems found")


@pytest.mark.parametrize("crowd", [False, True])
def test_split_without_boxes_is_a_problem(folder, crowd):
    folder.splits["val"]["annotations"].clear()
    if crowd:
        folder.annotate({"image_id": 1, "category_id": 7, "bbox": [0, 0, 40, 40], "iscrowd": 1}, "val")
    report = folder.report()
    assert [report["splits"][split]["problems"] for split in ("train", "val")] == [{}, {audits.NO_BOXES: 1}]
    assert f"val: {audits.NO_BOXES}: 3 images, {'1 crowd' if crowd else '0 crowds'}" in format_report(report)


def write_defect(folder, kind):
    """Add the problem `kind` twice to the training split; return how many images become unusable."""
    good = encoded(seed=90), encoded(seed=91)
    jpeg = encoded(".jpg", seed=92), encoded(".jpg", seed=93)
    boxes = {
        DEGENERATE: [(8, 8, 0, 5), (9, 9, 5, -1)],
        OUTSIDE: [(WIDTH + 9, 5, 10, 10), (-30, 5, 10, 10)],
        CLIPPED: [(50, 5, 30, 10), (-5, 5, 10, 10)],
        NOT_FINITE: [(float("nan"), 5, 10, 10), ("x", 5, 10, 10)],
        audits.DUPLICATE_BOX: [(5, 5, 10, 10)] * 3,
    }
    images = {
        MISSING: (None, None),
        UNREADABLE: (b"not an image", b""),
        audits.TRUNCATED: (jpeg[0][: len(jpeg[0]) // 2], good[0][:-20]),
        audits.EXIF_ROTATED: (with_exif(jpeg[0], 3), with_exif(jpeg[1], 2)),
        audits.GRAYSCALE: (encoded(seed=92, channels=1), encoded(".jpg", seed=93, channels=1)),
        audits.ALPHA: (encoded(seed=92, channels=4), encoded(seed=93, channels=4)),
        audits.CMYK: (cmyk_jpeg(), cmyk_jpeg(16, 32)),
        audits.SIXTEEN_BIT: (encoded(seed=92, dtype=np.uint16), encoded(seed=93, dtype=np.uint16)),
        audits.DUPLICATE_IMAGE: (encoded(seed=0), encoded(seed=0)),
        OTHER_SIZE: (encoded(seed=90, width=40), encoded(seed=91, height=20)),
        NOT_ROTATED: (with_exif(jpeg[0], 6), with_exif(jpeg[1], 8)),
    }
    if kind in boxes:
        folder.add("defect.png", good[0], boxes[kind])
        return 0
    for number, data in enumerate(images[kind]):
        suffix = "jpg" if data and data[:2] == b"\xff\xd8" else "png"
        size = {"width": 16, "height": 16 * (number + 1)} if kind == audits.CMYK else {}
        folder.add(f"defect_{number}.{suffix}", data, [(2, 2, 6, 6)], **size)
    return 2 if kind in (MISSING, UNREADABLE, audits.TRUNCATED) else 0


DEFECTS = [
    DEGENERATE,
    OUTSIDE,
    CLIPPED,
    NOT_FINITE,
    audits.DUPLICATE_BOX,
    MISSING,
    UNREADABLE,
    audits.TRUNCATED,
    audits.EXIF_ROTATED,
    audits.GRAYSCALE,
    audits.ALPHA,
    audits.CMYK,
    audits.SIXTEEN_BIT,
    audits.DUPLICATE_IMAGE,
    OTHER_SIZE,
    NOT_ROTATED,
]


@pytest.mark.parametrize("kind", DEFECTS)
def test_each_defect_is_counted_exactly(folder, kind):
    lost = write_defect(folder, kind)
    report = folder.report()
    train = report["splits"]["train"]
    also = {NOT_ROTATED: {audits.EXIF_ROTATED: 2}}.get(kind, {})
    assert train["problems"] == {kind: 2, **also}
    assert train["usable"] == train["images"] - lost
    assert report["splits"]["val"]["problems"] == {}
    assert 1 <= len(train["examples"][kind]) <= 2 and "defect" in train["examples"][kind][0]
    assert kind in format_report(report) and "no problems" not in format_report(report)


def test_invalid_boxes_are_dropped_and_valid_ones_remain(folder):
    for kind in (DEGENERATE, OUTSIDE, CLIPPED, NOT_FINITE):
        write_defect(folder, kind)
    train = folder.report()["splits"]["train"]
    assert train["boxes"] == 3 + 2  # of the valid images, and the clipped ones
    samples = open_split(folder.save(), "train").samples
    assert sum(len(sample.boxes) for sample in samples) == 5


def test_annotations_without_an_image_or_a_category(folder):
    folder.annotate({"image_id": 99, "category_id": 3, "bbox": [1, 1, 5, 5]})
    folder.annotate({"image_id": 1, "category_id": 4, "bbox": [1, 1, 5, 5]})
    folder.annotate({"image_id": 1, "category_id": 3})
    problems = folder.report()["splits"]["train"]["problems"]
    assert problems == {
        "annotations without an image": 1,
        "annotations of a category that the file does not list": 1,
        "annotations that cannot be used": 1,
    }


def test_impossible_file_name_is_a_missing_image(folder):
    folder.add("x" * 5000 + ".png", None)
    assert folder.report()["splits"]["train"]["problems"] == {MISSING: 1}
    assert open_split(folder.save(), "train").problems == {MISSING: 1}


def test_leakage_between_splits_is_reported_with_both_paths(folder):
    folder.add("again.png", encoded(seed=1), split="val")  # the content of train_1.png
    report = folder.report()
    assert report["leakage"]["train-val"]["count"] == 1
    assert "again.png is " in report["leakage"]["train-val"]["examples"][0]
    assert f"{audits.LEAKAGE}: 1 (train-val" in format_report(report)


def test_more_than_half_unreadable_raises_in_training_but_not_in_the_audit(folder):
    for number in range(3):
        folder.add(f"gone_{number}.png", None)
    assert len(open_split(folder.save(), "train")) == 3  # exactly half
    folder.add("gone_3.png", None)
    with pytest.raises(UserError, match="4 of 7 images missing or unreadable, more than half"):
        open_split(folder.save(), "train")
    assert folder.report()["splits"]["train"]["problems"] == {MISSING: 4}


def test_check_prints_a_table_or_json_and_errors_in_one_line(folder, capsys):
    write_defect(folder, audits.GRAYSCALE)
    folder.annotate({"image_id": 1, "category_id": 7, "bbox": [30, 10, 20, 20]})
    yaml_path = folder.save().path

    def run(*arguments):
        """Exit status, standard output and standard error of `python -m data`."""
        status = 0
        try:
            cli.run(lambda: main([*arguments]))
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    status, table, _ = run("check", str(yaml_path))
    assert status == 0 and audits.GRAYSCALE in table and "images" in table
    for flags in (("--json",), ("--format", "json")):
        report = json.loads(run("check", str(yaml_path), *flags)[1])
        assert report["splits"]["train"]["problems"] == {audits.GRAYSCALE: 2}
    folder.annotate({"image_id": 1, "category_id": 9, "bbox": [30, 10, 20, 20]})
    assert run("check", str(folder.save().path))[0] == 1
    folder.splits["train"]["annotations"].clear()
    assert run("check", str(folder.save().path), "--json")[0] == 2
    for arguments in (("check", "no_such.yaml"), ("check", str(yaml_path), "--jsno"), ("chekc",), ()):
        status, _, error = run(*arguments)
        assert status == 2 and len(error.splitlines()) == 1, error


def test_real_images_have_no_problems(datasets_dir, monkeypatch):
    monkeypatch.setenv("DATASETS_DIR", str(datasets_dir))
    report = audit(load_data_config("coco_tiny.yaml"))
    train, val = report["splits"]["train"], report["splits"]["val"]
    assert (train["images"], train["boxes"], train["crowds"]) == (80, 699, 6)
    assert (val["images"], val["boxes"], val["crowds"]) == (80, 804, 11)
    assert not report["leakage"]["train-val"]["count"]


def test_a_test_split_that_is_missing_is_left_out(folder):
    """Some exports name a test split which they do not have; training does not need it."""
    path = folder.save().path
    missing = "{split}: {{images: images/no, annotations: annotations/no.json}}\n"
    path.write_text(path.read_text(encoding="utf-8") + "\n" + missing.format(split="test"), encoding="utf-8")
    report = audit(load_data_config(path))
    assert list(report["splits"]) == ["train", "val"] and "no.json" in report["left_out"]["test"]
    assert report_status(report) == WARNINGS and "test is left out: " in format_report(report)
    for text in (missing.format(split="train") + missing.format(split="test"), missing.format(split="test")):
        path.write_text("format: coco\n" + text, encoding="utf-8")
        with pytest.raises(UserError, match="no.json"):
            audit(load_data_config(path))
