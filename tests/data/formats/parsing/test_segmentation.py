"""Boxes of segmentations, compared with those of pycocotools."""

import numpy as np
from pycocotools import mask as coco_mask

from graftdet.data.formats.parsing.segmentation import box_of_segmentation


def test_random_masks_have_the_boxes_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = np.asfortranarray(rng.random(rng.integers(1, 30, 2)) < rng.choice([0.02, 0.3, 0.9])).astype(np.uint8)
        encoded = coco_mask.encode(mask)
        expected = coco_mask.toBbox(encoded).tolist()
        found = box_of_segmentation({"size": encoded["size"], "counts": encoded["counts"].decode()})
        assert found is None if not mask.any() else list(found) == expected
