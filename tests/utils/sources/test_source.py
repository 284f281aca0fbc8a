import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.images.io import write_image
from graftdet.utils.images.video import DEFAULT_FPS, VideoWriter, frame_rate, open_capture
from graftdet.utils.sources.live import LiveFrames
from graftdet.utils.sources.source import open_source


def gray_image(value, height=48, width=64):
    return np.full((height, width, 3), value, np.uint8)


def write_video(path, count, fps=25.0, height=48, width=64):
    with VideoWriter(path, fps) as writer:
        for number in range(count):
            writer.write(gray_image(20 + 10 * number, height, width))
    return writer.path


@pytest.fixture
def folder(tmp_path):
    """Three images, a video, other files, and a subfolder."""
    root = tmp_path / "wörk folder"
    for number, name in enumerate(("b.png", "a.JPG", "c.bmp")):
        write_image(root / name, gray_image(50 * number))
    write_video(root / "d film.mp4", 3)
    (root / "notes.md").write_text("x")
    write_image(root / "below" / "e.png", gray_image(9))
    return root


def names(frames):
    return [frame.path.replace("\\", "/").rsplit("/", 1)[-1] for frame in frames]


def test_one_image(folder):
    (frame,) = open_source(folder / "b.png")
    assert frame.index is None and not frame.info.is_video
    assert np.array_equal(frame.image, gray_image(0))
    assert len(open_source(str(folder / "b.png"))) == 1


