"""The abstract interface of formats and writers, and splits with reordered classes."""

from pathlib import Path

import numpy as np
import pytest

from graftdet.data.formats.dataset_split import Split
from graftdet.data.formats.format import Format, Writer
from graftdet.data.formats.sample import Sample


def test_incomplete_formats_and_writers_are_abstract():
    for kind, arguments in ((Format, ()), (Writer, (Path(), [], []))):
        with pytest.raises(TypeError, match="abstract"):
            type("Half", (kind,), {})(*arguments)


def test_reordered_classes_keep_their_names_and_ids():
    boxes = np.array([[0, 0, 5, 5]] * 4, np.float32)
    sample = Sample(
        Path("a.jpg"),
        boxes,
        np.array([0, 1, 2, 1]),
        np.zeros(4, bool),
        np.full(4, 25.0),
        np.arange(1, 5),
        7,
        10,
        10,
        source_boxes=boxes.astype(np.float64),
    )
    split = Split("val", [sample], ["cat", "dog", "cow"], [3, 7, 20])
    reordered = split.reorder_classes(["cow", "cat", "dog"])
    assert reordered.names == ["cow", "cat", "dog"] and reordered.category_ids == [20, 3, 7]
    assert reordered.samples[0].labels.tolist() == [1, 2, 0, 2] and split.samples[0].labels.tolist() == [0, 1, 2, 1]
    assert reordered.ground_truth()["annotations"] == split.ground_truth()["annotations"]
