"""Values of --source and lines of lists that are no paths, or patterns that take long."""

import time

import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image
from graftdet.utils.sources.source import open_source
from graftdet.utils.sources.targets import MAX_WARNINGS, find_targets


def test_repeated_wildcards_take_no_exponential_time(tmp_path):
    folder = tmp_path
    for name in "abcdefgh":
        folder = folder / name
    write_image(folder / "x.png", np.full((40, 60, 3), 9, np.uint8))
    start = time.process_time()
    frames = list(open_source(f"{tmp_path}/{'**/' * 40}*.png"))
    assert [frame.path for frame in frames] == [str(folder / "x.png")] and time.process_time() - start < 5


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "~nobody-of-this-name/a.png"])
def test_texts_that_are_no_paths(text, tmp_path, caplog):
    with pytest.raises(UserError) as error:
        open_source(str(tmp_path / text) if text[0] == "x" else text)
    assert len(str(error.value)) < 400 + len(str(tmp_path))
    write_image(tmp_path / "a.png", np.full((40, 60, 3), 9, np.uint8))
    (tmp_path / "list.txt").write_text("a.png\n" + f"{text}\n" * 30)
    assert len(list(open_source(tmp_path / "list.txt"))) == 1
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == MAX_WARNINGS + 1 and warnings[-1].endswith("list.txt: 10 further lines skipped")


def test_long_addresses_are_no_paths(tmp_path):
    address = "rtsp://127.0.0.1/stream?token=" + "x" * 600
    assert find_targets(address) == [address]
    (tmp_path / "list.txt").write_text(f"{address}\n0\n")
    assert find_targets(str(tmp_path / "list.txt")) == [address, 0]


def test_lists_in_other_encodings(tmp_path):
    write_image(tmp_path / "größe.png", np.full((40, 60, 3), 9, np.uint8))
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "list.txt").write_text("größe.png\n", encoding=encoding)
        assert len(find_targets(str(tmp_path / "list.txt"))) == 1
    (tmp_path / "list.txt").write_text("größe.png\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"list.txt:1: not UTF-8, likely Latin-1 \(größe.png\)"):
        find_targets(str(tmp_path / "list.txt"))
