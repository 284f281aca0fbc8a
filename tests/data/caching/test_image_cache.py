import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from graftdet.data.caching import free_memory as memory
from graftdet.data.caching.free_memory import free_memory
from graftdet.data.caching.image_cache import CACHES, DiskImageStore, open_image_store
from graftdet.data.caching.shared_memory import SharedFile
from graftdet.utils.errors import UserError
from graftdet.utils.files import cache_folder
from graftdet.utils.images.io import UnreadableImage, write_image

SIZE = 32


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "käche"))


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    made = []
    for number, shape in enumerate([(40, 60), (60, 40), (10, 20), (32, 32), (50, 70)]):
        made.append(str(tmp_path / f"image {number}.png"))
        write_image(made[-1], rng.integers(0, 255, (*shape, 3)).astype(np.uint8))
    return made


def opened(kind, paths, **options):
    store = open_image_store(kind, paths, [True] * len(paths), SIZE, **options)
    store.fill()
    return store


@pytest.mark.parametrize("kind", ["ram", "disk", "auto"])
def test_every_store_equals_decoding(kind, paths):
    plain, stored = opened("none", paths), opened(kind, paths)
    assert len(stored) == 5
    for again in (stored, pickle.loads(pickle.dumps(stored))):
        for index in (4, 0, 2, 1, 3):
            image, original = again.read(index)
            expected = plain.read(index)
            assert np.array_equal(image, expected.image) and original == expected.original
            assert max(image.shape) == SIZE


def test_resized_shape_and_original_size(paths):
    image, original = opened("none", paths).read(0)
    assert image.shape == (21, 32, 3) and original == (40, 60)
    assert opened("none", paths).read(2).image.shape == (16, 32, 3)  # small images are enlarged


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_filled_store_needs_no_source_files(kind, paths):
    stored = opened(kind, paths)
    first = np.array(stored.read(0).image)
    for path in paths:
        os.unlink(path)
    assert np.array_equal(stored.read(0).image, first)


def test_images_in_memory_are_read_only(paths):
    with pytest.raises(ValueError, match="read-only"):
        opened("ram", paths).read(0).image[0, 0] = 1


