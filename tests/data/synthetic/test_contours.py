"""The generator of the contours dataset."""

import cv2
import numpy as np
import pytest

from graftdet.data.synthetic.contour_classes import make_class
from graftdet.data.synthetic.contour_layout import DISTRACTOR
from graftdet.data.synthetic.contour_painting import paint_background
from graftdet.data.synthetic.contour_settings import BACKGROUNDS, ContourSettings
from graftdet.data.synthetic.contours import ContoursGenerator

SMALL = {"num_classes": 6, "image_size": 128, "many_small": 0.0}


def make(**settings):
    return ContoursGenerator(ContourSettings(**{**SMALL, **settings}))


def draw_many(count, **settings):
    generator = make(**settings)
    return [generator.draw(np.random.default_rng(number)) for number in range(count)]


def layouts(count, **settings):
    generator = make(**settings)
    return [generator.draw_layout(np.random.default_rng(number)) for number in range(count)]


def radii(count, **settings):
    """Radii of all objects, relative to the side of the image."""
    contours = [contour for layout in layouts(count, min_pixels=4, **settings) for contour in layout.contours]
    return np.array([contour.radius for contour in contours if contour.label != DISTRACTOR]) / 128


def test_same_random_numbers_give_the_same_image():
    first, second = (make().draw(np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(first.image, second.image) and first[1:] == second[1:]
    assert not np.array_equal(first.image, make().draw(np.random.default_rng(1)).image)


def test_annotations_need_no_painting():
    generator = make()
    for number in range(8):
        assert generator.annotate(np.random.default_rng(number)) == generator.draw(np.random.default_rng(number))[1:]


@pytest.mark.parametrize("size", [64, 600])
def test_size_of_the_image(size):
    (drawn,) = draw_many(1, image_size=size)
    assert drawn.image.shape == (size, size, 3) and drawn.image.dtype == np.uint8


def test_boxes_are_tight_around_the_visible_pixels():
    """Masks of the whole image, one after the other, give the same boxes and areas."""
    hidden = 0
    for layout in layouts(30, objects=(8, 12), occlusion=0.6):
        owners = np.zeros((128, 128), int)
        for number, contour in enumerate(layout.contours, 1):
            mask = np.zeros((128, 128), np.uint8)
            outlines = [contour.outline, contour.outline * contour.hole] if contour.hole else [contour.outline]
            points = [np.round((outline + contour.center) * 16).astype(np.int32) for outline in outlines]
            cv2.fillPoly(mask, points, 255, cv2.LINE_AA, 4)
            owners[mask > 127] = number
            hidden += contour.area - contour.visible
        expected = []
        for number, contour in enumerate(layout.contours, 1):
            rows, columns = np.nonzero(owners == number)
            if contour.label != DISTRACTOR:
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                expected.append((contour.label, box, len(rows)))
        annotations = layout.annotations()
        assert list(zip(*annotations, strict=True)) == expected
    assert hidden > 1000  # the objects do overlap


def test_boxes_surround_the_painted_pixels():
    """The pixels that differ from the background alone."""
    generator = make(distractors=0, occlusion=0.0, contrast=0.0, blur=0.0, noise=0.0)
    for number in range(10):
        rng = np.random.default_rng(number)
        layout = generator.draw_layout(rng)
        background = paint_background(generator.settings, rng)
        image, _, boxes, areas = generator.draw(np.random.default_rng(number))
        painted = (image != background).any(2)
        for (x, y, w, h), area in zip(boxes, areas, strict=True):
            assert 0.9 * area < painted[y : y + h, x : x + w].sum()
            painted[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1] = False
        assert not painted.any() and len(boxes) == len(layout.contours)


@pytest.mark.parametrize("occlusion", [0.0, 0.3, 0.8])
def test_hidden_fraction_is_limited(occlusion):
    contours = [contour for layout in layouts(60, objects=(12, 12), occlusion=occlusion) for contour in layout.contours]
    hidden = [1 - contour.visible / contour.area for contour in contours if contour.label != DISTRACTOR]
    assert max(hidden) <= occlusion and (max(hidden) > occlusion - 0.1)
    assert min(contour.visible for contour in contours if contour.label != DISTRACTOR) >= 30


def test_classes_are_balanced():
    counts = np.bincount(np.concatenate([layout.annotations().labels for layout in layouts(500, num_classes=8)]))
    assert len(counts) == 8 and counts.min() > 0.75 * counts.mean() and counts.max() < 1.25 * counts.mean()


def test_class_does_not_depend_on_the_number_of_classes():
    few, many = make(num_classes=3).classes[2], make(num_classes=40).classes[2]
    assert all(np.array_equal(getattr(few, name), getattr(many, name)) for name in few.__dataclass_fields__)
    assert not np.array_equal(make_class(2).phases, make_class(3).phases)


def test_sizes_follow_the_settings():
    sizes = {radius: np.log(radii(150, radius=radius, radius_spread=0.4)) for radius in (0.05, 0.12)}
    for radius, logarithms in sizes.items():
        assert abs(np.median(logarithms) - np.log(radius)) < 0.12
        assert abs(logarithms.std() - 0.4) < 0.08
    assert np.ptp(radii(20, radius_spread=0.0)) < 1e-9
    areas = np.concatenate([layout.annotations().areas for layout in layouts(60, radius_spread=0.0, occlusion=0.0)])
    circle = np.pi * (0.09 * 128) ** 2
    assert 0.8 * circle < np.quantile(areas, 0.8) < 1.35 * circle  # objects without a hole that lie inside the image


def test_number_of_objects():
    counts = [len(layout.annotations().labels) for layout in layouts(60, objects=(2, 5), min_pixels=4)]
    assert set(counts) == {2, 3, 4, 5}
    crowded = layouts(20, many_small=1.0)
    assert np.mean([len(layout.contours) for layout in crowded]) > 15
    assert np.median(radii(20, many_small=1.0)) < 0.6 * np.median(radii(100))


def test_most_contours_that_fit_into_the_owner_map():
    (layout,) = layouts(1, objects=(100, 100), distractors=50, radius=0.01, radius_spread=0.0, min_pixels=4)
    assert 100 < len(layout.contours) <= 150 and layout.owners.max() == len(layout.contours)


def test_distractors_are_no_objects():
    with_distractors = layouts(10, distractors=20, objects=(1, 1))
    assert max(len(layout.contours) for layout in with_distractors) > 5
    assert max(len(layout.annotations().labels) for layout in with_distractors) == 1
    assert all(contour.label >= 0 for layout in layouts(10, distractors=0) for contour in layout.contours)


PLAIN = {"clutter": 0, "distractors": 0, "contrast": 0.0, "blur": 0.0, "noise": 0.0, "backgrounds": ("plain",)}


def sharpness(images):
    """Mean difference between neighboring pixels."""
    return np.mean([np.abs(np.diff(drawn.image.astype(int), axis=1)).mean() for drawn in images])


@pytest.mark.parametrize("change", [{"noise": 40.0}, {"clutter": 40}, {"backgrounds": ("pattern",)}])
def test_setting_adds_edges(change):
    assert sharpness(draw_many(12, **{**PLAIN, **change})) > 1.2 * sharpness(draw_many(12, **PLAIN))


@pytest.mark.parametrize("change", [{"textures": False}, {"blur": 6.0}])
def test_setting_removes_edges(change):
    assert sharpness(draw_many(12, **{**PLAIN, **change})) < 0.95 * sharpness(draw_many(12, **PLAIN))


def test_contrast_changes_the_brightness():
    bright = {strength: [drawn.image.mean() for drawn in draw_many(12, contrast=strength)] for strength in (0.0, 1.0)}
    assert np.abs(np.subtract(bright[0.0], bright[1.0])).max() > 20


def test_holes_can_be_omitted():
    assert any(contour.hole for layout in layouts(10) for contour in layout.contours)
    assert not any(contour.hole for layout in layouts(10, holes=False) for contour in layout.contours)


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_each_background_differs_from_the_others(kind):
    others = [other for other in BACKGROUNDS if other != kind]
    (drawn,) = draw_many(1, backgrounds=(kind,))
    assert not any(np.array_equal(drawn.image, draw_many(1, backgrounds=(other,))[0].image) for other in others)
