"""The embedded shapes dataset."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from graftdet.data.__main__ import main
from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.synthetic import drawn_dataset
from graftdet.data.synthetic.drawn_dataset import draw_shapes, ensure_shapes
from graftdet.data.synthetic.shapes import ShapesGenerator, draw_video
from graftdet.utils import files
from graftdet.utils.errors import UserError
from graftdet.utils.images.io import read_image
from graftdet.utils.images.video import open_capture, read_frames


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def draw(out):
    draw_shapes(out, seed=3, count=8)
    return contents(out)


def test_boxes_surround_the_visible_shapes():
    for seed in range(40):
        image, labels, boxes, areas = ShapesGenerator().draw(np.random.default_rng(seed))
        height, width = image.shape[:2]
        assert (
            image.dtype == np.uint8 and image.shape[2] == 3 and 128 <= min(height, width) <= max(height, width) <= 208
        )
        assert 1 <= len(labels) == len(boxes) == len(areas) <= 4
        for label, (x, y, w, h), area in zip(labels, boxes, areas, strict=True):
            assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
            fill = area / (w * h)
            assert 0.25 < fill <= 1 and min(w, h) > 8
            if label == 0:
                assert fill < 0.86  # a circle fills pi / 4 of its box; occlusion changes that


def test_same_seed_gives_same_images(tmp_path):
    one, two = draw(tmp_path / "one"), draw(tmp_path / "two")
    assert one == two and len(one) == 8 + 2 + 2 + 3 + 1
    draw_shapes(tmp_path / "other", seed=4, count=8)
    assert contents(tmp_path / "other")["images/train/train_0001.jpg"] != one["images/train/train_0001.jpg"]
    draw_shapes(tmp_path / "more", seed=3, count=12)  # the first images do not depend on the count
    assert contents(tmp_path / "more")["images/train/train_0008.jpg"] == one["images/train/train_0008.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["more", "one", "other", "two"]


def test_existing_files_are_not_overwritten(tmp_path):
    out = tmp_path / "shapes"
    draw(out)
    before = (out / "shapes.json").stat().st_mtime_ns
    draw(out)
    assert (out / "shapes.json").stat().st_mtime_ns == before
    draw_shapes(out, seed=3, count=12)  # drawn again for another count
    assert len(list((out / "images" / "train").iterdir())) == 12
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not a shapes dataset"):
        draw(other)
    assert contents(other) == {"thesis.txt": b"mine"}
    with pytest.raises(UserError, match="at least 4"):
        draw_shapes(tmp_path / "few", count=3)


def test_yaml_draws_the_dataset_into_a_writable_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn_dataset, "COUNT", 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFTDET_CACHE")
    elsewhere, here = tmp_path / "sets", tmp_path / "hère"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("DATASETS_DIR", str(elsewhere))
    config = load_data_config("shapes.yaml")
    assert config.root == here / "datasets" / "shapes" and list(elsewhere.iterdir()) == []
    assert [len(open_split(config, split)) for split in ("train", "val", "test")] == [8, 2, 2]
    split = open_split(config, "train")
    assert split.names == ["circle", "square", "triangle"] and split.category_ids == [1, 2, 3] and not split.problems
    sample = split.samples[0]
    assert read_image(sample.path).shape == (sample.height, sample.width, 3)
    os.rename(here / "datasets" / "shapes", elsewhere / "shapes")  # a dataset below DATASETS_DIR is used
    assert load_data_config("shapes").root == elsewhere / "shapes"
    assert not (here / "datasets" / "shapes").exists()


def test_cache_folder_is_used_if_the_working_directory_cannot_be_written(tmp_path, monkeypatch, request):
    monkeypatch.setattr(drawn_dataset, "COUNT", 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFTDET_CACHE")
    monkeypatch.delenv("DATASETS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").write_text("a file where the folder should be")
    assert ensure_shapes() == tmp_path / "cache" / "graftdet" / "shapes"
    (tmp_path / "cache").rename(tmp_path / "cache2")
    (tmp_path / "cache").write_text("")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(
        "tempfile.tempdir", str(tmp_path / "temporary")
    )  # where there is no home, or none to write into
    request.addfinalizer(files._private_temporary_folder.cache_clear)
    files._private_temporary_folder.cache_clear()
    found = ensure_shapes()
    assert found.name == "shapes" and found.parent.name.startswith("graftdet-")
    assert found.parent.parent == tmp_path / "temporary"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "cache"))
    files._private_temporary_folder.cache_clear()
    with pytest.raises(UserError, match="cannot be written anywhere"):
        ensure_shapes()


def test_dataset_of_another_seed_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn_dataset, "COUNT", 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFTDET_CACHE")
    monkeypatch.delenv("DATASETS_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    drawn = draw(tmp_path / "datasets" / "shapes")  # of seed 3
    assert ensure_shapes() == tmp_path / "cache" / "graftdet" / "shapes"
    assert contents(tmp_path / "datasets" / "shapes") == drawn
    old = {"dataset": "shapes", "version": 1, "seed": 0, "count": 8}  # of an older version
    (tmp_path / "datasets" / "shapes" / "shapes.json").write_text(json.dumps(old))
    (tmp_path / "cache").rename(tmp_path / "moved")
    assert ensure_shapes() == tmp_path / "datasets" / "shapes" and contents(ensure_shapes()) != drawn


def test_marker_of_an_earlier_release_is_accepted(tmp_path):
    draw(tmp_path / "shapes")
    marker = {"data set": "shapes", "version": drawn_dataset.VERSION, "seed": 3, "count": 8}
    (tmp_path / "shapes" / "shapes.json").write_text(json.dumps(marker))
    before = contents(tmp_path / "shapes")
    assert draw(tmp_path / "shapes") == before


@pytest.mark.parametrize("arguments", [["--count", "12"], ["--seed", "1"]])
def test_another_seed_or_count_requires_out(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--out: missing; shapes.yaml stands for --seed 0 --count 400"):
        main(["shapes", *arguments])
    assert list(tmp_path.iterdir()) == []
    main(["shapes", "--count", "4", "--out", "few"])
    assert capsys.readouterr().out == "few\n" and len(list((tmp_path / "few" / "images" / "train").iterdir())) == 4


def test_several_processes_get_one_complete_dataset(tmp_path):
    out = tmp_path / "shapes"
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(draw, [out] * 3))
    assert results[0] == results[1] == results[2] and json.loads(results[0]["shapes.json"])["count"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_video_of_moving_shapes(tmp_path):
    path = draw_video(tmp_path / "new" / "shapes.mp4", frames=5)
    frames = list(read_frames(open_capture(str(path))))
    assert len(frames) == 5 and frames[0].shape == (192, 256, 3)
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 50


def test_unwritable_working_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn_dataset, "COUNT", 8)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFTDET_CACHE")
    monkeypatch.delenv("DATASETS_DIR", raising=False)
    (tmp_path / "datasets").write_text("a file stands where the folder would be")  # also for root
    monkeypatch.chdir(tmp_path)
    assert ensure_shapes() == tmp_path / "cache" / "graftdet" / "shapes"
