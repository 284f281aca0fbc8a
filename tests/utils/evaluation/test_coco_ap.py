"""COCO AP: pycocotools is the reference, on random, odd and real annotations."""

import copy
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_ap import GroundTruth, coco_scores
from graftdet.utils.evaluation.metrics import precision_recall_curves

KEYS = ("AP50-95", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")


def random_truth(seed=0, images=12, category_ids=(1, 7, 3, 90), crowds=True):
    rng = np.random.default_rng(seed)
    truth = {
        "images": [{"id": int(i), "width": 640, "height": 480} for i in rng.permutation(images) * 3 + 5],
        "categories": [{"id": i, "name": f"class {i}"} for i in category_ids],
        "annotations": [],
    }
    for image in truth["images"][:-1]:  # the last has none
        for _ in range(rng.integers(0, 12)):
            w, h = rng.uniform(5, 200, 2).tolist()
            x, y = rng.uniform(0, 400, 2).tolist()
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "bbox": [x, y, w, h],
                    "area": w * h * float(rng.uniform(0.5, 1)),
                    "iscrowd": int(crowds and rng.uniform() < 0.15),
                    "category_id": int(rng.choice(category_ids[:-1])),  # the last has none
                }
            )
    return truth


def perturbed(truth, seed=1, spurious=20):
    """The ground-truth boxes, shifted, with scores of two digits (many ties), some twice, some of a wrong class, some invented."""
    rng = np.random.default_rng(seed)
    categories = [category["id"] for category in truth["categories"]]
    predictions = []
    for annotation in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            box = np.array(annotation["bbox"]) + rng.normal(0, 0.06, 4) * np.array(annotation["bbox"][2:] * 2)
            category = annotation["category_id"] if rng.uniform() < 0.9 else rng.choice(categories)
            predictions.append((annotation["image_id"], category, box))
    for _ in range(spurious):
        image = truth["images"][rng.integers(len(truth["images"]))]["id"]
        predictions.append((image, rng.choice(categories), rng.uniform(1, 200, 4)))
    return [
        {
            "image_id": image,
            "category_id": int(category),
            "bbox": box.clip(0.5).round(3).tolist(),
            "score": float(rng.uniform().__round__(2)),
        }
        for image, category, box in predictions
    ]


