import copy
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.errors import UserError
from utils.ensemble import Ensemble
from utils.evaluate import coco_scores, evaluate, format_table, print_table

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
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image["id"], "bbox": [x, y, w, h],
                "area": w * h * float(rng.uniform(0.5, 1)), "iscrowd": int(crowds and rng.uniform() < 0.15),
                "category_id": int(rng.choice(category_ids[:-1])),  # the last has none
            })  # fmt: skip
    return truth


def perturbed(truth, seed=1, spurious=20):
    """The true boxes, shifted, with scores of two digits (many ties), some twice, some of a wrong class, some invented."""
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
        {"image_id": image, "category_id": int(category), "bbox": box.clip(0.5).round(3).tolist(),
         "score": float(rng.uniform().__round__(2))}
        for image, category, box in predictions
    ]  # fmt: skip


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
        {"id": i + 1, "image_id": truth["images"][0]["id"], "category_id": 4, "bbox": [i, i, 40, 41], "area": 1640,
         "iscrowd": 0}
        for i in range(0, 300, 3)
    ]  # fmt: skip
    ours = coco_scores(truth, predictions)
    assert_same(ours, truth, predictions)
    assert ours["AR100"] > ours["AR10"] > ours["AR1"] > 0


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
    name = {image: f"picture {number:03d}" for number, image in enumerate(order)}
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


def test_predictions_for_unknown_pictures_are_an_error_and_for_unknown_categories_not():
    truth = random_truth()
    prediction = {"image_id": "x.jpg", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}
    with pytest.raises(UserError, match="'x.jpg' is not in the ground truth"):
        coco_scores(truth, [prediction])
    unknown = {**prediction, "image_id": truth["images"][0]["id"], "category_id": 12345}
    assert coco_scores(truth, [unknown])["AP50"] == 0


# --- the loop -------------------------------------------------------------------------------------------------------

SIZE, GAIN, PAD = 64, 0.5, (8.0, 4.0)


def small_set(image_ids=(11, "b", 3)):
    """Three pictures of 96 x 112 (h, w), letterboxed by GAIN and PAD; the second has no object."""
    annotations = [
        {"image_id": image_ids[0], "category_id": 9, "bbox": [10, 10, 40, 40]},
        {"image_id": image_ids[0], "category_id": 5, "bbox": [60, 20, 30, 50]},
        {"image_id": image_ids[2], "category_id": 9, "bbox": [20, 30, 60, 60]},
        {"image_id": image_ids[2], "category_id": 9, "bbox": [0, 0, 15, 15], "iscrowd": 1},
    ]
    return {
        "images": [{"id": i} for i in image_ids],
        "categories": [{"id": 5, "name": "five"}, {"id": 9, "name": "nine"}],
        "annotations": annotations,
    }


CATEGORY_IDS = [9, 5]  # class index -> category: not in the order of the JSON


def batches(truth, as_array=False):
    def pictures(numbers):
        images = torch.zeros(len(numbers), 3, SIZE, SIZE, dtype=torch.uint8)
        for row, number in enumerate(numbers):
            images[row] = number + 1  # so that the fake model knows the picture
        return images.numpy() if as_array else images

    ids = [image["id"] for image in truth["images"]]
    for numbers in ([0, 1], [2]):
        n = len(numbers)
        yield {"images": pictures(numbers), "image_ids": [ids[i] for i in numbers], "gains": [GAIN] * n,
               "pads": [PAD] * n, "shapes": [(96, 112)] * n}  # fmt: skip


def oracle(truth, dtype=torch.float32, as_array=False, wrong=0.0):
    """A model that gives the true boxes: class scores 0.9 for the true class and `wrong` for the other."""
    index = {category: k for k, category in enumerate(CATEGORY_IDS)}
    ids = [image["id"] for image in truth["images"]]

    def model(images):
        assert images.shape[1:] == (3, SIZE, SIZE) and images.max() <= 1
        boxes, scores = torch.zeros(len(images), 5, 4), torch.zeros(len(images), 5, 2)
        for row, image in enumerate(images):
            number = round(float(image[0, 0, 0]) * 255) - 1
            mine = [a for a in truth["annotations"] if a["image_id"] == ids[number]]
            for slot, annotation in enumerate(mine):
                x, y, w, h = annotation["bbox"]
                corners = torch.tensor([x, y, x + w, y + h]) * GAIN + torch.tensor(PAD * 2)
                boxes[row, slot] = corners
                scores[row, slot] = wrong
                scores[row, slot, index[annotation["category_id"]]] = 0.9
        return (boxes.numpy(), scores.numpy()) if as_array else (boxes.to(dtype), scores.to(dtype))

    return model


def run(model, truth, **options):
    loader = list(batches(truth))
    return evaluate(model, loader, ground_truth=truth, category_ids=CATEGORY_IDS, progress=False, **options)


@pytest.mark.parametrize("kind", [{}, {"as_array": True}, {"dtype": torch.float16}, {"dtype": torch.bfloat16}])
def test_an_oracle_is_perfect(kind):
    truth = small_set()
    found = run(oracle(truth, **kind), truth)
    for key in ("AP50-95", "AP50", "AR100", "precision", "recall", "f1"):
        assert found.metrics[key] == pytest.approx(1), key
    assert found.images == 3 and found.instances == 3
    assert found.confusion.matrix.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert [(e["name"], e["id"], e["images"], e["instances"]) for e in found.per_class] == [
        ("nine", 9, 2, 2), ("five", 5, 1, 1)
    ]  # fmt: skip
    first = found.predictions[0]
    assert first["image_id"] == 11 and first["category_id"] == 9
    assert first["bbox"] == pytest.approx([10, 10, 40, 40], abs=0.01)
    json.dumps(found.predictions)
    assert set(found.speed) == {"preprocess", "inference", "nms"}


