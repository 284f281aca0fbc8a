import cv2
import numpy as np
import pytest

from graftdet.utils.images.letterbox import letterbox, pad_to, resize, to_chw, unletterbox


def marked(height, width, box):
    """Black with a white rectangle."""
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (333, 500), (97, 61), (1, 700), (50, 50), (1080, 1920)])
@pytest.mark.parametrize("size", [320, (320, 416), (64, 640)])
@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("scale_up", [False, True])
def test_boxes_are_mapped_to_the_letterbox_and_back(shape, size, auto, scale_up):
    image, gain, pad = letterbox(np.zeros((*shape, 3), np.uint8), size, auto=auto, scale_up=scale_up)
    height, width = (size, size) if isinstance(size, int) else size
    if auto:
        assert image.shape[0] % 32 == 0 and image.shape[1] % 32 == 0
        assert image.shape[0] <= height and image.shape[1] <= width
        assert image.shape[0] >= round(shape[0] * gain) and image.shape[1] >= round(shape[1] * gain)
    else:
        assert image.shape == (height, width, 3)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (20, 2, 2)) * (shape[1], shape[0])
    boxes = np.concatenate((corners.min(1), corners.max(1)), 1).astype(np.float32)
    resized = np.array([max(round(shape[1] * gain), 1), max(round(shape[0] * gain), 1)])
    there = boxes * np.tile(resized / (shape[1], shape[0]), 2) + np.array([*pad, *pad])
    assert np.abs(unletterbox(there, gain, pad, shape) - boxes).max() < 1e-3


def test_known_numbers():
    image, gain, pad = letterbox(np.zeros((480, 640, 3), np.uint8), 320)
    assert (image.shape, gain, pad) == ((320, 320, 3), 0.5, (0.0, 40.0))
    assert (image[:40] == 114).all() and (image[40:280] == 0).all() and (image[280:] == 114).all()
    image, gain, pad = letterbox(np.zeros((480, 640, 3), np.uint8), 320, auto=True)
    assert (image.shape, gain, pad) == ((256, 320, 3), 0.5, (0.0, 8.0))
    image, gain, pad = letterbox(np.zeros((100, 50, 3), np.uint8), 320, scale_up=False)
    assert (gain, pad) == (1.0, (135.0, 110.0))


@pytest.mark.parametrize("size", [320, 200, 1000])
def test_content_is_where_the_boxes_are(size):
    """The center of mass of a white rectangle is the center of its box, to a tenth of a pixel, at any scale."""
    box = np.array([[60, 40, 140, 120]], np.float32)
    image, gain, pad = letterbox(marked(300, 400, box[0].astype(int)), size, color=0)
    weights = image[..., 0].astype(np.float64)
    ys, xs = (np.arange(side) + 0.5 for side in weights.shape)  # pixel i covers i..i+1
    center = [(weights.sum(0) * xs).sum() / weights.sum(), (weights.sum(1) * ys).sum() / weights.sum()]
    expected = box[0, :2] + 40
    assert np.abs(np.array(center) - (expected * gain + pad)).max() < 0.1


@pytest.mark.parametrize(("shape", "size"), [((427, 640), 320), ((333, 500), 224), ((97, 61), 64), ((612, 405), 416)])
def test_rounded_sides_do_not_shift_boxes(shape, size):
    """Two pixels short of the lower right corner of the content lies two such pixels short of the image's own."""
    image, gain, pad = letterbox(np.full((*shape, 3), 255, np.uint8), size, color=0)
    ys, xs = np.nonzero(image[..., 0] > 127)
    content = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
    back = unletterbox(content - [0, 0, 2, 2], gain, pad, shape)[0, 2:]
    scale = (content[0, 2:] - content[0, :2]) / shape[::-1]
    assert np.allclose(back, np.array(shape[::-1]) - 2 / scale, atol=1e-4)


def test_unletterbox_clips_and_changes_neither_other_columns_nor_its_input():
    rows = np.array([[-50, 0, 700, 300, 0.9, 3]], np.float32)
    before = rows.copy()
    back = unletterbox(rows, 0.5, (0.0, 40.0), (480, 640))
    assert np.allclose(back, [[0, 0, 640, 480, 0.9, 3]])
    assert np.array_equal(rows, before)
    assert unletterbox(np.zeros((0, 4)), 1.0, (0, 0), (5, 5)).shape == (0, 4)
    assert unletterbox(np.array([[2, 2, 4, 4]]), 4.0, (0, 0), (9, 9)).tolist() == [[0.5, 0.5, 1, 1]]


def test_resize_shrinks_without_aliasing():
    noise = np.random.default_rng(0).integers(0, 2, (400, 400, 3)).astype(np.uint8) * 255
    assert resize(noise, 0.25).std() < 40  # the mean of 16 pixels: 127.5 / 4; linear sampling sees 4 of them: 64
    assert resize(noise, 1.0) is noise
    assert resize(np.zeros((1, 500, 3), np.uint8), 0.1).shape == (1, 50, 3)


def test_pad_to_centers():
    image, pad = pad_to(np.ones((2, 3, 3), np.uint8), (6, 8), color=9)
    assert pad == (2.0, 2.0)
    assert image[2:4, 2:5].sum() == 18 and (image == 9).sum() == 6 * 8 * 3 - 18


def test_to_chw_is_rgb():
    image = np.zeros((4, 5, 3), np.uint8)
    image[...] = (1, 2, 3)
    chw = to_chw(image)
    assert chw.shape == (3, 4, 5) and chw.flags.c_contiguous
    assert chw[:, 0, 0].tolist() == [3, 2, 1]
    assert np.array_equal(chw.transpose(1, 2, 0), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    last = np.zeros((4, 5, 3), np.uint8)
    assert np.array_equal(to_chw(image, last.transpose(2, 0, 1)), chw) and last[0, 0].tolist() == [3, 2, 1]
