"""Splits as columns against samples one by one; COCO columns that are kept."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.formats import coco_json
from graftdet.data.formats.base import Problems, Split
from graftdet.data.formats.sample import Sample
from graftdet.data.formats.sample_table import SampleTable
from graftdet.data.formats.validation import MISSING, UNREADABLE, settle, settle_all
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import UnreadableImage, image_header, write_image


def make_samples(folder, count=60, seed=0):
    """Samples with everything that may be wrong with them, as formats yield them."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        if number % 11 == 3:
            path.write_bytes(b"no picture")
        elif number % 13 != 5:
            write_image(path, np.full((20, 40, 3), 90, np.uint8))
        boxes = rng.uniform(-3, 24, (int(rng.integers(0, 6)), 4))
        boxes[:, 2:] += boxes[:, :2]
        boxes[rng.random(boxes.shape) < 0.02] = np.nan
        boxes = np.where(rng.random((len(boxes), 1)) < 0.5, np.clip(boxes, 0, (40, 20, 40, 20)), boxes)
        fractions = number % 7 == 2
        width, height = [(40, 20), (80, 40), (0, 0), (30, 30), (40, 20)][number % 5] if not fractions else (0, 0)
        n = len(boxes)
        source = None if number % 2 or fractions else np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        boxes = boxes / (40, 20, 40, 20) if fractions else boxes
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
                fractions=fractions,
            )  # fmt: skip
        )
    return samples


def one_by_one(samples, problems):
    """`settle_all`, a sample at a time, every header read."""
    settled = []
    for sample in samples:
        try:
            header = image_header(sample.path)
        except UnreadableImage as error:
            problems.note(UNREADABLE if sample.path.exists() else MISSING, str(error)[:300])
        else:
            settled += settle(SampleTable.of([sample]), {0: header}, problems)
    return settled


def equal(one, other):
    for column in fields(Sample):
        a, b = getattr(one, column.name), getattr(other, column.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True), column.name
        else:
            assert a == b and type(a) is type(b), column.name


@pytest.mark.parametrize("seed", [0, 1])
def test_settling_by_columns_equals_settling_one_by_one(tmp_path, seed):
    samples = make_samples(tmp_path, seed=seed)
    slow, fast = Problems(), Problems()
    expected = one_by_one(samples, slow)
    table = settle_all(samples, fast, "here", every_header=True)
    assert len(table) == len(expected) < len(samples)
    for one, other in zip(expected, table, strict=True):
        equal(one, other)
    assert list(fast.items()) == list(slow.items()) and fast.examples == slow.examples and len(fast) >= 7


def test_declared_sizes_are_believed_where_all_boxes_fit(tmp_path):
    samples = [sample for sample in make_samples(tmp_path) if (tmp_path / f"{sample.image_id[2:]}.png").exists()]
    believed, read = (settle_all(samples, Problems(), "here", every) for every in (False, True))
    same = 0
    by_id = {sample.image_id: sample for sample in read}
    for sample in believed:
        if sample.image_id in by_id and (sample.width, sample.height) == (40, 20):
            equal(sample, by_id[sample.image_id])
            same += 1
    assert same > 20


def test_a_table_is_its_samples(tmp_path):
    samples = list(settle_all(make_samples(tmp_path), Problems(), "here"))
    table = SampleTable.of(samples)
    assert SampleTable.of(table) is table and len(table) == len(samples)
    for one, other in zip(samples, table, strict=True):
        equal(one, other)
    equal(table[-1], samples[-1])
    assert [sample.image_id for sample in table[3:9:2]] == [sample.image_id for sample in samples[3:9:2]]
    with pytest.raises(IndexError):
        table[len(table)]
    assert table[0].boxes.base is not None  # nothing is copied
    empty = SampleTable.of([])
    assert len(empty) == 0 and empty.boxes.shape == (0, 4) and list(empty) == []


def test_ground_truth_of_a_table_equals_that_of_its_samples(tmp_path):
    table = settle_all(make_samples(tmp_path), Problems(), "here")
    one, other = (Split("val", samples, list("abcd"), [7, 5, 9, 2]) for samples in (table, list(table)))
    truth = one.ground_truth()
    assert truth == other.ground_truth() and json.loads(json.dumps(truth)) == truth
    row = next(index for index, sample in enumerate(table) if len(sample.boxes))
    assert truth["annotations"][0] == {
        "id": truth["annotations"][0]["id"], "image_id": table[row].image_id, "iscrowd": int(table[row].crowd[0]),
        "category_id": [7, 5, 9, 2][table[row].labels[0]], "bbox": table[row].source_boxes[0].tolist(), "area": table[row].areas[0],
    }  # fmt: skip
    turned = one.in_order(list("dbca"))
    assert turned.category_ids == [2, 5, 9, 7]
    assert [turned.names[k] for k in turned.samples.labels] == [one.names[k] for k in table.labels]


@pytest.fixture
def big(tmp_path, monkeypatch):
    """A COCO data set whose JSON counts as large; (YAML, JSON's path, how often it was parsed)."""
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(coco_json, "WORTH_KEEPING", 0)
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
    place = tmp_path / "set/annotations/instances_train.json"
    place.parent.mkdir()
    categories = [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}]
    place.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}), encoding="utf-8")
    (tmp_path / "set/d.yaml").write_text(
        "train: {images: images/train, annotations: annotations/instances_train.json}\n"
    )
    return tmp_path / "set/d.yaml", place, parsed


def opened(path, **more):
    split = open_split(load_data_config(path), "train", **more)
    return split.ground_truth(), split.names, split.problems, split.problems.examples


def test_columns_are_kept_and_found_again(big):
    path, place, parsed = big
    first = opened(path)
    assert len(parsed) == 1 and opened(path) == first and len(parsed) == 1
    assert first[1] == ["a", "b"] and sum(first[2].values()) >= 3
    selected = opened(path, names=["b"])
    assert len(parsed) == 1 and selected[1] == ["b"] and {a["category_id"] for a in selected[0]["annotations"]} == {2}
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace("1.25", "1.5"), encoding="utf-8")  # another content, whatever its date
    changed = opened(path)
    assert len(parsed) == 2 and changed[0]["annotations"][0]["bbox"][1] == 1.5
    moved = place.rename(place.with_name("other.json"))
    path.write_text("train: {images: images/train, annotations: annotations/other.json}\n")
    assert str(moved) in " ".join(place for places in opened(path)[3].values() for place in places)


@pytest.mark.parametrize("torn", [b"", b"PK\x03\x04 and no more", None])
def test_kept_columns_that_are_torn_are_made_anew(big, tmp_path, torn):
    path, _, parsed = big
    first = opened(path)
    (kept,) = (tmp_path / "kept/annotations").iterdir()
    kept.write_bytes(kept.read_bytes()[:-300] if torn is None else torn)
    assert opened(path) == first and len(parsed) == 2
    assert opened(path) == first and len(parsed) == 2


def test_without_room_nothing_is_kept(big, monkeypatch):
    path, _, parsed = big

    def full(*_):
        raise UserError("no space left")

    monkeypatch.setattr(coco_json, "write_atomically", full)
    assert opened(path) == opened(path) and len(parsed) == 2


def test_one_class_changes_a_table_only_for_itself(big):
    path, _, _ = big
    config = load_data_config(path)
    one, all_ = open_split(config, "train", single_class=True), open_split(config, "train")
    assert set(one.samples.labels) == {0} and set(all_.samples.labels) == {0, 1}
    assert replace(one.samples, labels=all_.samples.labels).ends.tolist() == all_.samples.ends.tolist()
