"""`evaluate`: a model that knows the truth is perfect, one that finds nothing is zero; tables and ensembles."""

import copy
import json
import math

import numpy as np
import pytest
import torch

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.evaluator import evaluate
from graftdet.utils.evaluation.report import format_evaluation, format_table

SIZE, GAIN, PAD = 64, 0.5, (8.0, 4.0)


def small_set(image_ids=(11, "b", 3)):
    """Three images of 96 x 112 (h, w), letterboxed by GAIN and PAD; the second has no object."""
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
    def images(numbers):
        images = torch.zeros(len(numbers), 3, SIZE, SIZE, dtype=torch.uint8)
        for row, number in enumerate(numbers):
            images[row] = number + 1  # so that the fake model knows the image
        return images.numpy() if as_array else images

    ids = [image["id"] for image in truth["images"]]
    for numbers in ([0, 1], [2]):
        n = len(numbers)
        yield {
            "images": images(numbers),
            "image_ids": [ids[i] for i in numbers],
            "gains": [GAIN] * n,
            "pads": [PAD] * n,
            "shapes": [(96, 112)] * n,
        }


def oracle(truth, dtype=torch.float32, as_array=False, wrong=0.0):
    """A model that gives the ground-truth boxes: class scores 0.9 for the true class and `wrong` for the other."""
    index = {category: k for k, category in enumerate(CATEGORY_IDS)}
    ids = [image["id"] for image in truth["images"]]

    def model(images):
        assert images.shape[1:] == (3, SIZE, SIZE) and images.max() <= 1
        boxes, scores = torch.zeros(len(images), 5, 4), torch.zeros(len(images), 5, 2)
        for row, image in enumerate(images):
            number = round(float(image[0, 0, 0]) * 255) - 1
            own = [a for a in truth["annotations"] if a["image_id"] == ids[number]]
            for slot, annotation in enumerate(own):
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
def test_perfect_predictions_have_perfect_metrics(kind):
    truth = small_set()
    evaluation = run(oracle(truth, **kind), truth)
    for key in ("AP50-95", "AP50", "AR100", "precision", "recall", "f1"):
        assert evaluation.metrics[key] == pytest.approx(1), key
    assert evaluation.images == 3 and evaluation.instances == 3
    assert evaluation.confusion.matrix.tolist() == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert [(e["name"], e["id"], e["images"], e["instances"]) for e in evaluation.per_class] == [
        ("nine", 9, 2, 2),
        ("five", 5, 1, 1),
    ]
    first = evaluation.predictions[0]
    assert first["image_id"] == 11 and first["category_id"] == 9
    assert first["bbox"] == pytest.approx([10, 10, 40, 40], abs=0.01)
    json.dumps(evaluation.predictions)
    assert set(evaluation.speed) == {"preprocess", "inference", "nms"}


def test_arrays_from_the_loader_and_numpy_ids():
    truth = small_set(image_ids=(11, 12, 3))
    loader = list(batches(truth, as_array=True))
    for batch in loader:
        batch["image_ids"] = [np.int64(i) for i in batch["image_ids"]]
    evaluation = evaluate(
        oracle(truth), loader, ground_truth=truth, category_ids=np.array(CATEGORY_IDS), progress=False
    )
    assert evaluation.metrics["AP50"] == pytest.approx(1)
    json.dumps(evaluation.predictions)


def test_every_class_of_a_box_is_a_candidate():
    truth = small_set()
    evaluation = run(oracle(truth, wrong=0.1), truth)
    assert len(evaluation.predictions) == 8  # four boxes (the crowd's too), two classes
    assert evaluation.metrics["precision"] == pytest.approx(1) and evaluation.metrics["confidence"] > 0.1
    assert len(run(oracle(truth, wrong=0.1), truth, conf=0.5).predictions) == 4
    assert len(run(oracle(truth), truth, max_det=1).predictions) == 2


def test_a_class_without_detections_at_the_best_confidence_has_precision_0():
    truth = small_set()
    found = copy.deepcopy(truth)
    found["annotations"] = [entry for entry in truth["annotations"] if entry["category_id"] == 9]

    def model(images):
        boxes, scores = oracle(found)(images)
        boxes[:, 4], scores[:, 4] = torch.tensor([40.0, 40, 60, 60]), torch.tensor([0.3, 0.1])  # false positives
        return boxes, scores

    evaluation = run(model, truth)
    assert evaluation.metrics["confidence"] > 0.3
    assert [entry["precision"] for entry in evaluation.per_class] == [1, 0]
    assert evaluation.metrics["precision"] == 0.5
    assert format_table(evaluation).splitlines()[3].split()[:4] == ["five", "1", "1", "0.000"]


