"""What every format and writer must have, and splits whose classes are put in another order."""

from pathlib import Path

import numpy as np
import pytest
from graftdet.data.formats.base import Format, Split, Writer
from graftdet.data.formats.sample import Sample


def test_formats_and_writers_without_their_parts_cannot_be_made():
    for kind, arguments in ((Format, ()), (Writer, (Path(), [], []))):
        with pytest.raises(TypeError, match="abstract"):
            type("Half", (kind,), {})(*arguments)


def test_classes_in_another_order_keep_their_names_and_ids():
    boxes = np.array([[0, 0, 5, 5]] * 4, np.float32)
    sample = Sample(
        Path("a.jpg"), boxes, np.array([0, 1, 2, 1]), np.zeros(4, bool), np.full(4, 25.0), np.arange(1, 5), 7, 10, 10,
        source_boxes=boxes.astype(np.float64),
    )  # fmt: skip
    split = Split("val", [sample], ["cat", "dog", "cow"], [3, 7, 20])
    turned = split.reorder_classes(["cow", "cat", "dog"])
    assert turned.names == ["cow", "cat", "dog"] and turned.category_ids == [20, 3, 7]
    assert turned.samples[0].labels.tolist() == [1, 2, 0, 2] and split.samples[0].labels.tolist() == [0, 1, 2, 1]
    assert turned.ground_truth()["annotations"] == split.ground_truth()["annotations"]
