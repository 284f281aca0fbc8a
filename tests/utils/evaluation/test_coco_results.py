"""Results as arrays are those of the list of dicts: as JSON, as numbers, in order."""

import json

import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.evaluation.coco_ap import coco_scores
from graftdet.utils.evaluation.coco_results import CocoResults


def random_results(image_ids, category_ids, seed=0):
    rng, results = np.random.default_rng(seed), CocoResults(category_ids)
    for image_id in image_ids:
        count = rng.integers(0, 30)
        corner = rng.uniform(0, 80, (count, 2))
        rows = np.column_stack(
            (
                corner,
                corner + rng.uniform(0, 40, (count, 2)),
                rng.uniform(size=count),
                rng.integers(0, len(category_ids), count),
            )
        )
        results.add(image_id, rows.astype(np.float32))
    return results


def test_known_values():
    results = CocoResults(np.array([9, 5]))
    results.add(np.int64(3), np.array([[1, 2, 4.00049, 8, 0.12345678, 1]], np.float32))
    results.add("b", np.zeros((0, 6), np.float32))
    assert results.to_dicts() == [{"image_id": 3, "category_id": 5, "bbox": [1, 2, 3, 6], "score": 0.123457}]
    assert len(results) == 1 and results.counts.tolist() == [1, 0] and results.image_ids == [3, "b"]
    assert results.rows().shape == (1, 6) and CocoResults([]).rows().shape == (0, 6)


@pytest.mark.parametrize(
    ("image_ids", "category_ids"),
    [([5, 2, 9], [1, 7]), (['a "b"\\', "細胞.jpg", ""], ["x", "y\n", 3]), ([], [1]), ([1], [])],
)
def test_the_written_json_equals_the_list_of_dicts(image_ids, category_ids, tmp_path):
    results = random_results(image_ids, category_ids) if category_ids else CocoResults([])
    results.write(tmp_path / "neu é" / "p.json")
    text = (tmp_path / "neu é" / "p.json").read_text(encoding="utf-8")
    assert text == json.dumps(results.to_dicts(), ensure_ascii=False)
    assert bool(results.to_dicts()) == bool(image_ids and category_ids)


def test_ap_from_arrays_equals_ap_from_dicts():
    results = random_results(["c", "a", 4, 1], [3, 8, "new"])
    images = [{"id": given} for given in (1, 4, "a", "c", "without")]
    annotations = [
        {"image_id": record["image_id"], "category_id": record["category_id"], "bbox": [v + 1 for v in record["bbox"]]}
        for record in results.to_dicts()[::3]
        if record["category_id"] != "new"
    ]
    truth = {"images": images, "categories": [{"id": 8}, {"id": 3}], "annotations": annotations}
    scores = coco_scores(truth, results)
    assert scores == coco_scores(truth, results.to_dicts()) and 0.1 < scores["AP50"] < 1
    with pytest.raises(UserError, match="'a' is not in the ground truth"):
        coco_scores({**truth, "images": images[:2] + images[3:]}, results)
