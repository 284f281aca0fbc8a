"""Splits as columns against samples one by one; cached COCO columns."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.parsing import coco_json
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.formats.validation import MISSING, UNREADABLE, validate_samples, validate_table
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import UnreadableImage, image_header, write_image


def make_samples(folder, count=60, seed=0):
    """Samples with all kinds of problems, as formats yield them."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        if number % 11 == 3:
            path.write_bytes(b"not an image")
        elif number % 13 != 5:
            write_image(path, np.full((20, 40, 3), 90, np.uint8))
        boxes = rng.uniform(-3, 24, (int(rng.integers(0, 6)), 4))
        boxes[:, 2:] += boxes[:, :2]
        boxes[rng.random(boxes.shape) < 0.02] = np.nan
        boxes = np.where(rng.random((len(boxes), 1)) < 0.5, np.clip(boxes, 0, (40, 20, 40, 20)), boxes)
        normalized = number % 7 == 2
        width, height = [(40, 20), (80, 40), (0, 0), (30, 30), (40, 20)][number % 5] if not normalized else (0, 0)
        n = len(boxes)
        source = None if number % 2 or normalized else np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        boxes = boxes / (40, 20, 40, 20) if normalized else boxes
        areas = np.where(rng.random(n) < 0.5, np.nan, rng.uniform(1, 9, n))
        samples.append(
            Sample(
                path,
                boxes,
                rng.integers(0, 4, n),
                rng.random(n) < 0.2,
                areas,
                np.arange(n),
                f"id{number}",
                width,
                height,
                source_boxes=source,
                normalized=normalized,
            )
        )
    return samples


def one_by_one(samples, problems):
    """`validate_samples`, one sample at a time, with every header read."""
    validated = []
    for sample in samples:
        try:
            header = image_header(sample.path)
        except UnreadableImage as error:
            problems.add(UNREADABLE if sample.path.exists() else MISSING, str(error)[:300])
        else:
            validated += validate_table(SampleTable.from_samples([sample]), {0: header}, problems)
    return validated


def equal(one, other):
    for column in fields(Sample):
        a, b = getattr(one, column.name), getattr(other, column.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True), column.name
        else:
            assert a == b and type(a) is type(b), column.name


@pytest.mark.parametrize("seed", [0, 1])
def test_validation_by_columns_equals_validation_one_by_one(tmp_path, seed):
    samples = make_samples(tmp_path, seed=seed)
    slow, fast = ProblemCounts(), ProblemCounts()
    expected = one_by_one(samples, slow)
    table = validate_samples(samples, fast, "here", every_header=True)
    assert len(table) == len(expected) < len(samples)
    for one, other in zip(expected, table, strict=True):
        equal(one, other)
    assert list(fast.items()) == list(slow.items()) and fast.examples == slow.examples and len(fast) >= 7


def test_declared_sizes_are_trusted_if_all_boxes_fit(tmp_path):
    samples = [sample for sample in make_samples(tmp_path) if (tmp_path / f"{sample.image_id[2:]}.png").exists()]
    trusted, read = (validate_samples(samples, ProblemCounts(), "here", every) for every in (False, True))
    same = 0
    by_id = {sample.image_id: sample for sample in read}
    for sample in trusted:
        if sample.image_id in by_id and (sample.width, sample.height) == (40, 20):
            equal(sample, by_id[sample.image_id])
            same += 1
    assert same > 20


def test_table_equals_its_samples(tmp_path):
    samples = list(validate_samples(make_samples(tmp_path), ProblemCounts(), "here"))
    table = SampleTable.from_samples(samples)
    assert SampleTable.from_samples(table) is table and len(table) == len(samples)
    for one, other in zip(samples, table, strict=True):
        equal(one, other)
    equal(table[-1], samples[-1])
    assert [sample.image_id for sample in table[3:9:2]] == [sample.image_id for sample in samples[3:9:2]]
    with pytest.raises(IndexError):
        table[len(table)]
    assert table[0].boxes.base is not None  # nothing is copied
    empty = SampleTable.from_samples([])
    assert len(empty) == 0 and empty.boxes.shape == (0, 4) and list(empty) == []