def test_arrays_from_the_loader_and_numpy_ids():
    truth = small_set(image_ids=(11, 12, 3))
    loader = list(batches(truth, as_array=True))
    for batch in loader:
        batch["image_ids"] = [np.int64(i) for i in batch["image_ids"]]
    found = evaluate(oracle(truth), loader, ground_truth=truth, category_ids=np.array(CATEGORY_IDS), progress=False)
    assert found.metrics["AP50"] == pytest.approx(1)
    json.dumps(found.predictions)


def test_every_class_of_a_box_is_a_candidate():
    truth = small_set()
    found = run(oracle(truth, wrong=0.1), truth)
    assert len(found.predictions) == 8  # four boxes (the crowd's too), two classes
    assert found.metrics["precision"] == pytest.approx(1) and found.metrics["confidence"] > 0.1
    assert len(run(oracle(truth, wrong=0.1), truth, conf=0.5).predictions) == 4
    assert len(run(oracle(truth), truth, max_det=1).predictions) == 2


def nothing(images):
    return torch.zeros(len(images), 0, 4), torch.zeros(len(images), 0, 2)


def test_nothing_detected(capsys):
    found = run(nothing, small_set())
    assert found.predictions == []
    assert [found.metrics[key] for key in ("AP50-95", "AP50", "precision", "recall")] == [0] * 4
    assert found.confusion.matrix.tolist() == [[0, 0, 0], [0, 0, 0], [2, 1, 0]]
    print_table(found)
    assert "nine" in capsys.readouterr().out


def test_no_ground_truth():
    truth = small_set()
    model = oracle(copy.deepcopy(truth))
    truth["annotations"] = []
    found = run(model, truth)
    assert len(found.predictions) == 4 and found.metrics["AP50-95"] == found.metrics["recall"] == 0
    assert math.isnan(found.per_class[0]["AP50"])
    assert len(format_table(found).splitlines()) == 2


def test_empty_loader():
    truth = small_set()
    found = evaluate(nothing, [], ground_truth=truth, category_ids=CATEGORY_IDS, progress=False)
    assert found.metrics["AP50"] == 0 and found.images == 0


def test_another_number_of_classes_is_an_error():
    with pytest.raises(UserError, match="model has 3 classes, the data set 2"):
        run(lambda images: (torch.zeros(len(images), 1, 4), torch.zeros(len(images), 1, 3)), small_set())


class Module(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.layer, self.seen = inner, torch.nn.Conv2d(3, 1, 1), []

    def forward(self, images):
        self.seen.append((self.training, torch.is_grad_enabled(), images.dtype, self.layer(images).dtype))
        return self.inner(images)


def test_a_module_is_in_eval_mode_for_the_time_being():
    truth = small_set()
    model = Module(oracle(truth)).train()
    run(model, truth)
    assert model.training and model.seen[0] == (False, False, torch.float32, torch.float32)
    run(model.eval(), truth, half=True)
    assert not model.training and model.seen[-1] == (False, False, torch.float32, torch.bfloat16)
    assert model.layer.weight.dtype == torch.float32
    run(model.to(torch.bfloat16), truth)
    assert model.seen[-1][2] == torch.bfloat16


def test_table_has_a_row_a_class():
    truth = small_set()
    lines = format_table(run(oracle(truth), truth)).splitlines()
    assert lines[0].split() == ["class", "images", "instances", "P", "R", "AP50", "AP50-95"]
    assert lines[1].split() == ["all", "3", "3", "1.000", "1.000", "1.000", "1.000"]
    assert [line.split()[0] for line in lines[2:]] == ["nine", "five"]
    assert len({len(line) for line in lines}) == 1
    assert "renamed" in format_table(run(oracle(truth), truth), names=["renamed", "x"])


def test_ensemble_joins_the_boxes_of_all():
    truth = small_set()
    assert run(Ensemble([nothing, oracle(truth)]), truth).metrics["AP50"] == pytest.approx(1)
    arrays = Ensemble([oracle(truth, as_array=True)] * 2)(torch.ones(1, 3, SIZE, SIZE) / 255)
    assert isinstance(arrays[0], np.ndarray) and arrays[0].shape == (1, 10, 4)
    both = Ensemble([oracle(truth, as_array=True), oracle(truth, dtype=torch.float16)])
    mixed = both(torch.ones(1, 3, SIZE, SIZE) / 255)
    assert torch.is_tensor(mixed[1]) and mixed[1].shape == (1, 10, 2) and mixed[1].dtype == torch.float32


def test_ensemble_refuses_other_classes():
    def named(names):
        model = Module(nothing)
        model.names, model.stride = names, torch.tensor([8, 64])
        return model

    assert Ensemble([named(["a", "b"]), named({0: "a", 1: "b"})]).stride == 64
    with pytest.raises(UserError, match="model 2 knows other classes"):
        Ensemble([named(["a", "b"]), named(["a", "c"])])
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])