def test_replaced_image_is_detected_despite_same_path_time_and_length(paths):
    old = opened("disk", paths).read(3).image.copy()
    state = os.stat(paths[3])
    length = os.path.getsize(paths[3])
    replaced = 255 - old
    write_image(paths[3], replaced)
    new = Path(paths[3]).read_bytes()
    Path(paths[3]).write_bytes(new.ljust(length, b"\0"))
    os.utime(paths[3], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert np.array_equal(opened("disk", paths).read(3).image, replaced)


def test_moved_image_is_still_cached(paths, tmp_path, monkeypatch):
    opened("disk", paths)
    moved = str(tmp_path / "moved.png")
    os.rename(paths[0], moved)
    monkeypatch.setattr(DiskImageStore, "_decode", lambda *_: pytest.fail("decoded again"))
    assert opened("disk", [moved, *paths[1:]]).read(0).original == (40, 60)


def test_size_and_exif_are_part_of_the_cache_key(paths, tmp_path):
    opened("disk", paths)
    count = lambda: sum(len(files) for _, _, files in os.walk(tmp_path / "käche"))  # noqa: E731
    assert count() == 5
    opened("disk", paths)
    assert count() == 5
    open_image_store("disk", paths, [False] * 5, SIZE).fill()
    open_image_store("disk", paths, [True] * 5, SIZE * 2).fill()
    assert count() == 15


def test_truncated_cache_files_are_replaced(paths):
    stored = opened("disk", paths)
    expected = opened("none", paths).read(1).image
    file = stored._file(stored.keys[1])
    for wrong in (b"", b"12345", file.read_bytes()[:-1]):
        file.write_bytes(wrong)
        assert np.array_equal(stored.read(1).image, expected)  # decoded
        assert np.array_equal(opened("disk", paths).read(1).image, expected)  # replaced
        assert file.stat().st_size == 16 + expected.size
        file.unlink()
        assert np.array_equal(stored.read(1).image, expected)


def test_nothing_is_written_beside_the_images(paths, tmp_path):
    before = sorted(os.listdir(tmp_path))
    opened("disk", paths), opened("ram", paths)
    assert sorted(set(os.listdir(tmp_path)) - {"käche"}) == before


@pytest.mark.parametrize("kind", ["ram", "disk", "none"])
def test_one_broken_image(kind, paths):
    Path(paths[2]).write_bytes(b"text")
    stored = opened(kind, paths)
    assert list(stored.errors) == ([] if kind == "none" else [2])
    with pytest.raises(UnreadableImage, match="image 2.png: is not an image"):
        stored.read(2)
    assert stored.read(3).original == (32, 32)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_more_than_half_broken_raises(kind, paths):
    for path in paths[:3]:
        open(path, "wb").close()
    with pytest.raises(UserError, match="3 of 5 images cannot be read.*image 0.png: is empty"):
        opened(kind, paths)


def test_unwritable_cache_folder_is_reported_once(paths, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAFTDET_CACHE", str(tmp_path / "file"))
    assert opened("disk", paths).read(0).original == (40, 60)
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_full_memory_falls_back_to_decoding(paths, monkeypatch, capsys):
    append = SharedFile.append

    def full(self, array):
        if self._length > 3000:
            raise OSError(28, "No space left")
        return append(self, array)

    monkeypatch.setattr(SharedFile, "append", full)
    stored, plain = opened("ram", paths), opened("none", paths)
    assert "memory is full" in capsys.readouterr().err
    for index in range(5):
        assert np.array_equal(stored.read(index).image, plain.read(index).image)


def test_auto_caches_in_memory_if_a_quarter_suffices(paths, monkeypatch):
    for free, kind in ((4000, "ram"), (3999, "none"), (None, "none")):
        monkeypatch.setattr("graftdet.data.caching.image_cache.free_memory", lambda free=free: free)
        assert open_image_store("auto", paths, [True] * 5, SIZE, total_bytes=1000).name == kind


def test_auto_counts_the_processes_of_torchrun(paths, monkeypatch):
    monkeypatch.setattr("graftdet.data.caching.image_cache.free_memory", lambda: 8000)
    for processes, kind in (("1", "ram"), ("2", "ram"), ("3", "none")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert open_image_store("auto", paths, [True] * 5, SIZE, total_bytes=1000).name == kind


def test_cached_images_are_found_without_reading_them(paths, monkeypatch):
    opened("disk", paths)
    monkeypatch.setattr(DiskImageStore, "_load", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(DiskImageStore, "_decode", lambda *_: pytest.fail("decoded again"))
    assert all(opened("disk", paths).keys)


def test_unknown_cache():
    with pytest.raises(UserError, match="expected one of auto, ram, disk, none, got 'rom'; did you mean 'ram'"):
        open_image_store("rom", [], [], SIZE)
    assert "none" in CACHES


def test_opencv_threads_are_restored(paths):
    before = cv2.getNumThreads()
    opened("ram", paths)
    assert cv2.getNumThreads() == before


def test_free_memory_is_plausible():
    assert 10e6 < free_memory() < 1e15


@pytest.mark.parametrize(
    ("stat", "left"),
    [
        ("anon 7\ninactive_file 300\nactive_file 20\n", 500),
        ("inactive_file 5\ntotal_inactive_file 400\n", 600),
        ("malformed", 200),
        (None, 200),
    ],
)
def test_file_cache_of_a_container_counts_as_free(stat, left, tmp_path, monkeypatch):
    files = tmp_path / "memory.max", tmp_path / "memory.current"
    files[0].write_text("1000\n"), files[1].write_text("800\n")
    if stat:
        (tmp_path / "memory.stat").write_text(stat)
    monkeypatch.setattr(memory, "_CGROUPS", (files,))
    assert memory.free_memory() == left


def test_cache_folder_prefers_the_variable(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "käche"
    monkeypatch.delenv("GRAFTDET_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "graftdet"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder().name.startswith("graftdet-")  # of this user, in the temporary folder
    assert str(tmp_path / "file") not in str(cache_folder())


@pytest.mark.parametrize("memfd", [True, False])
def test_shared_file_is_readable_after_unpickling(memfd, monkeypatch, tmp_path):
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elif not hasattr(os, "memfd_create"):
        pytest.skip("no memfd on this platform")
    block = SharedFile()
    assert block.append(np.arange(5, dtype=np.uint8)) == 0
    assert block.append(np.arange(6, dtype=np.uint8).reshape(2, 3)) == 5
    text = pickle.dumps(block)
    code = f"import pickle; print(pickle.loads({text!r}).view(5, 6).tolist())"
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[0, 1, 2, 3, 4, 5]"
    assert block.view(0, 5).tolist() == [0, 1, 2, 3, 4]
    assert len(text) < 1000
    del block
    assert list(tmp_path.glob("graftdet-images*")) == []
    orphan = pickle.loads(text)
    assert orphan.view(0, 5) is None and orphan.view(0, 5) is None  # the file is gone: None every time, not a crash
