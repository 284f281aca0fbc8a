from dataclasses import replace

import cv2
import numpy as np
import pytest

from graftdet.data.augmentation.canvas import Canvas
from graftdet.data.augmentation.transforms import (
    clip_boxes,
    draw_hsv_gains,
    flip_matrix,
    hsv_jitter,
    jitter,
    jitter_matrix,
    mixup,
    remaining_boxes,
    warp,
    warp_boxes,
)
from graftdet.utils.hyperparameters import Hyperparameters

WITHOUT_JITTER = replace(
    Hyperparameters(),
    hsv_h=0,
    hsv_s=0,
    hsv_v=0,
    degrees=0,
    translate=0,
    scale=0,
    shear=0,
    perspective=0,
    fliplr=0,
    flipud=0,
    mixup=0,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def jittered(image, boxes, labels, *more):
    return jitter(Canvas.from_image(image, boxes, labels), *more)


def extent(image, level=128):
    """xyxy of the pixels brighter than `level`, in continuous coordinates."""
    rows, columns = np.nonzero(image[..., 0] > level)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_matrix_without_jitter_only_centers():
    matrix, scale = jitter_matrix(rng(), WITHOUT_JITTER, (40, 60), (100, 80))
    assert scale == 1
    assert np.allclose(matrix, [[1, 0, 10], [0, 1, 30], [0, 0, 1]])


def test_draws_stay_in_their_ranges_and_reach_them():
    recipe = replace(WITHOUT_JITTER, degrees=30, translate=0.2, scale=0.5)
    scales, angles, shifts = [], [], []
    generator = rng()
    for _ in range(500):
        matrix, scale = jitter_matrix(generator, recipe, (50, 50), (100, 100))
        assert np.isclose(np.sqrt(np.linalg.det(matrix[:2, :2])), scale)
        scales.append(scale)
        angles.append(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
        shifts.append((matrix @ [25, 25, 1])[:2])  # the source's center
    for values, low, high in ((scales, 0.5, 1.5), (angles, -30, 30), (shifts, 30, 70)):
        assert low <= np.min(values) < low + 0.03 * (high - low)
        assert high - 0.03 * (high - low) < np.max(values) <= high


@pytest.mark.parametrize(
    "recipe",
    [
        WITHOUT_JITTER,
        replace(WITHOUT_JITTER, scale=0.5, translate=0.1),
        replace(WITHOUT_JITTER, fliplr=1.0),
        replace(WITHOUT_JITTER, flipud=1.0),
        replace(WITHOUT_JITTER, fliplr=1.0, flipud=1.0, scale=0.3),
    ],
)
@pytest.mark.parametrize("zoom", [1.0, 1.5])
def test_boxes_follow_the_image(recipe, zoom):
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:70, 50:100] = 255
    box = np.array([[50, 40, 100, 70]], np.float32)
    for seed in range(10):
        out = (int(160 * zoom), int(200 * zoom))
        jittered_image, boxes, labels = jittered(image, box, np.array([7]), rng(seed), recipe, out, zoom)
        assert jittered_image.shape == (*out, 3)
        assert labels.tolist() == [7]
        assert np.abs(extent(jittered_image) - boxes[0]).max() <= 0.51  # a pixel's edge is at most half a pixel away


def test_rotated_and_sheared_boxes_surround_the_corners():
    image = np.zeros((200, 200, 3), np.uint8)
    image[80:120, 60:140] = 255
    recipe = replace(WITHOUT_JITTER, degrees=40, shear=10, perspective=0.0005)
    for seed in range(10):
        jittered_image, boxes, _ = jittered(
            image, np.array([[60, 80, 140, 120]], np.float32), np.zeros(1), rng(seed), recipe, (260, 260)
        )
        assert np.abs(extent(jittered_image, 120) - boxes[0]).max() < 2.5


def test_boxes_behind_the_camera_are_dropped():
    tilted = np.array([[1, 0, 0], [0, 1, 0], [-0.01, 0, 1.0]])  # w is 0 at x = 100
    boxes = np.array([[10, 10, 40, 40], [60, 10, 140, 40], [120, 10, 180, 40], [60, 10, 100, 40]], np.float32)
    warped = warp_boxes(boxes, tilted, (200, 200))
    assert np.allclose(warped[0], [10 / 0.9, 10 / 0.9, 40 / 0.6, 40 / 0.6])
    assert not (warped[1:, 2:] - warped[1:, :2]).any()
    assert remaining_boxes(boxes, warped).tolist() == [True, False, False, False]


def test_flips_are_exact_mirrors():
    image = rng().integers(0, 255, (30, 41, 3)).astype(np.uint8)
    for recipe, expected in (
        (replace(WITHOUT_JITTER, fliplr=1.0), image[:, ::-1]),
        (replace(WITHOUT_JITTER, flipud=1.0), image[::-1]),
        (replace(WITHOUT_JITTER, flipud=1.0, fliplr=1.0), image[::-1, ::-1]),
    ):
        jittered_image, boxes, _ = jittered(
            image, np.array([[1, 2, 11, 22]], np.float32), np.zeros(1), rng(), recipe, (30, 41)
        )
        assert np.array_equal(jittered_image, expected)
    assert boxes.tolist() == [[30, 8, 40, 28]]


def test_flip_frequency():
    recipe = replace(WITHOUT_JITTER, fliplr=0.5, flipud=0.1)
    generator = rng()
    flips = np.array([np.diag(flip_matrix(generator, recipe, (9, 9)))[:2] < 0 for _ in range(2000)])
    assert np.abs(flips.mean(0) - (0.5, 0.1)).max() < 0.03


def test_warp_fills_with_gray_and_copies_at_identity():
    image = np.zeros((10, 10, 3), np.uint8)
    moved = warp(image, np.array([[1, 0, 5], [0, 1, 0], [0, 0, 1.0]]), (10, 12))
    assert (moved[:, :5] == 114).all() and (moved[:, 5:] == 0).all()
    same = warp(image, np.eye(3), (10, 10))
    assert np.array_equal(same, image) and same is not image


def test_warp_boxes_without_boxes():
    assert warp_boxes(np.zeros((0, 4), np.float32), np.eye(3), (5, 5)).shape == (0, 4)


@pytest.mark.parametrize(
    ("before", "after", "remains"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], True),
        ([0, 0, 10, 10], [0, 0, 2, 10], False),  # not over 2 pixels
        ([0, 0, 10, 10], [0, 0, 2.1, 10], True),
        ([0, 0, 100, 100], [0, 0, 10, 100], False),  # a tenth of the area is not over a tenth
        ([0, 0, 100, 100], [0, 0, 10.1, 100], True),
        ([0, 0, 500, 3], [0, 0, 500, 3], False),  # aspect 167
        ([0, 0, 290, 3], [0, 0, 290, 3], True),
    ],
)
def test_remaining_boxes(before, after, remains):
    assert remaining_boxes(np.array([before], np.float32), np.array([after], np.float32)).tolist() == [remains]


