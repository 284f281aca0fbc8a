import cv2
import numpy as np
import pytest

from graftdet.utils.visualization import drawing as draw
from graftdet.utils.visualization.drawing import (
    class_color,
    class_name,
    contrast,
    draw_boxes,
    image_grid,
    printable,
    shorten,
    text_box,
)

NAMES = ["cell", "a name that is much longer than any image here is wide " * 3, "ключ 细胞 é\n", ""]


def gray(height=100, width=160):
    return np.full((height, width, 3), 90, np.uint8)


def test_box_lines_have_the_color_of_the_class_and_the_original_is_unchanged():
    image = gray(640, 640)
    drawn = draw_boxes(image, [[100, 200, 300, 400]], [5])
    assert (image == 90).all()
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    for x, y in ((100, 300), (300, 300), (200, 400), (200, 200)):
        assert tuple(drawn[y, x]) == class_color(5)
    assert (drawn[300, 120:280] == 90).all()  # the inside is unchanged


def test_no_boxes_change_nothing():
    assert (draw_boxes(gray(), np.zeros((0, 4)), []) == gray()).all()


@pytest.mark.parametrize("label", range(5))
@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 160, 100],
        [150, 90, 900, 900],
        [-500, -500, -400, -400],
        [20, 20, 10, 10],
        [1e12, -1e12, 3e12, 1e12],
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
    ],
)
def test_any_box_and_name_can_be_drawn(box, label):
    draw_boxes(gray(), [box], [label], [0.5], NAMES)


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (12, 12)])
def test_tiny_images(shape):
    assert draw_boxes(np.zeros(shape, np.uint8), [[0, 0, 5, 5]], [1], [1.0], NAMES).shape == (*shape, 3)


@pytest.mark.parametrize("corner", [(5, 5), (140, 50), (5, 96), (150, 1), (-30, -30), (900, 900)])
def test_text_stays_inside(corner, monkeypatch):
    spans = []

    def record(canvas, text, origin, scale, ink, weight):
        width, ascent, descent = text_box(text, scale, weight)
        spans.append((origin[0], origin[1] - ascent, origin[0] + width, origin[1] + descent))

    monkeypatch.setattr(draw, "put_text", record)
    for label in range(3):
        draw_boxes(gray(), [[*corner, corner[0] + 20, corner[1] + 20]], [label], [0.25], NAMES)
    assert len(spans) == 3
    for left, top, right, bottom in spans:
        assert left >= 0 and top >= 0 and right <= 160 and bottom <= 100


def test_labels_of_neighbors_do_not_cover_each_other(monkeypatch):
    drawn = []
    monkeypatch.setattr(draw, "_draw_label", lambda canvas, text, position, color: drawn.append((text, position)))
    boxes = [[300, 300, 330, 330], [266, 296, 296, 326], [300, 400, 330, 430], [304, 304, 334, 334]]
    draw_boxes(gray(640, 640), boxes, [0, 1, 2, 3], [0.9, 0.8, 0.7, 0.6], ["platelets"] * 4)
    assert [text for text, _ in drawn] == [f"platelets 0.{score}0" for score in (6, 7, 8, 9)]  # the best on top
    positions = [position for _, position in reversed(drawn)]
    assert positions[0][:2] == (299, 299 - (positions[0][3] - positions[0][1]))  # the best has the usual one
    for index, one in enumerate(positions):
        for other in positions[:index]:
            assert min(one[2], other[2]) <= max(one[0], other[0]) or min(one[3], other[3]) <= max(one[1], other[1])


def test_the_best_box_is_on_top():
    box = [20, 60, 80, 90]
    drawn = draw_boxes(gray(), [box, box], [1, 2])  # best first
    assert tuple(drawn[75, 20]) == class_color(1)


def test_the_colors_of_few_classes_differ_for_color_blind_readers():
    colors = np.array([class_color(i) for i in range(draw.COLOR_BLIND_SAFE)], np.uint8)
    for matrix in (None, *draw._COLOR_BLIND):
        lab = draw._lab(colors, matrix)
        gaps = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(len(lab)) * 999
        assert gaps.min() > 11


def test_colors_are_distinct_and_text_is_readable():
    colors = [class_color(i) for i in range(draw.NUM_COLORS)]
    assert len(set(colors)) == draw.NUM_COLORS >= 80
    lab = cv2.cvtColor(np.array([colors], np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    gaps = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + np.eye(len(lab)) * 999
    assert gaps.min() > 10  # a difference of 2.3 is just noticeable
    assert class_color(draw.NUM_COLORS) == class_color(0)
    for background in colors:
        text, behind = (
            0.0722 * b**2.2 + 0.7152 * g**2.2 + 0.2126 * r**2.2
            for b, g, r in np.array([contrast(background), background]) / 255
        )
        assert (max(text, behind) + 0.05) / (min(text, behind) + 0.05) > 3.8


def test_names_from_lists_dicts_and_none():
    assert class_name(["a", "b"], 1) == "b"
    assert class_name(["a", "b"], 7) == "7"
    assert class_name({3: "c"}, 3) == "c"
    assert class_name({3: "c"}, 4) == "4"
    assert class_name(None, 2) == "2"


@pytest.mark.parametrize(
    ("text", "ascii_text"), [("été", "ete"), ("细胞 a", "?? a"), ("a\tb\n", "a b"), ("\u00df", "?")]
)
def test_old_opencv_gets_ascii(text, ascii_text, monkeypatch):
    monkeypatch.setattr(draw, "DRAWS_UNICODE", False)
    assert printable(text) == ascii_text


def test_lone_surrogates_do_not_crash():
    draw_boxes(gray(), [[10, 40, 50, 80]], [0], names=["\udcff\x00\x07"])


def test_shorten():
    assert shorten("short", 500, 0.5) == "short"
    assert shorten("a long name", 60, 0.5).endswith("..")
    assert text_box(shorten("a long name", 60, 0.5), 0.5)[0] <= 60
    assert shorten("a long name", 2, 0.5) == ""


def test_image_grid_arranges_images_in_rows():
    images = [np.full((10, 20, 3), value, np.uint8) for value in (10, 20, 30)]
    grid = image_grid(images, columns=2, gap=4)
    assert grid.shape == (2 * 14 + 4, 2 * 24 + 4, 3)
    assert grid[9, 14, 0] == 10 and grid[9, 38, 0] == 20 and grid[23, 14, 0] == 30 and grid[23, 38, 0] == 255
    assert image_grid(images[:1], columns=5).shape == (18, 28, 3)
    with pytest.raises(ValueError, match="at least one"):
        image_grid([], 2)


def test_wrong_images_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(np.zeros((5, 5, 3), np.float32), [], [])


def test_in_place_draws_into_the_image_itself():
    image = np.full((90, 120, 3), 60, np.uint8)
    drawn = draw_boxes(image, [[10, 20, 60, 70]], [1], [0.5])
    assert (image == 60).all() and drawn is not image
    assert draw_boxes(image, [[10, 20, 60, 70]], [1], [0.5], in_place=True) is image
    assert np.array_equal(image, drawn)
    image = np.full((90, 240, 3), 60, np.uint8)[:, ::2]  # not contiguous: a copy
    assert np.array_equal(draw_boxes(image, [[10, 20, 60, 70]], [1], [0.5], in_place=True), drawn)
    frozen = np.full((90, 120, 3), 60, np.uint8)
    frozen.flags.writeable = False
    assert np.array_equal(draw_boxes(frozen, [[10, 20, 60, 70]], [1], [0.5], in_place=True), drawn)