def nothing(images):
    return torch.zeros(len(images), 0, 4), torch.zeros(len(images), 0, 2)


def test_metrics_without_detections_are_zero():
    evaluation = run(nothing, small_set())
    assert evaluation.predictions == []
    assert [evaluation.metrics[key] for key in ("AP50-95", "AP50", "precision", "recall")] == [0] * 4
    assert evaluation.confusion.matrix.tolist() == [[0, 0, 0], [0, 0, 0], [2, 1, 0]]
    text = format_evaluation(evaluation)
    assert "nine" in text and "speed per image: preprocess " in text


def test_metrics_without_ground_truth():
    truth = small_set()
    model = oracle(copy.deepcopy(truth))
    truth["annotations"] = []
    evaluation = run(model, truth)
    assert len(evaluation.predictions) == 4 and evaluation.metrics["AP50-95"] == evaluation.metrics["recall"] == 0
    assert math.isnan(evaluation.per_class[0]["AP50"])
    assert len(format_table(evaluation).splitlines()) == 2


def test_an_empty_loader_gives_zero_ap():
    truth = small_set()
    evaluation = evaluate(nothing, [], ground_truth=truth, category_ids=CATEGORY_IDS, progress=False)
    assert evaluation.metrics["AP50"] == 0 and evaluation.images == 0


def test_another_number_of_classes_is_an_error():
    with pytest.raises(UserError, match="model has 3 classes, the dataset has 2"):
        run(lambda images: (torch.zeros(len(images), 1, 4), torch.zeros(len(images), 1, 3)), small_set())


class Module(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.layer, self.seen = inner, torch.nn.Conv2d(3, 1, 1), []

    def forward(self, images):
        self.seen.append((self.training, torch.is_grad_enabled(), images.dtype, self.layer(images).dtype))
        return self.inner(images)


def test_a_module_is_in_eval_mode_during_the_evaluation():
    truth = small_set()
    model = Module(oracle(truth)).train()
    run(model, truth)
    assert model.training and model.seen[0] == (False, False, torch.float32, torch.float32)
    run(model.eval(), truth, half=True)
    assert not model.training and model.seen[-1] == (False, False, torch.float32, torch.bfloat16)
    assert model.layer.weight.dtype == torch.float32
    run(model.to(torch.bfloat16), truth)
    assert model.seen[-1][2] == torch.bfloat16


def test_table_has_one_row_per_class():
    truth = small_set()
    lines = format_table(run(oracle(truth), truth)).splitlines()
    assert lines[0].split() == ["class", "images", "instances", "P", "R", "AP50", "AP50-95"]
    assert lines[1].split() == ["all", "3", "3", "1.000", "1.000", "1.000", "1.000"]
    assert [line.split()[0] for line in lines[2:]] == ["nine", "five"]
    assert len({len(line) for line in lines}) == 1
    assert "renamed" in format_table(run(oracle(truth), truth), names=["renamed", "x"])


def test_losses_are_means_over_images_and_computed_with_the_detections():
    truth = small_set()
    loader = [{**batch, "targets": torch.zeros(number + 1, 6)} for number, batch in enumerate(batches(truth))]

    def losses(model, images, targets):
        return model(images), {"box": torch.tensor(float(len(targets)))}

    evaluation = evaluate(
        oracle(truth), loader, ground_truth=truth, category_ids=CATEGORY_IDS, progress=False, losses=losses
    )
    assert evaluation.metrics["AP50"] == pytest.approx(1)
    assert evaluation.losses == {"box": pytest.approx((2 * 1 + 1 * 2) / 3)}  # batches of two images and of one
    assert run(oracle(truth), truth).losses == {}


def test_batches_are_passed_on_with_detections_in_pixels_of_the_original_image():
    truth, seen = small_set(), []
    run(oracle(truth), truth, on_batch=lambda number, batch, found: seen.append((number, batch["image_ids"], found)))
    assert [(number, ids) for number, ids, _ in seen] == [(0, [11, "b"]), (1, [3])]
    boxes = seen[0][2][0]
    assert (
        boxes[boxes[:, 5] == 0, :4].tolist() == [pytest.approx([10, 10, 50, 50], abs=0.01)] and len(seen[0][2][1]) == 0
    )
