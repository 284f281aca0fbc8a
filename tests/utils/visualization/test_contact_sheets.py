"""Contact sheets: pages, captions, boxes at the size of a tile."""

import numpy as np

from graftdet.utils.images.io import read_image
from graftdet.utils.visualization.batch_images import CAPTION_HEIGHT
from graftdet.utils.visualization.contact_sheets import COLUMNS, ROWS, TILE_WIDTH, ContactSheets, draw_tile


def write(folder, count):
    sheets, tile = ContactSheets(), np.zeros((8, 16, 3), np.uint8)

    def path_of(number):
        return folder / ("grid.png" if number is None else f"grid_{number}.png")

    for _ in range(count):
        sheets.add(tile, "", path_of)
    sheets.finish(path_of)
    return {path.name: read_image(path).shape for path in sorted(folder.iterdir())}


def test_one_sheet_or_several(tmp_path):
    sizes = []
    for count in (1, COLUMNS * ROWS, COLUMNS * ROWS + 1, 0):
        (tmp_path / str(count)).mkdir()
        sizes.append(write(tmp_path / str(count), count))
    cell = 8 + CAPTION_HEIGHT + 4
    full = (ROWS * cell + 4, COLUMNS * 20 + 4, 3)
    single = (cell + 4, 24, 3)
    assert sizes == [{"grid.png": single}, {"grid.png": full}, {"grid_1.png": full, "grid_2.png": single}, {}]


def test_boxes_are_scaled_to_the_tile():
    image = np.zeros((600, 1200, 3), np.uint8)
    tile = draw_tile(image, np.array([[300, 150, 900, 450]]), np.array([0]), None, ["a"], hide_labels=True)
    assert tile.shape == (TILE_WIDTH // 2, TILE_WIDTH, 3) and not image.any()
    rows, columns = np.nonzero(tile.any(2))
    assert abs(columns.min() - TILE_WIDTH / 4) <= 2 and abs(rows.max() - TILE_WIDTH * 3 / 8) <= 2
