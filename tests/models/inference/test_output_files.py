"""Names and files that detection writes."""

import numpy as np

from graftdet.models.inference.output_files import OutputNames, safe_name, write_crops, write_labels
from graftdet.utils.images.io import read_image


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_names_of_outputs_are_unique_and_safe():
    name = OutputNames()
    assert [name(p) for p in ("x/a.jpg", "y/a.png", "y/A.bmp", "x/a.jpg", "camera 0")] == [
        "a",
        "a_2",
        "A_3",
        "a",
        "camera 0",
    ]
    assert name("rtsp://host:554/live?x=1") == "host_554_live_x=1"
    assert (
        safe_name('a<b>:"/\\|?*') == "a_b_" and safe_name("..") == "_" and safe_name("traffic light") == "traffic light"
    )
    assert safe_name("x" * 199 + ". y") == "x" * 199  # without what Windows strips
    assert safe_name("红" * 100) == "红" * 66  # file systems accept 255 bytes, including the suffix
    reserved = ("con", "NUL.a", "Com1", "lpt10", "console")
    assert [safe_name(text) for text in reserved] == ["_con", "_NUL.a", "_Com1", "lpt10", "console"]


def test_labels_and_crops(tmp_path):
    write_labels(tmp_path / "l" / "a.txt", [[10, 20, 30, 60]], [2], [0.5], (100, 200))
    assert (tmp_path / "l" / "a.txt").read_text() == "2 0.100000 0.400000 0.100000 0.400000\n"
    write_labels(tmp_path / "l" / "a.txt", [], [], [], (100, 200))
    write_labels(tmp_path / "m" / "a.txt", [], [], [], (100, 200))
    assert not (tmp_path / "l" / "a.txt").exists() and not (tmp_path / "m").exists()  # nothing of an earlier run
    image = noise(40, 50)
    boxes = [[5.4, 6.6, 20.2, 30.0], [45, 35, 60, 60], [10, 10, 10, 20]]
    assert write_crops(tmp_path / "crops", "p", image, boxes, ["a/b", "a/b", "c"], OutputNames()) == 2
    assert read_image(tmp_path / "crops" / "a_b" / "p.jpg").shape == (24, 16, 3)
    assert read_image(tmp_path / "crops" / "a_b" / "p_2.jpg").shape == (5, 5, 3)


def test_no_crop_overwrites_another(tmp_path):
    names, box = OutputNames(), [1, 1, 9, 9]
    images = [("p/photo.jpg", ["dog", "dog"]), ("p/photo_2.jpg", ["dog"]), ("q/x.jpg", ["a/b", "a:b", "Dog"])]
    count = sum(write_crops(tmp_path, names(path), noise(10, 10), [box] * len(of), of, names) for path, of in images)
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg"))
    assert count == 6 == len({path.lower() for path in written})
    assert written == [
        "Dog_2/x.jpg",
        "a_b/x.jpg",
        "a_b_2/x.jpg",
        "dog/photo.jpg",
        "dog/photo_2.jpg",
        "dog/photo_2_2.jpg",
    ]
