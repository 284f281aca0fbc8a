"""Regions that move between images: boxes lie around what is visible."""

import numpy as np
import pytest

from graftdet.data.augmentation.regions import copy_blend, cutmix, random_crop

SIDE = 80


def rng(seed=0):
    return np.random.default_rng(seed)


def tile(background, objects):
    """Image with rectangles of one gray level each: {level: (x1, y1, x2, y2)}; the level is the label."""
    image = np.full((SIDE, SIDE, 3), background, np.uint8)
    for level, (x1, y1, x2, y2) in objects.items():
        image[y1:y2, x1:x2] = level
    boxes = np.array([*objects.values()], np.float32).reshape(-1, 4)
    return image, boxes, np.array([*objects], np.int64)


def levels(image, box):
    x1, y1, x2, y2 = np.rint(box).astype(int)
    return image[y1:y2, x1:x2, 0]


DARK = {100: (5, 5, 25, 25), 110: (50, 10, 70, 30), 120: (30, 50, 60, 75)}
BRIGHT = {200: (10, 40, 30, 60), 210: (45, 45, 65, 70), 220: (15, 5, 35, 30)}


def test_cutmix_has_the_pixels_of_both_and_boxes_of_what_is_visible():
    from_both = 0
    for seed in range(60):
        first, second = tile(0, DARK), tile(255, BRIGHT)
        image, boxes, labels = cutmix(first, second, rng(seed))
        assert len(boxes) == len(labels)
        bright = image[..., 0] >= 200
        rows, columns = np.nonzero(bright)
        if len(rows):  # one rectangle of the second image
            assert bright[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        visible = {level: (image[..., 0] == level).sum() for level in (*DARK, *BRIGHT)}
        area = {level: (x2 - x1) * (y2 - y1) for level, (x1, y1, x2, y2) in {**DARK, **BRIGHT}.items()}
        for level in area:
            assert (level in labels) == (visible[level] > 0.5 * area[level]) or visible[level] * 2 == area[level]
        for box, label in zip(boxes, labels, strict=True):
            inside = levels(image, box)
            assert (inside == label).mean() == 1 if label >= 200 else (inside == label).mean() > 0.5
        from_both += len({int(label) >= 200 for label in labels}) == 2
        assert np.array_equal(first[0], tile(0, DARK)[0]) and np.array_equal(first[1], tile(0, DARK)[1])
    assert from_both > 10


def test_copied_objects_keep_their_middle_and_cover_no_object_by_more_than_half():
    copies = 0
    for seed in range(60):
        image, boxes, labels = copy_blend(tile(0, DARK), tile(255, BRIGHT), rng(seed))
        assert labels[:3].tolist() == [*DARK] and np.array_equal(boxes[:3], tile(0, DARK)[1])
        for level in DARK:
            assert (image[..., 0] == level).sum() > 0.45 * (levels(tile(0, DARK)[0], DARK[level]) == level).sum()
        for number, (box, label) in enumerate(zip(boxes[3:], labels[3:], strict=True), 3):
            copies += 1
            x1, y1, x2, y2 = BRIGHT[int(label)]
            assert np.allclose(box[2:] - box[:2], [x2 - x1, y2 - y1])
            later = boxes[number + 1 :]
            center = (box[:2] + box[2:]) / 2
            if not ((later[:, :2] - 4 < center) & (center < later[:, 2:] + 4)).all(1).any():
                assert image[int(center[1]), int(center[0]), 0] == label
    assert copies > 60


def test_copies_fade_into_their_surroundings():
    image, boxes, _ = copy_blend(tile(0, {}), tile(0, {200: (20, 20, 60, 60)}), rng(3))
    x1, y1, x2, y2 = np.rint(boxes[0]).astype(int)
    assert image[(y1 + y2) // 2, (x1 + x2) // 2, 0] == 200
    far = np.ones((SIDE, SIDE), bool)
    far[max(y1 - 5, 0) : y2 + 5, max(x1 - 5, 0) : x2 + 5] = False
    assert not image[far].any()
    white = copy_blend(tile(0, {}), tile(255, {200: (20, 20, 60, 60)}), rng(3))[0][..., 0].astype(int)
    assert np.abs(np.diff(white, axis=1)).max() < 200  # the white margin does not end at once


def test_copies_larger_than_the_image_are_left_out():
    small = (tile(0, {})[0][:40, :40], np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert np.array_equal(copy_blend(small, tile(255, {250: (0, 0, 60, 60)}), rng())[0], small[0])


def test_crop_has_whole_objects_and_varies():
    shapes = set()
    for seed in range(60):
        image, boxes, labels = random_crop(tile(0, DARK), rng(seed))
        shapes.add(image.shape)
        assert len(boxes)
        for box, label in zip(boxes, labels, strict=True):
            assert (levels(image, box) == label).all()
            x1, y1, x2, y2 = DARK[int(label)]
            assert (box[2] - box[0]) * (box[3] - box[1]) >= 0.5 * (x2 - x1) * (y2 - y1)
        width, height = image.shape[1], image.shape[0]
        assert min(width, height) >= 0.3 * SIDE - 1 and 0.5 <= width / height <= 2
    assert len(shapes) > 30


def test_crop_of_an_image_without_objects_is_the_image():
    empty = tile(7, {})
    assert random_crop(empty, rng()) is empty


@pytest.mark.parametrize("mix", [cutmix, copy_blend])
def test_images_without_objects_can_be_mixed(mix):
    image, boxes, labels = mix(tile(0, {}), tile(255, {}), rng())
    assert image.shape == (SIDE, SIDE, 3) and boxes.shape == (0, 4) and boxes.dtype == np.float32
    assert labels.shape == (0,)