def test_jitter_drops_lost_boxes_with_their_labels():
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[0, 0, 99, 99], [40, 40, 41, 41], [45, 45, 60, 60]], np.float32)
    _, remaining, labels = jittered(image, boxes, np.array([1, 2, 3]), rng(), WITHOUT_JITTER, (30, 30))
    assert labels.tolist() == [3]  # 2 is too small, a tenth of 1 is left
    assert np.allclose(remaining, [[10, 10, 25, 25]])


def test_clip_boxes():
    assert clip_boxes(np.array([[-5, -5, 50, 60]], np.float32), (20, 30)).tolist() == [[0, 0, 30, 20]]


def test_hsv_jitter_changes_one_channel():
    image = rng().integers(0, 255, (40, 40, 3)).astype(np.uint8)
    assert np.array_equal(hsv_jitter(image, draw_hsv_gains(rng(), WITHOUT_JITTER)), image[..., ::-1].transpose(2, 0, 1))
    before = image.copy()
    gains = draw_hsv_gains(rng(2), replace(WITHOUT_JITTER, hsv_v=0.4))
    bright = hsv_jitter(image, gains)
    assert np.array_equal(image, before) and bright.shape == (3, 40, 40) and (gains[:2] == 1).all() and gains[2] != 1
    value, expected = bright.max(0), np.clip(image.max(2) * gains[2], 0, 255)
    assert np.abs(value - expected).max() <= 1.01
    gray = np.full((8, 8, 3), 90, np.uint8)
    assert (hsv_jitter(gray, np.array([1.3, 0.6, 1])) == 90).all()


