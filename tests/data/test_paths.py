"""Folders of a path that are replaced by others, such as images by labels."""

from pathlib import Path

import pytest

from graftdet.data.paths import replace_last_folder, split_at_folder


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/a/images/train", ["/a/labels/train", "/a/Label/train"]),
        ("images", ["labels", "Label"]),
        ("/images/a/images/b", ["/images/a/labels/b", "/images/a/Label/b"]),
        ("/a/my_images/train", []),
    ],
)
def test_the_last_folder_of_a_name_is_replaced(folder, expected):
    assert replace_last_folder(Path(folder), ("images",), "labels", "Label") == [Path(path) for path in expected]


def test_a_path_is_split_at_each_folder_of_a_name():
    path = Path("/Images/a/IMAGES/b")
    assert list(split_at_folder(path, ("images",), ignore_case=True)) == [
        (Path("/Images/a"), Path("b")),
        (Path("/"), Path("a/IMAGES/b")),
    ]
    assert not list(split_at_folder(path, ("images",)))
