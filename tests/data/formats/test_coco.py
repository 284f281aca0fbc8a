import json
import os

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.exif import NOT_ROTATED, OTHER_RESOLUTION, OTHER_SIZE
from graftdet.data.formats import FORMATS
from graftdet.data.formats.coco import OUTSIDE_FOLDER
from graftdet.data.formats.format import OTHER_CLASS
from graftdet.data.formats.parsing.coco_json import BAD_ANNOTATION, BAD_IMAGE, NO_CATEGORY, NO_IMAGE
from graftdet.data.formats.validation import CLIPPED, DEGENERATE, MISSING, NOT_FINITE, OUTSIDE, UNREADABLE
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image

CATEGORIES = [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}, {"id": 8, "name": "cow"}]


def entry(image_id, width=40, height=20, **more):
    return {"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height, **more}


def row(id_, image_id, category=7, bbox=(1, 2, 10, 5), **more):
    return {"id": id_, "image_id": image_id, "category_id": category, "bbox": list(bbox), **more}


def make(root, images, annotations, categories=CATEGORIES, image_names=None, text=None, yaml=""):
    """Write a COCO dataset with 40x20 images; return the path of its YAML."""
    for name in image_names if image_names is not None else [image["file_name"] for image in images]:
        write_image(root / "images/train" / name, np.full((20, 40, 3), 90, np.uint8))
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations/instances_train.json").write_text(text or json.dumps(document), encoding="utf-8")
    (root / "images/train").mkdir(parents=True, exist_ok=True)
    splits = "train: {images: images/train, annotations: annotations/instances_train.json}\n"
    (root / "d.yaml").write_text(splits + yaml, encoding="utf-8")
    return root / "d.yaml"


def open_train(path, **more):
    return open_split(load_data_config(path), "train", **more)


def test_ids_with_gaps_map_to_indices_and_back(tmp_path):
    split = open_train(make(tmp_path, [entry(10**10), entry(3)], [row(5, 3, 90), row(4, 10**10, 7), row(9, 3, 8)]))
    assert split.names == ["cat", "cow", "dog"] and split.category_ids == [7, 8, 90]
    assert [sample.labels.tolist() for sample in split.samples] == [[0], [2, 1]]
    truth = split.ground_truth()
    assert [image["id"] for image in truth["images"]] == [10**10, 3]
    assert [(a["id"], a["image_id"], a["category_id"]) for a in truth["annotations"]] == [
        (4, 10**10, 7),
        (5, 3, 90),
        (9, 3, 8),
    ]
    assert {c["id"]: c["name"] for c in truth["categories"]} == {7: "cat", 8: "cow", 90: "dog"}


def test_nc_must_match_the_json(tmp_path):
    path = make(tmp_path, [entry(1)], [row(1, 1, 90)], yaml="nc: 3\n")
    assert open_train(path).names == ["cat", "cow", "dog"]
    path = make(tmp_path, [entry(1)], [row(1, 1, 90)], yaml="nc: 7\n")
    with pytest.raises(UserError, match="d.yaml: nc is 7 but .*instances_train.json has 3 categories"):
        open_train(path)
    path = make(tmp_path, [entry(1)], [row(1, 1, 90)], yaml="nc: 2\nnames: [dog, cat]\n")  # a subset
    assert open_train(path).names == ["dog", "cat"]


def test_names_select_and_order_classes(tmp_path):
    annotations = [row(1, 1, 90), row(2, 1, 7), row(3, 1, 8)]
    path = make(tmp_path, [entry(1)], annotations, yaml="names: [dog, cat]\n")
    split = open_train(path)
    assert split.category_ids == [90, 7] and split.samples[0].labels.tolist() == [0, 1]
    assert split.problems == {OTHER_CLASS: 1} and "1 of 'cow'" in split.problems.examples[OTHER_CLASS][0]
    assert open_train(path, single_class=True).names == ["object"]
    assert open_train(path, single_class=True).samples[0].labels.tolist() == [0, 0]
    with pytest.raises(UserError, match="unknown class 'cta'; did you mean 'cat'"):
        open_train(make(tmp_path, [entry(1)], annotations, yaml="names: [cta]\n"))


def test_missing_values_get_defaults(tmp_path):
    crowd = row(0, 1, iscrowd=1, area=33.25, segmentation={"counts": [1], "size": [20, 40]})
    split = open_train(
        make(
            tmp_path,
            [{"id": 1, "file_name": "1.png"}, entry(2)],
            [crowd, row(5, 1), row(5, 1), {**row(0, 1), "id": None}],
        )
    )
    sample = split.samples[0]
    assert (sample.width, sample.height) == (40, 20) and len(split.samples[1].boxes) == 0
    assert sample.crowd.tolist() == [True, False, False, False] and sample.areas.tolist() == [33.25, 50, 50, 50]
    truth = split.ground_truth()["annotations"]
    ids = [annotation["id"] for annotation in truth]
    assert len(set(ids)) == 4 and min(ids) >= 1 and 5 in ids
    assert [a["iscrowd"] for a in truth] == [1, 0, 0, 0] and truth[1]["area"] == 50
    assert len(split.ground_truth()["images"]) == 2


def test_ground_truth_boxes_are_exactly_those_of_the_source(tmp_path):
    split = open_train(make(tmp_path, [entry(1)], [row(1, 1, bbox=(0.123456789, 0.1, 39.9, 19.95))]))
    assert split.ground_truth()["annotations"][0]["bbox"] == [0.123456789, 0.1, 39.9, 19.95]
    assert split.samples[0].boxes.max() <= 40 and not split.problems  # exceeds the image by less than rounding


def test_malformed_entries_are_dropped_and_counted(tmp_path):
    images = [
        entry(1),
        entry(1),
        entry(2, file_name="../../../x.png"),
        entry(3, file_name="/etc/x.png"),
        entry(4, file_name=5),
        entry(5, file_name="a\0.png"),
        {"file_name": "x.png"},
        "text",
        entry(True),
        entry(6),
        entry(7),
    ]
    annotations = [
        row(1, 1),
        row(2, 99),
        row(3, 1, 555),
        "text",
        {"id": 4},
        {**row(5, 1), "image_id": [1]},
        {"image_id": 1, "category_id": 7},
        row(6, 1, bbox=(1, 2, 3)),
        row(7, 1, bbox=("a", 2, 3, 4)),
        row(8, 1, bbox=(1, 2, float("nan"), 4)),
        row(8, 1, bbox=(1, 2, 10**400, 4)),
        row(9, 1, bbox=(5, 5, 0, 3)),
        row(9, 1, bbox=(5, 5, 3, -3)),
        row(9, 1, bbox=(50, 5, 3, 3)),
        row(9, 1, bbox=(35, 5, 30, 3)),
    ]
    split = open_train(make(tmp_path, images, annotations, image_names=["1.png", "6.png"]))
    assert dict(split.problems) == {
        BAD_IMAGE: 5,
        OUTSIDE_FOLDER: 3,
        MISSING: 1,
        NO_IMAGE: 1,
        NO_CATEGORY: 1,
        BAD_ANNOTATION: 4,
        NOT_FINITE: 4,
        DEGENERATE: 2,
        OUTSIDE: 1,
        CLIPPED: 1,
    }
    assert split.samples[0].boxes.tolist() == [[1, 2, 11, 7], [35, 5, 40, 8]]
    assert [sample.image_id for sample in split.samples] == [1, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected a mapping"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"annotations": []}', "'images' should be a list, got nothing"),
        ('{"images": {}, "annotations": []}', "'images' should be a list, got a dict"),
        ('{"images": [], "categories": [{"id": "a", "name": "b"}]}', "expected a whole number as id, and a name"),
        (
            '{"images": [], "categories": [{"id": 1, "name": "b"}, {"id": 1, "name": "c"}]}',
            "id 1 is already used by 'b'",
        ),
        ('{"images": [], "categories": []}', "no classes"),
        ('{"images": [], "categories": [{"id": 1, "name": "b"}]}', "no images found"),
    ],
)
def test_invalid_coco_json(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        open_train(make(tmp_path, [], [], text=text))


def test_more_than_half_missing_raises(tmp_path):
    images = [entry(number) for number in range(4)]
    assert len(open_train(make(tmp_path, images, [row(1, 0)], image_names=["0.png", "1.png"])).samples) == 2
    (tmp_path / "images/train/1.png").unlink()
    with pytest.raises(UserError, match="3 of 4 images missing or unreadable, more than half.*1.png"):
        open_train(tmp_path / "d.yaml")


def test_unreadable_images_of_unknown_size_are_counted(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(3)]
    path = make(tmp_path, images, [row(1, 0)])
    (tmp_path / "images/train/2.png").write_text("not an image")
    assert dict(open_train(path).problems) == {UNREADABLE: 1}


def test_headers_are_read_only_if_needed(tmp_path, monkeypatch):
    images = [entry(1), entry(2), {"id": 3, "file_name": "3.png"}, entry(4, width=0), entry(5, height=0)]
    path = make(tmp_path, images, [row(1, 1), row(2, 2, bbox=(30, 2, 30, 4))])
    from graftdet.data.formats import validation

    read, requested = validation.image_header, []
    monkeypatch.setattr(validation, "image_header", lambda path: requested.append(os.path.basename(path)) or read(path))
    open_train(path)
    assert sorted(requested) == ["2.png", "3.png", "4.png", "5.png"]


@pytest.mark.parametrize(("excess", "clipped"), [(0.5, 0), (0.625, 1)])
def test_half_a_pixel_outside_is_rounding(tmp_path, excess, clipped):
    boxes = [(-excess, 2, 10, 5), (30, 10, 10 + excess, 5), (3, -excess, 5, 5), (3, 15, 5, 5 + excess)]
    split = open_train(make(tmp_path, [entry(1)], [row(index, 1, bbox=box) for index, box in enumerate(boxes)]))
    assert split.problems[CLIPPED] == clipped * len(boxes)
    assert split.samples[0].boxes.min() == 0 and split.samples[0].boxes.max(0).tolist()[2:] == [40, 20]


@pytest.mark.parametrize(
    ("declared", "bbox", "kind", "boxes", "size"),
    [
        ((80, 40), (70, 30, 20, 8), OTHER_RESOLUTION, [[70, 30, 80, 38]], (80, 40)),  # clipped in the declared size
        ((30, 30), (20, 2, 15, 8), OTHER_SIZE, [[20, 2, 35, 10]], (40, 20)),  # the size of the image is used
        ((20, 10), (20, 2, 15, 8), OTHER_SIZE, [[20, 2, 35, 10]], (40, 20)),  # boxes do not fit into the declared size
    ],
)
def test_declared_size_differs_from_the_image(tmp_path, declared, bbox, kind, boxes, size):
    split = open_train(make(tmp_path, [entry(1, *declared)], [row(1, 1, bbox=bbox)]))
    sample = split.samples[0]
    assert sample.boxes.tolist() == boxes and (sample.width, sample.height) == size
    assert split.problems[kind] == 1 and sample.apply_exif and split.problems[NOT_ROTATED] == 0


def test_folders_and_json_files_are_found(tmp_path):
    make(tmp_path, [entry(1)], [row(1, 1)])
    for value in (
        "images/train",
        "annotations/instances_train.json",
        "{annotations: annotations/instances_train.json}",
    ):
        (tmp_path / "d.yaml").write_text(f"train: {value}\n")
        assert len(open_train(tmp_path / "d.yaml").samples[0].boxes) == 1
    roboflow = tmp_path / "train"
    write_image(roboflow / "1.png", np.zeros((20, 40, 3), np.uint8))
    (roboflow / "_annotations.coco.json").write_bytes((tmp_path / "annotations/instances_train.json").read_bytes())
    (tmp_path / "d.yaml").write_text("train: ../train\n")
    assert open_train(tmp_path / "d.yaml").samples[0].path.parent == roboflow


def test_backslashes_and_subfolders(tmp_path):
    image = entry(1, file_name="deep\\er\\1.png")
    split = open_train(make(tmp_path, [image], [row(1, 1)], image_names=["deep/er/1.png"]))
    assert split.samples[0].path == tmp_path / "images/train/deep/er/1.png"


def test_writer_replaces_text_ids_by_numbers(tmp_path):
    for ids, expected in ((["a", "b"], [1, 2]), ([7, 3], [7, 3])):
        samples = open_train(make(tmp_path, [entry(one) for one in ids], [row(1, ids[1])])).samples
        writer = FORMATS["coco"].Writer(tmp_path / "out", ["cat", "cow", "dog"], [7, 8, 90])
        writer.write_split("val", samples, [sample.path for sample in samples])
        written = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
        assert [image["id"] for image in written["images"]] == expected
        assert [annotation["image_id"] for annotation in written["annotations"]] == [expected[1]]
        assert sum(writer.problems.values()) == (2 if ids[0] == "a" else 0)


def test_real_coco(datasets_dir, monkeypatch):
    monkeypatch.setenv("DATASETS_DIR", str(datasets_dir))
    config = load_data_config("coco_tiny")
    split = open_split(config, "val")
    source = json.loads((datasets_dir / "coco_tiny/annotations/instances_val2017.json").read_text())
    assert (
        len(split) == 80 and len(split.names) == 80 and split.category_ids[-1] == 90 and split.names[11] == "stop sign"
    )
    truth = {annotation["id"]: annotation for annotation in split.ground_truth()["annotations"]}
    assert len(truth) == len(source["annotations"]) and sum(a["iscrowd"] for a in truth.values()) == 11
    for annotation in source["annotations"]:
        same = truth[annotation["id"]]
        assert all(same[key] == annotation[key] for key in ("bbox", "area", "iscrowd", "image_id", "category_id"))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ([], "no annotations"),
        (
            [row(1, 5, iscrowd=1), row(2, 5, iscrowd=1)],
            "all are crowds; crowds: objects in the data YAML reads crowd regions as objects",
        ),
    ],
)
def test_split_without_boxes_is_reported(tmp_path, capsys, split, annotations, reason):
    path = make(tmp_path, [entry(5)], annotations)
    path.write_text(path.read_text() + path.read_text().splitlines()[-1].replace("train:", "val:") + "\n")
    if split == "train":
        with pytest.raises(UserError, match=rf"train: no boxes to train on \({reason}\)"):
            open_train(path)
    else:
        open_split(load_data_config(path), "val")
        assert f"val: no boxes to evaluate on ({reason})" in capsys.readouterr().err


def test_names_of_categories_have_no_spaces_around_them(tmp_path):
    categories = [{"id": 7, "name": " cat "}]
    path = make(tmp_path, [entry(1)], [row(1, 1)], categories, yaml="names: [cat]\n")
    assert open_train(path).names == ["cat"]
    path = make(tmp_path, [entry(1)], [row(1, 1)], [{"id": 7, "name": " "}])
    with pytest.raises(UserError, match=r"categories\[0\]: expected a whole number as id, and a name"):
        open_train(path)