def test_ground_truth_of_table_and_samples_is_equal(tmp_path):
    table = validate_samples(make_samples(tmp_path), ProblemCounts(), "here")
    one, other = (Split("val", samples, list("abcd"), [7, 5, 9, 2]) for samples in (table, list(table)))
    truth = one.ground_truth()
    assert truth == other.ground_truth() and json.loads(json.dumps(truth)) == truth
    row = next(index for index, sample in enumerate(table) if len(sample.boxes))
    assert truth["annotations"][0] == {
        "id": truth["annotations"][0]["id"],
        "image_id": table[row].image_id,
        "iscrowd": int(table[row].crowd[0]),
        "category_id": [7, 5, 9, 2][table[row].labels[0]],
        "bbox": table[row].source_boxes[0].tolist(),
        "area": table[row].areas[0],
    }
    reordered = one.reorder_classes(list("dbca"))
    assert reordered.category_ids == [2, 5, 9, 7]
    assert [reordered.names[k] for k in reordered.samples.labels] == [one.names[k] for k in table.labels]


@pytest.fixture
def large_coco(tmp_path, monkeypatch):
    """A COCO dataset whose JSON counts as large: (YAML, path of the JSON, list of its parses)."""
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(coco_json, "MIN_CACHED_BYTES", 0)
    parsed, parse = [], coco_json._parse
    monkeypatch.setattr(coco_json, "_parse", lambda *args: parsed.append(1) or parse(*args))
    images = [{"id": name, "file_name": f"{name}.png", "width": 40, "height": 20} for name in (3, "a ü", 1)]
    images.append({"id": 4})
    for image in images[:3]:
        write_image(tmp_path / "set/images/train" / image["file_name"], np.full((20, 40, 3), 90, np.uint8))
    rows = [
        {
            "id": n,
            "image_id": images[n % 3]["id"],
            "category_id": 1 + n % 2,
            "bbox": [n, 1.25, 5, n],
            "area": n or None,
            "iscrowd": int(n in (3, 4)),
        }
        for n in range(9)
    ] + [{"id": 99, "image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    json_path = tmp_path / "set/annotations/instances_train.json"
    json_path.parent.mkdir()
    categories = [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}]
    json_path.write_text(
        json.dumps({"images": images, "annotations": rows, "categories": categories}), encoding="utf-8"
    )
    (tmp_path / "set/d.yaml").write_text(
        "train: {images: images/train, annotations: annotations/instances_train.json}\n"
    )
    return tmp_path / "set/d.yaml", json_path, parsed


def opened(path, **more):
    split = open_split(load_data_config(path), "train", **more)
    return split.ground_truth(), split.names, split.problems, split.problems.examples


def test_columns_are_cached(large_coco):
    path, json_path, parsed = large_coco
    first = opened(path)
    assert len(parsed) == 1 and opened(path) == first and len(parsed) == 1
    assert first[1] == ["a", "b"] and sum(first[2].values()) >= 3
    selected = opened(path, names=["b"])
    assert len(parsed) == 1 and selected[1] == ["b"] and {a["category_id"] for a in selected[0]["annotations"]} == {2}
    text = json_path.read_text(encoding="utf-8")
    json_path.write_text(text.replace("1.25", "1.5"), encoding="utf-8")  # other content
    changed = opened(path)
    assert len(parsed) == 2 and changed[0]["annotations"][0]["bbox"][1] == 1.5
    moved = json_path.rename(json_path.with_name("other.json"))
    path.write_text("train: {images: images/train, annotations: annotations/other.json}\n")
    assert str(moved) in " ".join(location for examples in opened(path)[3].values() for location in examples)


@pytest.mark.parametrize("malformed", [b"", b"PK\x03\x04 and no more", None])
def test_malformed_cache_files_are_replaced(large_coco, tmp_path, malformed):
    path, _, parsed = large_coco
    first = opened(path)
    (cached,) = (tmp_path / "cache/annotations").iterdir()
    cached.write_bytes(cached.read_bytes()[:-300] if malformed is None else malformed)
    assert opened(path) == first and len(parsed) == 2
    assert opened(path) == first and len(parsed) == 2


def test_full_disk_disables_the_cache(large_coco, monkeypatch):
    path, _, parsed = large_coco

    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(coco_json, "write_atomically", full)
    assert opened(path) == opened(path) and len(parsed) == 2


def test_single_class_does_not_change_other_splits(large_coco):
    path, _, _ = large_coco
    config = load_data_config(path)
    one, all_ = open_split(config, "train", single_class=True), open_split(config, "train")
    assert set(one.samples.labels) == {0} and set(all_.samples.labels) == {0, 1}
    assert replace(one.samples, labels=all_.samples.labels).offsets.tolist() == all_.samples.offsets.tolist()
