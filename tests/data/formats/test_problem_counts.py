"""Lines about the problems of a dataset."""

import pytest

from graftdet.data import exif
from graftdet.data.formats import coco, format, per_image, validation, yolo
from graftdet.data.formats.files import image_finder, image_lists
from graftdet.data.formats.parsing import coco_json
from graftdet.data.formats.problem_counts import ProblemCounts
from graftdet.data.tools import audit
from graftdet.utils.images import bit_depth
from graftdet.utils.text import counted_phrase

MODULES = (exif, coco, format, per_image, validation, yolo, image_finder, image_lists, coco_json, audit, bit_depth)
KINDS = {
    value
    for module in MODULES
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str) and " " in value and not name.endswith(("HINT", "POINTER"))
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_singular(kind):
    one = counted_phrase(1, kind)
    assert one.startswith("1 ") and one != f"1 {kind}" and abs(len(one) - 2 - len(kind)) <= 2


def test_lines_name_counts_and_first_locations():
    problems = ProblemCounts()
    problems.add("missing images", "a.jpg")
    problems.add("boxes outside the image", "b.jpg", 1200)
    problems.add("boxes outside the image", "c.jpg", 0)
    assert problems.lines() == ["1,200 boxes outside the image (first: b.jpg)", "1 missing image (first: a.jpg)"]
