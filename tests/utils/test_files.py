"""Run folders, and files that are written completely or not at all."""

import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from graftdet.data.formats.files.image_lists import read_lines
from graftdet.data.formats.parsing.coco_json import read_columns
from graftdet.models import load_model
from graftdet.models.backends.selection.export_cache import cache_key
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.checkpoint import load_checkpoint
from graftdet.utils.config import find_config, load_yaml
from graftdet.utils.errors import UserError
from graftdet.utils.files import (
    _private_temporary_folder,
    atomic_file,
    cache_folder,
    new_run_folder,
    newest_run_file,
    read_cached_json,
    read_regular_file,
    remove_temporary_files,
    spread_sample,
    write_atomically,
    write_cached_json,
)
from graftdet.utils.images.io import read_image
from graftdet.utils.sources.source import open_source
from graftdet.utils.tables import read_csv_table


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["file.txt"]


def test_the_folder_is_created_and_text_is_utf8(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"


def test_a_folder_in_the_way_is_a_user_error(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(UserError, match="file: cannot be written"):
        write_atomically(tmp_path / "file", b"")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="no permission bits on Windows")
@pytest.mark.parametrize("copy_mode", [True, False])
def test_permissions_of_the_replaced_file(copy_mode, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o755)
    with atomic_file(path, sync=True, copy_mode=copy_mode) as file:
        file.write(b"new")
    assert path.read_text() == "new" and bool(path.stat().st_mode & stat.S_IXUSR) == copy_mode


def test_the_newest_file_of_all_runs(tmp_path):
    assert newest_run_file(tmp_path / "missing", "weights/last.pt") is None
    for age, name in enumerate(["exp3", "exp", "deep/exp2"]):
        path = new_run_folder(tmp_path, name) / "weights" / "last.pt"
        write_atomically(path, b"")
        os.utime(path, (1000 - age, 1000 - age))
    assert newest_run_file(tmp_path, "weights/last.pt") == tmp_path / "exp3" / "weights" / "last.pt"
    assert newest_run_file(tmp_path, "weights/best.pt") is None


def test_a_sample_is_spread_over_the_whole_list():
    paths = [f"{number}.png" for number in range(25)]
    assert spread_sample(paths, 5) == [paths[0], paths[5], paths[10], paths[15], paths[20]]
    assert len(spread_sample(paths, 16)) == 16 and spread_sample(paths, 16)[-1] == paths[23]
    assert spread_sample(paths, 40) == paths and spread_sample([], 3) == []


def test_existing_run_folders_get_a_number(tmp_path):
    project = tmp_path / "rüns" / "train"
    made = [new_run_folder(project).name for _ in range(3)]
    assert made == ["exp", "exp2", "exp3"]
    (project / "exp2").rmdir()
    assert new_run_folder(project).name == "exp2"
    assert new_run_folder(project, "exp", exist_ok=True) == project / "exp"
    assert new_run_folder(project, "other/deep").name == "deep"


def test_run_folders_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        new_run_folder(tmp_path / "file", "exp")
    with pytest.raises(UserError, match="is a file"):
        new_run_folder(tmp_path, "file", exist_ok=True)
    for name in ("", ".", "../up", "/abs"):
        with pytest.raises(UserError, match="--name"):
            new_run_folder(tmp_path, name)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123\n"


@pytest.mark.parametrize(
    "read",
    [
        lambda path: read_image(path.with_suffix(".jpg")),
        lambda path: load_weights(path.with_suffix(".pt")),
        lambda path: load_weights(path.with_suffix(".safetensors")),
        lambda path: load_checkpoint(path.with_suffix(".pt")),
        lambda path: load_model(path.with_suffix(".onnx")),
        lambda path: load_yaml(path.with_suffix(".yaml")),
        lambda path: list(open_source(path.with_suffix(".mp4"))),
        lambda path: read_columns(path.with_suffix(".json")),
    ],
)
def test_a_git_lfs_pointer_is_called_that(read, tmp_path):
    for suffix in (".jpg", ".pt", ".safetensors", ".onnx", ".yaml", ".mp4", ".json"):
        (tmp_path / f"file{suffix}").write_bytes(POINTER)
    with pytest.raises(
        UserError, match=r"file\.\w+: is a Git LFS pointer, not the file itself; fetch it with 'git lfs"
    ):
        read(tmp_path / "file")


def test_a_cached_file_is_read_as_it_was_written_and_none_is_no_error(tmp_path):
    path = tmp_path / "new" / "file.json"
    assert read_cached_json(path) is None
    write_cached_json(path, {"a": [1, "é"]})
    assert read_cached_json(path) == {"a": [1, "é"]}
    for malformed in (b"{", b"\xff", b"[" * 9999):
        path.write_bytes(malformed)
        assert read_cached_json(path) is None
    write_cached_json(path / "below a file.json", {})
    assert path.read_bytes() == b"[" * 9999


@pytest.fixture
def deadline():
    """Ends a test that waits for the other end of a pipe."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_read(kind, tmp_path, deadline):
    def make(name):
        path = tmp_path / name
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/zero")
        return path

    with pytest.raises(OSError, match="is not a regular file"):
        read_regular_file(make("a"))
    for read, name in (
        (read_image, "a.jpg"),
        (load_yaml, "a.yaml"),
        (read_columns, "a.json"),
        (load_weights, "a.pt"),
        (load_weights, "a.safetensors"),
        (load_weights, "a.onnx"),
        (load_model, "f.onnx"),
        (load_model, "b.pt"),
        (lambda path: load_model(path, backend="auto"), "c.pt"),
        (lambda path: find_config(path, "hyp"), "hyp.yaml"),
        (open_source, "d.png"),
        (open_source, "list.txt"),
    ):
        with pytest.raises(UserError, match="not a regular file|no such file"):
            read(make(name))
    (tmp_path / "folder").mkdir()
    os.rename(make("e.jpg"), tmp_path / "folder" / "e.jpg")
    with pytest.raises(UserError, match="e.jpg: cannot be read .is not a regular file"):
        list(open_source(tmp_path / "folder"))


def test_files_of_killed_processes_are_removed(tmp_path):
    names = ["last.pt", ".hidden", ".last-0123456789abcdef.pt", "run.lock"]
    killed = [".last-0123456789abcdef", ".results-fedcba9876543210", ".last.previous.pt", "run.lock-0123456789abcdef"]
    for name in (*names, *killed):
        (tmp_path / name).touch()
    remove_temporary_files(tmp_path, tmp_path / "missing", age=60)
    assert len(os.listdir(tmp_path)) == len(names) + len(killed)  # another process may write them
    remove_temporary_files(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names)


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes of folders")
@pytest.mark.parametrize("taken", ["", "link", "open"])
def test_cache_without_a_home_is_a_folder_of_the_user_alone(taken, tmp_path, monkeypatch):
    monkeypatch.delenv("GRAFTDET_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = tmp_path / f"graftdet-{os.getuid()}"
    if taken == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        own.symlink_to(tmp_path / "elsewhere")
    elif taken:
        own.mkdir()
        own.chmod(0o777)
    _private_temporary_folder.cache_clear()
    folder = cache_folder()
    _private_temporary_folder.cache_clear()
    assert (folder == own) == (not taken) and folder.parent == tmp_path
    assert stat.S_IMODE(os.lstat(folder).st_mode) == 0o700 and not folder.is_symlink()


def test_files_above_their_limit_are_refused_before_they_are_read(tmp_path, deadline):
    def sparse(name: str) -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(6 << 30)
        return path

    for read, name in (
        (load_yaml, "a.yaml"),
        (read_columns, "a.json"),
        (read_csv_table, "results.csv"),
        (open_source, "a.txt"),
        (read_lines, "lines.txt"),
        (load_model, "a.onnx"),
        (cache_key, "a.pt"),
    ):
        with pytest.raises(UserError, match="has 6442450944 bytes, more than .*--allow-large"):
            read(sparse(name))
    (tmp_path / "b.yaml").write_bytes(b"a: [" + b"1," * (1 << 19) + b"]")
    with pytest.raises(UserError, match="more than 1048576; --allow-large"):
        load_yaml(tmp_path / "b.yaml")


def test_annotations_of_empty_lists_are_refused_before_they_are_parsed(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"images": [' + b"[]," * (1 << 20) + b"[]]}")
    with pytest.raises(UserError, match="not COCO JSON: 1048579 lists and mappings in"):
        read_columns(tmp_path / "a.json")
