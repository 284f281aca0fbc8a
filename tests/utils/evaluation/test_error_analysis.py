"""Kinds of errors, one by one; scores of images; calibration."""

import numpy as np
import pytest

from graftdet.utils.evaluation.calibration import calibration
from graftdet.utils.evaluation.coco_results import CocoResults
from graftdet.utils.evaluation.error_analysis import KINDS, analyze_errors
from graftdet.utils.evaluation.evaluator import score
from graftdet.utils.evaluation.image_scores import score_images

OBJECTS = [(1, 0, [0, 0, 100, 100]), (1, 1, [200, 0, 100, 100]), (2, 0, [0, 0, 50, 50])]  # image, class, xywh


def evaluation_of(detections, objects=OBJECTS, images=(1, 2, 3)):
    """`detections`: (image, class, xywh, score)."""
    truth = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}],
        "annotations": [{"image_id": i, "category_id": (7, 9)[k], "bbox": box} for i, k, box in objects],
    }
    results = CocoResults([7, 9])
    for image in images:
        rows = [(x, y, x + w, y + h, s, k) for i, k, (x, y, w, h), s in detections if i == image]
        results.add(image, np.array(rows, np.float32).reshape(-1, 6))
    return score(truth, results, {})


PERFECT = [(image, label, box, 0.9) for image, label, box in OBJECTS]


@pytest.mark.parametrize(
    ("kind", "detections"),
    [
        ("classification", [(1, 1, [0, 0, 100, 100], 0.95), *PERFECT[1:]]),
        ("localization", [(1, 0, [60, 0, 100, 100], 0.95), *PERFECT[1:]]),
        ("both", [(1, 1, [60, 0, 100, 100], 0.95), *PERFECT]),
        ("duplicate", [(1, 0, [2, 0, 100, 100], 0.8), PERFECT[0], PERFECT[1]]),
        ("background", [(3, 0, [0, 0, 30, 30], 0.99), *PERFECT]),
        ("background", [(1, 0, [0, 200, 30, 30], 0.99), *PERFECT]),
    ],
)
def test_each_false_positive_has_one_kind(kind, detections):
    errors = {error.name: error for error in analyze_errors(evaluation_of(detections))}
    assert {name: errors[name].count for name in list(KINDS)[:-1]} == {
        name: int(name == kind) for name in list(KINDS)[:-1]
    }
    assert errors["false positives"].count == 1
    gains = {name: round(errors[name].ap_gain, 6) for name in list(KINDS)[:-1]}
    assert gains[kind] == max(gains.values()) >= 0 and (kind == "duplicate" or gains[kind] > 0.05)
    assert all(gain == 0 for name, gain in gains.items() if name != kind)


def test_an_object_of_a_wrong_detection_is_not_missed_as_well():
    for wrong in ((1, 1, [0, 0, 100, 100], 0.95), (1, 0, [60, 0, 100, 100], 0.95)):
        errors = {error.name: error for error in analyze_errors(evaluation_of([wrong, *PERFECT[1:]]))}
        assert errors["missed"].count == 0 and errors["missed objects"].count == 1


def test_missed_objects_cost_their_recall():
    evaluation = evaluation_of(PERFECT[1:])
    errors = {error.name: error for error in analyze_errors(evaluation)}
    assert errors["missed"].count == 1
    # class 0 has one of two objects: precision 1 at the 51 recall thresholds up to 0.5
    assert evaluation.metrics["AP50"] == pytest.approx((51 / 101 + 1) / 2)
    assert errors["missed"].ap_gain == pytest.approx(1 - evaluation.metrics["AP50"])


def test_of_several_corrected_detections_of_an_object_one_counts():
    detections = [(1, 1, [0, 0, 100, 100], 0.95), (1, 1, [1, 0, 100, 100], 0.94), *PERFECT[1:]]
    evaluation = evaluation_of(detections)
    errors = {error.name: error for error in analyze_errors(evaluation)}
    assert errors["classification"].count == 2
    assert evaluation.metrics["AP50"] + errors["classification"].ap_gain == pytest.approx(1)


def test_kinds_of_many_detections_are_complete_and_agree_with_the_ap():
    rng = np.random.default_rng(0)
    objects = [
        (i, int(rng.integers(2)), [*rng.uniform(0, 200, 2), *rng.uniform(20, 90, 2)])
        for i in range(30)
        for _ in range(4)
    ]
    found = []
    for image, label, box in objects * 2:
        other = [max(value + shift, 1) for value, shift in zip(box, rng.normal(0, 12, 4), strict=True)]
        found.append((image, int(label if rng.random() < 0.8 else 1 - label), other, float(rng.uniform(0.1, 1))))
    evaluation = evaluation_of(found, objects, range(30))
    errors = {error.name: error for error in analyze_errors(evaluation)}
    assert (
        sum(errors[name].count for name in list(KINDS)[:-1])
        == errors["false positives"].count
        == (evaluation.hits == 0).sum()
    )
    assert errors["missed objects"].count == len(objects) - (evaluation.hits == 1).sum()
    assert all(error.count > 0 and -1e-9 <= error.ap_gain < 1 for error in errors.values())


def test_no_detections_and_no_objects():
    assert {error.count for error in analyze_errors(evaluation_of([], []))} == {0}
    errors = {error.name: error.count for error in analyze_errors(evaluation_of(PERFECT, []))}
    assert errors["background"] == errors["false positives"] == 3 and errors["missed"] == 0


def test_images_are_ranked_from_worst_to_best():
    detections = [(1, 1, [0, 0, 100, 100], 0.95), *PERFECT[1:]]
    ranked = score_images(evaluation_of(detections))
    assert [(one.image_id, one.correct, one.wrong, one.missed) for one in ranked] == [
        (1, 1, 1, 1),
        (3, 0, 0, 0),
        (2, 1, 0, 0),
    ]
    assert [one.f1 for one in ranked] == [0.5, 1, 1]


def test_calibration_compares_scores_with_precision():
    evaluation = evaluation_of(
        [*PERFECT, (3, 0, [0, 0, 30, 30], 0.92), (3, 0, [50, 0, 30, 30], 0.25), (3, 1, [0, 0, 9, 9], 0.01)]
    )
    found = calibration(evaluation)
    assert found.counts.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 4]
    assert (
        found.precision[9] == 0.75
        and found.scores[9] == pytest.approx((3 * 0.9 + 0.92) / 4)
        and found.precision[2] == 0
    )
    assert found.error == pytest.approx((4 * (0.905 - 0.75) + 0.25) / 5, abs=1e-5)
    assert calibration(evaluation_of([])).error == 0
