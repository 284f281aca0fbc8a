"""16-bit image files of a source: the range is reported once, and `depth` scales by it."""

import cv2
import numpy as np

from graftdet.utils.images.io import write_image
from graftdet.utils.sources.source import open_source


def test_sources_report_the_range_once_and_scale_by_the_depth(tmp_path, caplog):
    gray = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4095
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", gray)[1].tobytes())
    write_image(tmp_path / "c.png", np.full((64, 64, 3), 7, np.uint8))
    frames = list(open_source(tmp_path))
    assert np.array_equal(frames[0].image[..., 0], gray >> 8)
    assert caplog.text.count("values 0 to 4095 of 65535; --depth 12 scales by it") == 1
    caplog.clear()
    frames = list(open_source(tmp_path, depth=12))
    assert np.array_equal(frames[0].image[..., 0], gray >> 4) and frames[2].image.max() == 7
    assert not caplog.text
