"""Resampled AP equals the AP of a dataset that holds the drawn images; intervals; saved evaluations."""

import json
import zipfile

import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.bootstrap import interval, resampled_ap, sample_images
from graftdet.utils.evaluation.coco_results import CocoResults
from graftdet.utils.evaluation.evaluator import score
from graftdet.utils.evaluation.saved_evaluation import load_evaluation, save_evaluation

IDS = ["a", 5, 3, "c", 9, 12]


def evaluation_of(noise, images=None, seed=0):
    """A random dataset and noisy detections; `images`: indices of images, repeated ones under new ids."""
    rng = np.random.default_rng(seed)
    objects = [(rng.integers(0, 2, 6), rng.uniform(0, 200, (6, 2)), rng.uniform(20, 90, (6, 2))) for _ in IDS]
    shifts = rng.normal(0, 1, (len(IDS), 6, 4)), rng.uniform(0.1, 1, (len(IDS), 6)), rng.random((len(IDS), 6))
    chosen = range(len(IDS)) if images is None else images
    ids = IDS if images is None else [f"image {number:03}" for number in range(len(chosen))]
    annotations, results = [], CocoResults([20, 10])
    for given, index in zip(ids, chosen, strict=True):
        labels, corner, size = objects[index]
        for number, label in enumerate(labels):
            box = [*corner[number], *size[number]]
            annotations.append(
                {"image_id": given, "category_id": (20, 10)[label], "bbox": box, "iscrowd": int(number == 5)}
            )
        moved = np.concatenate((corner, corner + size), 1) + noise * shifts[0][index]
        labels = np.where(shifts[2][index] < 0.15, 1 - labels, labels)
        results.add(given, np.column_stack((moved, shifts[1][index], labels)))
    truth = {"images": [{"id": given} for given in ids], "annotations": annotations}
    truth["categories"] = [{"id": 10, "name": "ten"}, {"id": 20, "name": "twenty"}]
    return score(truth, results, {})


def test_resampled_ap_is_that_of_a_dataset_of_the_drawn_images():
    evaluation = evaluation_of(4)
    weights = np.array([[1] * 6, [2, 0, 1, 0, 3, 0], [0, 0, 0, 0, 0, 6]])
    ap, ap50 = resampled_ap(evaluation, IDS, weights)
    assert ap[0] == pytest.approx(evaluation.metrics["AP50-95"]) and ap50[0] == pytest.approx(
        evaluation.metrics["AP50"]
    )
    assert 0.1 < ap[0] < 0.9
    for row, found, found50 in zip(weights[1:], ap[1:], ap50[1:], strict=True):
        drawn = [index for index, count in enumerate(row) for _ in range(count)]
        metrics = evaluation_of(4, drawn).metrics
        assert found == pytest.approx(metrics["AP50-95"]) and found50 == pytest.approx(metrics["AP50"])


def test_the_difference_of_paired_runs_has_a_smaller_interval_than_either_ap():
    weights = sample_images(len(IDS), 400)
    assert weights.shape == (401, 6) and (weights.sum(1) == 6).all() and (weights[0] == 1).all()
    one, other = (resampled_ap(evaluation_of(noise), IDS, weights)[0] for noise in (6, 12))
    difference, single = interval(one - other), interval(one)
    assert single.low < single.value < single.high and difference.value == pytest.approx(one[0] - other[0])
    assert difference.excludes_zero and difference.low > 0
    assert not interval(one - one).excludes_zero
    np.testing.assert_array_equal(weights, sample_images(len(IDS), 400))


def test_no_detections():
    empty = evaluation_of(1)
    empty.results._rows = [rows[:0] for rows in empty.results._rows]
    assert resampled_ap(empty, IDS, sample_images(6, 3)).tolist() == [[0] * 4, [0] * 4]


def test_a_saved_evaluation_has_the_same_metrics(tmp_path):
    evaluation = evaluation_of(4)
    save_evaluation(evaluation, tmp_path / "evaluation.npz")
    loaded = load_evaluation(tmp_path / "evaluation.npz")
    assert loaded.metrics == evaluation.metrics and loaded.per_class == evaluation.per_class
    assert loaded.results.image_ids == IDS and (loaded.hits == evaluation.hits).all()
    assert json.dumps(loaded.predictions) == json.dumps(evaluation.predictions)


@pytest.mark.parametrize("kind", ["text", "pickle", "other", "missing"])
def test_other_files_are_refused(kind, tmp_path):
    path = tmp_path / "evaluation.npz"
    if kind == "text":
        path.write_text("no archive")
    elif kind == "pickle":
        np.savez(path, header=np.array([{"a": 1}], object))
    elif kind == "other":
        np.savez(path, header=np.zeros(3))
    with pytest.raises(UserError, match=r"evaluation.npz: is not a saved evaluation"):
        load_evaluation(path)


def test_saved_evaluations_that_would_take_gigabytes_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        for _ in range(600):
            file.write(bytes(1_000_000))
    with pytest.raises(UserError, match=r"a.npz: has arrays of more than 536870912 bytes$"):
        load_evaluation(tmp_path / "a.npz")
    names = ("detections", "counts", "target_images", "target_classes", "target_boxes", "target_areas", "target_crowds")
    np.savez(
        tmp_path / "b.npz", header=np.frombuffer(b"[" * 100_000, np.uint8), **{name: np.zeros(1) for name in names}
    )
    with pytest.raises(UserError, match="b.npz: is not a saved evaluation"):
        load_evaluation(tmp_path / "b.npz")
