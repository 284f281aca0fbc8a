import numpy as np

from graftdet.data.augmentation.mosaic import draw_center, mosaic


def tile(value, height, width, boxes=((2, 1, 8, 6),)):
    return (
        np.full((height, width, 3), value, np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), value),
    )


def drawn(tiles, size, center):
    canvas = mosaic(tiles, size, center)
    assert [placed.box_count for placed in canvas.images] == [len(tile[1]) for tile in tiles if tile]
    return canvas.draw(), canvas.boxes, canvas.labels


def test_tiles_touch_the_center():
    size, center = 20, (15, 25)
    canvas, boxes, labels = drawn([tile(1, 10, 12), tile(2, 20, 14), tile(3, 8, 20), tile(4, 9, 9)], size, center)
    assert canvas.shape == (40, 40, 3)
    expected = np.full((40, 40), 114)
    expected[15:25, 3:15] = 1
    expected[5:25, 15:29] = 2
    expected[25:33, 0:15] = 3  # 5 columns are cut off on the left
    expected[25:34, 15:24] = 4
    assert np.array_equal(canvas[..., 0], expected)
    assert labels.tolist() == [1, 2, 3, 4]
    assert boxes.tolist() == [[5, 16, 11, 21], [17, 6, 23, 11], [0, 26, 3, 31], [17, 26, 23, 31]]


def test_tiles_are_cut_at_the_edge_and_none_stays_gray():
    canvas, boxes, labels = drawn([tile(1, 20, 20), None, None, tile(4, 20, 20)], 20, (11, 29))
    assert (canvas[9:29, 0:11, 0] == 1).all()
    assert (canvas[29:40, 11:31, 0] == 4).all()
    assert (canvas[:, :, 0] == 114).sum() == 1600 - 20 * 11 - 11 * 20
    assert labels.tolist() == [1, 4]
    assert boxes[0].tolist() == [0, 10, 0, 15]  # completely outside: no width, dropped later


def test_without_any_box():
    _canvas, boxes, labels = drawn([tile(1, 5, 5, ())] * 4, 8, (8, 8))
    assert boxes.shape == (0, 4) and labels.shape == (0,)
    assert boxes.dtype == np.float32


def test_boxes_show_the_same_content_after_the_move():
    rng = np.random.default_rng(0)
    tiles = []
    for number in range(4):
        image = np.zeros((60, 80, 3), np.uint8)
        image[10:30, 20:50] = 100 + number
        tiles.append((image, np.array([[20, 10, 50, 30]], np.float32), np.array([100 + number])))
    for _ in range(20):
        canvas, boxes, labels = drawn(tiles, 80, draw_center(rng, 80))
        for (x1, y1, x2, y2), label in zip(boxes.astype(int), labels, strict=True):
            assert (canvas[y1:y2, x1:x2, 0] == label).all()
            assert (canvas[..., 0] == label).sum() == (x2 - x1) * (y2 - y1)


def test_mosaic_center_is_uniform():
    rng = np.random.default_rng(0)
    centers = np.array([draw_center(rng, 100) for _ in range(2000)])
    assert centers.min() >= 50 and centers.max() < 150
    assert centers.min() < 52 and centers.max() > 147
    assert abs(centers.mean() - 100) < 2