def test_folder_with_images_and_videos(folder):
    frames = list(open_source(folder))
    assert names(frames) == ["a.JPG", "b.png", "c.bmp"] + ["d film.mp4"] * 3
    assert [frame.index for frame in frames] == [None] * 3 + [0, 1, 2]
    assert frames[-1].info.is_video and frames[-1].info.fps == 25


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.png", ["b.png"]), ("[ac].*", ["a.JPG", "c.bmp"]), ("**/*.png", ["b.png", "e.png"]), ("**", None)],
)
def test_patterns(folder, pattern, expected):
    files = names(open_source(f"{folder}/{pattern}"))
    assert files == expected if expected else len(files) == 7


def test_file_name_with_pattern_characters(tmp_path):
    write_image(tmp_path / "a[1].png", gray_image(1))
    assert names(open_source(tmp_path / "a[1].png")) == ["a[1].png"]


def test_list_file(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder / "below")
    text = f"# images\n\n{folder.name}/b.png\n{folder / 'c.bmp'}\ne.png\n{folder.name}/*.mp4\nmissing.png\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    source = open_source(tmp_path / "list.txt")
    assert names(source) == ["b.png", "c.bmp", "e.png"] + ["d film.mp4"] * 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "list.txt, line 7: missing.png" in error and "skipped" in error


def test_duplicates_in_a_list_are_read_once(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    lines = [
        "d film.mp4",
        "c.bmp",
        f"{folder}/d film.mp4",
        "below/../c.bmp",
        "b.png",
        "rtsp://host/a",
        "0",
        "rtsp://host/a",
        "0",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    targets = open_source(tmp_path / "list.txt").targets
    assert [str(target).rpartition("/")[2] for target in targets] == ["d film.mp4", "c.bmp", "b.png", "a", "0"]


def test_several_sources_keep_their_order_without_duplicates(folder):
    source = open_source(folder / "c.bmp", folder, f"{folder}/*.png", "0")
    assert [str(target).rpartition("/")[2] for target in source.targets] == [
        "c.bmp",
        "a.JPG",
        "b.png",
        "d film.mp4",
        "0",
    ]
    assert source.text == f"{folder / 'c.bmp'} and 3 more"
    with pytest.raises(UserError, match="bb.png: no such file"):
        open_source(folder / "b.png", folder / "bb.png")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"no.png\n", "line 1: no.png"), (b"\xff\xfe\x00", "is malformed")]
)
def test_wrong_list_files(tmp_path, content, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}/bb.png", r"bb.png: no such file or folder; did you mean 'b.png'"),
        ("{}/nowhere/x", "no such file or folder"),
        ("{}/*.gif", "pattern matches no images"),
        ("{}/*.md", "1 file, none of a known kind"),
        ("rstp://host/x", "unknown kind of address 'rstp'; did you mean 'rts?p'"),
    ],
)
def test_wrong_sources(folder, text, message):
    with pytest.raises(UserError, match=message):
        open_source(text.format(folder))


def test_empty_folder(tmp_path):
    with pytest.raises(UserError, match="this folder has no images or videos"):
        open_source(tmp_path)


def test_folder_with_subfolders_only_suggests_a_pattern(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"0 files; subfolders are not searched, expected a pattern such as .*\*\*"):
        open_source(str(tmp_path))


def test_broken_files_in_a_folder_are_skipped_with_a_warning(folder, capfd):
    (folder / "aa.jpg").write_text("I am text")
    (folder / "cc.mp4").write_bytes(b"neither a video")
    (folder / "zz.png").write_bytes(b"")
    source = open_source(folder)
    for _ in range(2):
        assert names(source) == ["a.JPG", "b.png", "c.bmp"] + ["d film.mp4"] * 3
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 3 and all(line.endswith("; skipped") for line in lines)
        assert all(name in line for name, line in zip(("aa.jpg", "cc.mp4", "zz.png"), lines, strict=True))


@pytest.mark.parametrize(("name", "data"), [("x.jpg", b"text"), ("x.mp4", b"text"), ("x.mp4", b""), ("x.dat", b"?")])
def test_single_broken_file_is_an_error(tmp_path, name, data, capfd):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=f"{name}: "):
        list(open_source(tmp_path / name))
    assert capfd.readouterr().err == ""


def test_folder_with_only_broken_files(tmp_path, capfd):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="none of its images and videos .2. can"):
        list(open_source(tmp_path))


@pytest.mark.parametrize("fps", [25.0, 29.97, 30000 / 1001, 12.5, 60.0])
@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_written_video_is_read_back(tmp_path, fps, size):
    path = write_video(tmp_path / "vidéo out.mp4", 13, fps, *size)
    assert path.suffix == (".mp4" if size == (48, 64) else ".avi")
    frames = list(open_source(path))
    assert [frame.index for frame in frames] == list(range(13))
    assert frames[0].info.frame_count == 13
    assert abs(frames[0].info.fps - fps) < 0.01
    for number, frame in enumerate(frames):
        assert abs(frame.image.mean() - (20 + 10 * number)) < 5
    again = write_video(tmp_path / "again.mp4", len(frames), frames[0].info.fps, *frames[0].image.shape[:2])
    assert len(list(open_source(again))) == 13


def test_truncated_video_gives_the_frames_it_has(tmp_path):
    """The header of a truncated file still declares all frames."""
    path = write_video(tmp_path / "a.avi", 20, 25.0, 49, 65)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    frames = list(open_source(path))
    assert 5 < len(frames) < 20
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_writer_resizes_frames_and_writes_nothing_without_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", float("nan")) as writer:
        writer.write(gray_image(10))
        writer.write(gray_image(20, 100, 200))
    assert writer.fps == DEFAULT_FPS and writer.count == 2
    assert [frame.image.shape for frame in open_source(writer.path)] == [(48, 64, 3)] * 2
    VideoWriter(tmp_path / "none.mp4").close()
    assert not (tmp_path / "none.mp4").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "a.mp4").write(gray_image(1))


def test_writer_falls_back_to_avi(tmp_path, monkeypatch):
    real = cv2.VideoWriter_fourcc
    monkeypatch.setattr(cv2, "VideoWriter_fourcc", lambda *code: real(*("zzzz" if code == tuple("mp4v") else code)))
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "SILENT")
    path = write_video(tmp_path / "a.mp4", 4, 23.976)
    assert path.suffix == ".avi" and len(list(open_source(path))) == 4
    assert abs(frame_rate(open_capture(str(path))) - 23.976) < 0.01


def test_litter_is_no_source(tmp_path):
    for name in ("a.png", "b/c.png", "__MACOSX/a.png", "@eaDir/a.png/thumb.png", "b/lost+found/d.png"):
        write_image(tmp_path / name, gray_image(9))
    (tmp_path / "~$a.png").write_bytes(b"x")
    assert [Path(target).name for target in open_source(tmp_path).targets] == ["a.png"]
    found = [Path(target).name for target in open_source(tmp_path / "**/*.png").targets]
    assert found == ["a.png", "c.png"]
    assert len(open_source(tmp_path / "__MACOSX/*.png").targets) == 1  # named by the user


