"""Images of lower quality: how much, and that the argument is unchanged."""

import cv2
import numpy as np
import pytest

from graftdet.data.augmentation.degradation import MAX_NOISE, blur, jpeg, noise


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    pattern = (np.indices((64, 64)).sum(0) // 8 % 2 * 200 + 20).astype(np.uint8)
    return cv2.merge([pattern, np.flipud(pattern), np.full_like(pattern, 90)])


@pytest.mark.parametrize("degrade", [blur, noise, jpeg])
def test_result_has_the_same_shape_differs_by_seed_and_leaves_the_argument(image, degrade):
    before = image.copy()
    first, again, other = degrade(image, rng(1)), degrade(image, rng(1)), degrade(image, rng(2))
    assert first.shape == image.shape and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(image, before)


def test_blur_lowers_the_contrast_of_edges_and_moves_nothing(image):
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    for seed in range(40):
        assert cv2.Laplacian(blur(image, rng(seed)), cv2.CV_32F).std() < cv2.Laplacian(image, cv2.CV_32F).std()
        weights = blur(dot, rng(seed))[..., 0].astype(float)
        rows, columns = np.indices(weights.shape)
        center = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
        assert np.allclose(center, (20, 20), atol=0.6)


def test_noise_has_mean_zero_and_up_to_twenty_gray_levels():
    gray = np.full((64, 64, 3), 128, np.uint8)
    deviations = []
    for seed in range(60):
        difference = noise(gray, rng(seed)).astype(int) - 128
        assert abs(difference.mean()) < 1
        deviations.append(difference.std())
    assert 0.8 * MAX_NOISE < max(deviations) < 1.05 * MAX_NOISE and min(deviations) < 0.2 * MAX_NOISE


def test_jpeg_is_what_a_file_of_that_quality_reads_as(image):
    possible = [
        cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        for quality in range(20, 81)
    ]
    for seed in range(10):
        assert any(np.array_equal(jpeg(image, rng(seed)), one) for one in possible)