def by_pycocotools(truth, predictions):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    coco.createIndex()
    evaluator = COCOeval(coco, coco.loadRes(copy.deepcopy(predictions)), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    precision = evaluator.eval["precision"]
    per_class = {}
    for k, category in enumerate(evaluator.params.catIds):
        values = precision[:, :, k, 0, 2]
        per_class[category] = values[values > -1].mean() if (values > -1).any() else math.nan
    return dict(zip(KEYS, evaluator.stats)), per_class


def assert_same(ours, truth, predictions):
    theirs, per_class = by_pycocotools(truth, predictions)
    for key in KEYS:
        expected = theirs[key] if theirs[key] > -1 else math.nan
        assert ours[key] == pytest.approx(expected, abs=1e-9, nan_ok=True), key
    assert [entry["id"] for entry in ours["per_class"]] == [category["id"] for category in truth["categories"]]
    for entry in ours["per_class"]:
        assert entry["AP50-95"] == pytest.approx(per_class[entry["id"]], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("seed", range(4))
def test_scores_equal_pycocotools_on_random_data(seed, capsys):
    truth = random_truth(seed)
    predictions = perturbed(truth, seed)
    assert_same(coco_scores(truth, predictions), truth, predictions)


def test_scores_equal_pycocotools_on_more_than_100_detections():
    truth = random_truth(3, images=1, category_ids=(4, 2))
    truth["images"].append({"id": 1000})
    predictions = perturbed(random_truth(3, images=2, category_ids=(4, 2)), spurious=0)
    predictions = [
        {"image_id": truth["images"][0]["id"], "category_id": 4, "bbox": [i, i, 40, 40], "score": 1 - i / 500}
        for i in range(300)
    ]
    truth["annotations"] = [
        {
            "id": i + 1,
            "image_id": truth["images"][0]["id"],
            "category_id": 4,
            "bbox": [i, i, 40, 41],
            "area": 1640,
            "iscrowd": 0,
        }
        for i in range(0, 300, 3)
    ]
    ours = coco_scores(truth, predictions)
    assert_same(ours, truth, predictions)
    assert ours["AR100"] > ours["AR10"] > ours["AR1"] > 0
    _, hits = GroundTruth(truth).scores(predictions)
    curves = precision_recall_curves(hits, [p["score"] for p in predictions], np.zeros(300, int), [100])
    assert curves.at_recall.mean() == pytest.approx(ours["AP50"], abs=1e-12)  # the plot's number is the table's


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_scores_equal_pycocotools_on_real_annotations(datasets_dir, split):
    path = Path(datasets_dir) / "coco_tiny" / "annotations" / f"instances_{split}.json"
    truth = json.loads(path.read_text())
    predictions = perturbed(truth, spurious=300)
    ours = coco_scores(truth, predictions)
    assert_same(ours, truth, predictions)
    assert 0.2 < ours["AP50-95"] < 0.9


def test_perfect_predictions_score_one_and_nothing_is_printed_or_changed(capsys):
    truth = random_truth(crowds=False)
    predictions = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]
    before = copy.deepcopy((truth, predictions))
    scores = coco_scores(truth, predictions)
    assert scores["AP50-95"] == pytest.approx(1) and scores["AR100"] == pytest.approx(1)
    assert (truth, predictions) == before
    assert capsys.readouterr() == ("", "")


def test_no_predictions_score_zero():
    scores = coco_scores(random_truth(), [])
    assert [scores[key] for key in KEYS] == [0] * 9
    assert [entry["AP50"] for entry in scores["per_class"][:3]] == [0] * 3
    assert math.isnan(scores["per_class"][3]["AP50"])


@pytest.mark.parametrize("annotations", ["none", "crowds"])
def test_no_ground_truth_scores_zero(annotations):
    truth = random_truth()
    predictions = perturbed(truth)
    truth["annotations"] = [] if annotations == "none" else [{**a, "iscrowd": 1} for a in truth["annotations"]]
    scores = coco_scores(truth, predictions)
    assert scores["AP50-95"] == scores["AP50"] == scores["AR100"] == 0
    assert math.isnan(scores["APs"]) and all(math.isnan(entry["AP50"]) for entry in scores["per_class"])
    empty = coco_scores({"images": [], "annotations": [], "categories": []}, [])
    assert empty["AP50"] == 0 and empty["per_class"] == []


def test_ids_may_be_strings_zero_repeated_or_missing_and_fields_too():
    truth = random_truth(crowds=False)
    predictions = perturbed(truth)
    for annotation in truth["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    expected = coco_scores(truth, predictions)
    order = sorted(image["id"] for image in truth["images"])
    name = {image: f"image {number:03d}" for number, image in enumerate(order)}
    other = copy.deepcopy(truth)
    for number, annotation in enumerate(other["annotations"]):
        del annotation["area"], annotation["iscrowd"]
        annotation["id"] = 0
        if number % 2:
            del annotation["id"]
    for entry in (*other["annotations"], *predictions):
        entry["image_id"] = name[entry["image_id"]]
    for image in other["images"]:
        image["id"] = name[image["id"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal_scores(coco_scores(other, predictions), expected)


def assert_equal_scores(a, b):
    for key in KEYS:
        assert a[key] == pytest.approx(b[key], abs=1e-12, nan_ok=True), key


def test_predictions_for_unknown_images_are_an_error_and_for_unknown_categories_not():
    truth = random_truth()
    prediction = {"image_id": "x.jpg", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}
    with pytest.raises(UserError, match="'x.jpg' is not in the ground truth"):
        coco_scores(truth, [prediction])
    unknown = {**prediction, "image_id": truth["images"][0]["id"], "category_id": 12345}
    assert coco_scores(truth, [unknown])["AP50"] == 0