def reference_hsv_jitter(image, gains):
    """`hsv_jitter`, step by step."""
    ramp = np.arange(256)
    tables = [ramp * gains[0] % 180, np.clip(ramp * gains[1], 0, 255), np.clip(ramp * gains[2], 0, 255)]
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv = np.stack([table.astype(np.uint8)[hsv[..., plane]] for plane, table in enumerate(tables)], -1)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[..., ::-1].transpose(2, 0, 1)


@pytest.mark.parametrize("hue", [0.015, 1.0])
def test_hsv_jitter_equals_the_reference(hue):
    image = rng().integers(0, 255, (33, 47, 3)).astype(np.uint8)
    block = np.zeros((2, 3, 33, 40), np.uint8)
    recipe = replace(WITHOUT_JITTER, hsv_h=hue, hsv_s=0.7, hsv_v=0.4)
    for seed in range(20):
        view = image[:, 3:43]
        gains = 1 + rng(seed).uniform(-1, 1, 3) * (hue, 0.7, 0.4)
        expected = reference_hsv_jitter(view, gains)
        assert np.array_equal(draw_hsv_gains(rng(seed), recipe), gains)
        assert np.array_equal(hsv_jitter(view, gains), expected)
        assert hsv_jitter(view, gains, block[1]).base is block
        assert np.array_equal(block[1], expected) and not block[0].any()
        last = np.zeros((2, 33, 40, 3), np.uint8)
        assert np.array_equal(hsv_jitter(view, gains, last[1].transpose(2, 0, 1)), expected)
        assert np.array_equal(last[1].transpose(2, 0, 1), expected) and not last[0].any()


def reference_matrix(rng, recipe, source, out):
    """`jitter_matrix`, one matrix per step."""
    to_center, perspective, rotation, shear, translation = (np.eye(3) for _ in range(5))
    to_center[:2, 2] = -source[1] / 2, -source[0] / 2
    perspective[2, :2] = rng.uniform(-1, 1, 2) * recipe.perspective
    angle = np.radians(rng.uniform(-1, 1) * recipe.degrees)
    scale = 1 + rng.uniform(-1, 1) * recipe.scale
    rotation[0, :2] = scale * np.cos(angle), scale * np.sin(angle)
    rotation[1, :2] = -scale * np.sin(angle), scale * np.cos(angle)
    shear[[0, 1], [1, 0]] = np.tan(np.radians(rng.uniform(-1, 1, 2) * recipe.shear))
    translation[:2, 2] = (0.5 + rng.uniform(-1, 1, 2) * recipe.translate) * (out[1], out[0])
    return translation @ shear @ rotation @ perspective @ to_center, scale


@pytest.mark.parametrize("more", [{}, {"degrees": 20}, {"shear": 5, "perspective": 0.001}])
def test_jitter_matrix_equals_the_reference(more):
    recipe = replace(WITHOUT_JITTER, scale=0.5, translate=0.1, **more)
    for seed in range(10):
        one, other = rng(seed), rng(seed)
        matrix, scale = jitter_matrix(one, recipe, (50, 60), (40, 30))
        expected, size = reference_matrix(other, recipe, (50, 60), (40, 30))
        assert np.allclose(matrix, expected, atol=1e-12) and scale == size
        assert one.random() == other.random()  # the same number of draws


def test_mixup_ratio_is_near_one_half_and_keeps_the_boxes_of_both():
    def tile(level):
        boxes = np.array([[0, 0, level / 100, 2]], np.float32)
        return np.full((4, 4, 3), level, np.uint8), boxes, np.array([level])

    _, boxes, labels = mixup(tile(200), tile(0), rng())
    assert boxes.tolist() == [[0, 0, 2, 2], [0, 0, 0, 2]] and labels.tolist() == [200, 0]
    ratios = []
    for seed in range(200):
        mixed = mixup(tile(200), tile(0), rng(seed))[0]
        assert mixed.std() == 0
        ratios.append(mixed[0, 0, 0] / 200)
    assert abs(np.mean(ratios) - 0.5) < 0.02
    assert abs(np.std(ratios) - 0.062) < 0.015  # of beta(32, 32): 1 / sqrt(4 * 65)