def test_images_of_rare_kinds_are_named_where_they_are_skipped(folder, capfd):
    for name in ("x.svg", "y.cr2"):
        (folder / name).write_bytes(b"<svg/>")
    assert len(list(open_source(folder))) == 6
    errors = capfd.readouterr().err
    assert "x.svg: is not an image that OpenCV can read; skipped" in errors and "y.cr2: is not an image" in errors


def test_stop_ends_before_the_next_file(folder):
    source = open_source(folder)
    frames = iter(source)
    next(frames)
    source.stop()
    assert list(frames) == []
    assert len(list(source)) == 6  # starts again


def test_video_over_http_is_read_to_its_end(tmp_path):
    write_video(tmp_path / "a.mp4", 7)
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        frames = list(open_source(f"{address}/a.mp4"))
        assert len(frames) == 7 and frames[0].info.kind == "video"
        with pytest.raises(UserError, match="nothing.mp4: cannot be opened"):
            list(open_source(f"{address}/nothing.mp4"))
    finally:
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_sources_need_no_torch():
    code = (
        "import sys, graftdet.utils.sources.source, graftdet.data.caching.image_cache, graftdet.utils.images.letterbox\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[3]).returncode == 0


class Hole:
    """A reader that ends early, as OpenCV's does at a hole in a file."""

    def __init__(self, declared, readable):
        self.declared, self.left = declared, readable

    def isOpened(self):
        return True

    def get(self, key):
        return {cv2.CAP_PROP_FRAME_COUNT: self.declared, cv2.CAP_PROP_FPS: 25}[key]

    def grab(self):
        self.left -= 1
        return self.left >= 0

    def read(self):
        return (True, np.zeros((20, 30, 3), np.uint8)) if self.grab() else (False, None)

    def release(self):
        pass


@pytest.mark.parametrize(
    ("declared", "readable", "stride", "report"),
    [
        (50, 12, 1, "12 of 50 frames"),
        (50, 12, 3, "4 of 17 frames"),
        (50, 48, 1, ""),
        (0, 12, 1, ""),
        (12, 50, 1, ""),
    ],
)
def test_a_video_with_less_frames_than_it_declares(declared, readable, stride, report, tmp_path, monkeypatch, caplog):
    (tmp_path / "a.mp4").write_bytes(b"video")
    monkeypatch.setattr("graftdet.utils.sources.source.open_video", lambda path: Hole(declared, readable))
    source = open_source(tmp_path / "a.mp4", stride=stride)
    assert len(list(source)) == -(-readable // stride)
    assert len(source.incomplete) == bool(report) and report in caplog.text


def test_a_stream_that_is_gone_is_incomplete(monkeypatch):
    monkeypatch.setattr("graftdet.utils.sources.source.open_live", lambda target: Hole(0, 3))
    monkeypatch.setattr("graftdet.utils.sources.live.LOST", 0)
    monkeypatch.setattr("graftdet.utils.sources.source.LiveFrames", functools.partial(LiveFrames, attempts=0))
    source = open_source("rtsp://host/a")
    assert list(source)
    assert source.incomplete == ["rtsp://host/a: the stream is gone"]
