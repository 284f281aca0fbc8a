"""COCO JSON as tools export it: foreign file names, no boxes, crowds everywhere, ids as text, categories without boxes."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.coco import CORNERS, OUTSIDE_FOLDER
from graftdet.data.formats.files.image_finder import AMBIGUOUS
from graftdet.data.formats.files.image_lists import LISTED_TWICE
from graftdet.data.formats.parsing.coco_json import BAD_ANNOTATION, NO_IMAGE, read_columns
from graftdet.data.formats.validation import MISSING, MOST_CROWDS
from graftdet.data.tools.audit import audit
from graftdet.data.tools.report import CLEAN, ERRORS, WARNINGS, format_report, report_status
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

WIDTH, HEIGHT = 40, 20


def write_dataset(root, images, annotations, files=(), categories=((1, "cat"), (2, "dog")), extra="", split="train"):
    """A COCO dataset; `images` are (id, file_name). Return its config."""
    for file in files:
        write_image(
            root / file, np.random.default_rng(len(str(file))).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        )
    (root / "images/train").mkdir(parents=True, exist_ok=True)
    document = {
        "images": [{"id": id_, "file_name": name, "width": WIDTH, "height": HEIGHT} for id_, name in images],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for id_, name in categories],
    }
    (root / f"{split}.json").write_text(json.dumps(document))
    text = "".join(
        f"{name}: {{images: images/train, annotations: {name}.json}}\n"
        for name in ("train", "val")
        if (root / f"{name}.json").is_file()
    )
    (root / "data.yaml").write_text(text + extra)
    return load_data_config(root / "data.yaml")


def annotation(image_id=1, category_id=1, bbox=(2, 3, 10, 8), **more):
    row = {"id": 1, "image_id": image_id, "category_id": category_id, **more}
    return row if bbox is None else {**row, "bbox": list(bbox)}


@pytest.mark.parametrize(
    "name",
    [
        "deep/a b.jpg",
        "deep\\a b.jpg",
        "./deep/a b.jpg",
        "train/deep/a b.jpg",
        "/home/ann/set/images/train/deep/a b.jpg",
        "C:\\Users\\ann\\images\\train\\deep\\a b.jpg",
        "..\\..\\deep\\a b.jpg",
        "../../else/deep/a b.jpg",
        "https://example.invalid/x/deep/a b.jpg",
        "https://example.invalid/x/deep/a%20b.jpg?size=5&token=1",
        "s3://bucket/deep/a b.jpg",
        "file:///data/deep/a%20b.jpg",
        "deep/a%20b.jpg",
        "/data/local-files/?d=project%5Cdeep%5Ca%20b.jpg",
        "a b.jpg",
        "elsewhere/a b.jpg",
        "a%20b.jpg",
    ],
)
def test_foreign_names_are_found(tmp_path, name):
    config = write_dataset(tmp_path, [(1, name)], [annotation()], ["images/train/deep/a b.jpg", "images/train/c.jpg"])
    split = open_split(config, "train")
    assert split.samples[0].path == tmp_path / "images/train/deep/a b.jpg" and not split.problems
    assert split.samples[0].boxes.tolist() == [[2, 3, 12, 11]]


def test_exact_paths_win_over_ends(tmp_path):
    files = ["images/train/a.jpg", "images/train/x/a.jpg", "images/train/a%20b.jpg", "images/train/a b.jpg"]
    config = write_dataset(tmp_path, [(1, "x/a.jpg"), (2, "a.jpg"), (3, "a%20b.jpg")], [annotation()], files)
    paths = [
        sample.path.relative_to(tmp_path / "images/train").as_posix() for sample in open_split(config, "train").samples
    ]
    assert paths == ["x/a.jpg", "a.jpg", "a%20b.jpg"]


def test_ambiguous_missing_and_outside_names_are_counted_and_named(tmp_path):
    files = [
        "images/train/x/a.jpg",
        "images/train/y/a.jpg",
        "images/train/b.jpg",
        "other.jpg",
        "images/train/c.jpg",
        "images/train/d.jpg",
    ]
    names = ["z/a.jpg", "one/b.jpg", "two/b.jpg", "gone.jpg", "../../../etc/other.conf", "c.jpg", "d.jpg"]
    config = write_dataset(tmp_path, list(enumerate(names, 1)), [annotation(6)], files)
    split = open_split(config, "train")
    assert [sample.path.name for sample in split.samples] == ["c.jpg", "d.jpg"]
    assert dict(split.problems) == {AMBIGUOUS: 3, MISSING: 1, OUTSIDE_FOLDER: 1}
    assert "'z/a.jpg'" in split.problems.examples[AMBIGUOUS][0] and "gone.jpg" in split.problems.examples[MISSING][0]


def test_names_are_not_searched_in_other_splits(tmp_path):
    config = write_dataset(
        tmp_path, [(1, "a.jpg"), (2, "b.jpg")], [annotation(2)], ["images/val/a.jpg", "images/train/b.jpg"]
    )
    assert dict(open_split(config, "train").problems) == {MISSING: 1}


def test_how_images_were_found_is_reported(tmp_path):
    files = ["images/train/a.jpg", "images/train/deep/b.jpg"]
    report = audit(
        write_dataset(tmp_path, [(1, "D:\\x\\a.jpg"), (2, "q/b.jpg")], [annotation(), annotation(2, 2)], files)
    )
    notes = report["splits"]["train"]["notes"]
    assert notes[0].startswith("1 image found by the end of the path (first: 'D:") and "name alone" in notes[1]
    assert report_status(report) == CLEAN and notes[0] in format_report(report)


POLYGON = [[4, 2, 14, 2, 14, 12]]


def rle(compressed):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[2:12, 4:14] = 1
    mask[5, 4] = 0
    encoded = coco_mask.encode(mask)
    if compressed:
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat, counts, value = mask.reshape(-1, order="F"), [0], 0
    for bit in flat.tolist():
        if bit != value:
            counts.append(0)
            value = bit
        counts[-1] += 1
    return {"size": [HEIGHT, WIDTH], "counts": counts}


@pytest.mark.parametrize(
    "segmentation",
    [
        POLYGON,
        POLYGON[0],
        [[4, 2, 8, 2, 8, 6], [10, 8, 14, 8, 14, 12]],
        [[[4, 2], [14, 2], [14, 12]]],
        [{"x": 4, "y": 2}, {"x": 14, "y": 2}, {"x": 14, "y": 12}],
        rle(compressed=True),
        rle(compressed=False),
    ],
)
@pytest.mark.parametrize("bbox", ["absent", None, []])
def test_boxes_are_derived_from_segmentations(tmp_path, segmentation, bbox):
    row = annotation(bbox=None, segmentation=segmentation)
    if bbox != "absent":
        row["bbox"] = bbox
    split = open_split(write_dataset(tmp_path, [(1, "a.jpg")], [row], ["images/train/a.jpg"]), "train")
    assert split.samples[0].boxes.tolist() == [[4, 2, 14, 12]] and not split.problems


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[]],
        [[1, 2]],
        [[1, 2, 3]],
        "x",
        [["a", 1, 2, 3]],
        {"size": [20, 40]},
        {"size": [20, 40], "counts": [0, 10**30]},
        {"size": [0, 0], "counts": []},
        {"size": [20, 40], "counts": "\x00\xff"},
        {"size": [20, 40], "counts": [5, -3, 2]},
        [[float("nan")] * 6],
        [[5, 5, 5, 5, 5, 5]],
    ],
)
def test_malformed_segmentations_are_counted(tmp_path, segmentation):
    rows = [annotation(bbox=None, segmentation=segmentation), annotation()]
    split = open_split(write_dataset(tmp_path, [(1, "a.jpg")], rows, ["images/train/a.jpg"]), "train")
    assert dict(split.problems) == {BAD_ANNOTATION: 1} and len(split.samples[0].boxes) == 1


def test_crowds_everywhere(tmp_path):
    rows = [annotation(iscrowd=1), annotation(category_id=2, iscrowd=1)]
    config = write_dataset(tmp_path, [(1, "a.jpg")], rows, ["images/train/a.jpg"])
    with pytest.raises(UserError, match="all are crowds; crowds: objects in the data YAML"):
        open_split(config, "train")
    report = audit(config)
    assert "crowds: objects" in format_report(report) and report_status(report) == ERRORS
    config = write_dataset(tmp_path, [(1, "a.jpg")], rows, extra="crowds: objects\n")
    samples = open_split(config, "train").samples
    assert samples[0].crowd.tolist() == [False, False] and report_status(audit(config)) == CLEAN


def test_mostly_crowds(tmp_path):
    rows = [annotation(iscrowd=1), annotation(category_id=2, iscrowd=1), annotation()]
    split = open_split(write_dataset(tmp_path, [(1, "a.jpg")], rows, ["images/train/a.jpg"]), "train")
    assert dict(split.problems) == {MOST_CROWDS: 2} and "crowds: objects" in split.problems.examples[MOST_CROWDS][0]


@pytest.mark.parametrize("kinds", [(str, str, str, str), (int, str, str, int), (str, int, int, str)])
def test_ids_as_text(tmp_path, kinds):
    in_images, in_annotations, in_categories, of_classes = kinds
    rows = [annotation(in_annotations(5), of_classes(2)), annotation(in_annotations(7), of_classes(1), id="9")]
    images, categories = (
        [(in_images(5), "a.jpg"), (in_images(7), "b.jpg")],
        [(in_categories(1), "cat"), (in_categories(2), "dog")],
    )
    split = open_split(
        write_dataset(tmp_path, images, rows, ["images/train/a.jpg", "images/train/b.jpg"], categories), "train"
    )
    assert [sample.labels.tolist() for sample in split.samples] == [[1], [0]] and not split.problems
    assert split.category_ids == [1, 2] and split.samples[1].annotation_ids.tolist() == [9]


def test_ambiguous_ids_are_not_converted(tmp_path):
    rows = [annotation(1), annotation("1", 2)]
    config = write_dataset(
        tmp_path, [("01", "a.jpg"), ("001", "b.jpg")], rows, ["images/train/a.jpg", "images/train/b.jpg"]
    )
    assert read_columns(tmp_path / "train.json").problems == {NO_IMAGE: 2}
    assert config.format == "coco"


@pytest.mark.parametrize("id_", ["cat", None, 1.5, ""])
def test_other_category_ids_are_refused(tmp_path, id_):
    config = write_dataset(tmp_path, [(1, "a.jpg")], [annotation()], categories=[(id_, "cat")])
    with pytest.raises(UserError, match=r"categories\[0\]: expected a whole number as id, and a name, got"):
        open_split(config, "train")


def test_categories_without_boxes_are_reported_and_dropped(tmp_path, caplog):
    categories, files = [(0, "blocks"), (1, "red"), (2, "green")], ["images/train/a.jpg", "images/train/bb.jpg"]
    arguments = [(1, "a.jpg")], [annotation(category_id=1)], files, categories
    write_dataset(tmp_path, [(1, "bb.jpg")], [annotation(category_id=2)], (), categories, split="val")
    config = write_dataset(tmp_path, *arguments)
    report = audit(config)
    assert report["empty_classes"] == ["blocks"] and report_status(report) == WARNINGS
    assert "classes without any box: 1 (blocks); drop_empty: true" in format_report(report)
    with caplog.at_level("INFO", logger="graftdet"):
        assert open_split(config, "train").names == ["blocks", "red", "green"]
    assert "2 classes without any box: blocks, green; drop_empty" in caplog.text
    config = write_dataset(tmp_path, *arguments, extra="drop_empty: true\n")
    train, val = (open_split(config, split) for split in ("train", "val"))
    assert train.names == val.names == ["red", "green"] and train.category_ids == val.category_ids == [1, 2]
    assert [train.samples[0].labels.tolist(), val.samples[0].labels.tolist()] == [[0], [1]]
    assert report_status(audit(config)) == CLEAN
    assert open_split(config, "val", ["green", "blocks"]).names == ["green", "blocks"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),  # accents as other systems write them
        ("x/caf\u00e9.jpg", "cafe\u0301.jpg"),
        (" a.jpg\n", "a.jpg"),
        ("https://example.invalid/x/a.jpg#part", "a.jpg"),
    ],
)
def test_names_in_other_spellings(tmp_path, name, file):
    config = write_dataset(tmp_path, [(1, name)], [annotation()], [f"images/train/{file}"])
    split = open_split(config, "train")
    assert split.samples[0].path.name == file and not split.problems


def test_an_image_with_two_entries_is_counted(tmp_path):
    rows = [annotation(1), annotation(2)]
    split = open_split(write_dataset(tmp_path, [(1, "a.jpg"), (2, "./a.jpg")], rows, ["images/train/a.jpg"]), "train")
    assert dict(split.problems) == {LISTED_TWICE: 1}


def test_relative_boxes_are_refused(tmp_path):
    config = write_dataset(tmp_path, [(1, "a.jpg")], [annotation(bbox=(0.1, 0.2, 0.5, 0.5))], ["images/train/a.jpg"])
    with pytest.raises(
        UserError, match=r"all boxes lie within 0..1, such as \[0.1, 0.2, 0.5, 0.5\]; expected .* pixels"
    ):
        open_split(config, "train")


def test_boxes_of_two_corners_are_reported(tmp_path):
    corners = [annotation(bbox=box) for box in ((20, 5, 39, 18), (25, 11, 38, 19), (1, 2, 3, 4))]
    images, files = [(1, "a.jpg")], ["images/train/a.jpg"]
    split = open_split(write_dataset(tmp_path, images, corners, files), "train")
    assert split.problems[CORNERS] == 3
    ordinary = [annotation(bbox=box) for box in ((20, 5, 39, 18), (25, 11, 38, 19), (9, 2, 3, 4))]
    assert CORNERS not in open_split(write_dataset(tmp_path, images, ordinary), "train").problems


def test_json_in_another_encoding_is_named(tmp_path):
    config = write_dataset(tmp_path, [(1, "a.jpg")], [annotation()], ["images/train/a.jpg"])
    document = json.loads((tmp_path / "train.json").read_text())
    document["categories"][0]["name"] = "\u72d7\u72d7"
    (tmp_path / "train.json").write_bytes(json.dumps(document, ensure_ascii=False).encode("gbk"))
    with pytest.raises(UserError, match=r"train.json:1: not UTF-8, likely .*iconv -f \w+ -t UTF-8 .* > converted.json"):
        open_split(config, "train")
