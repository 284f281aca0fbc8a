"""Videos: what FFmpeg would open besides the file itself is not opened."""

import os
import socket

import cv2
import numpy as np
import pytest

from graftdet.utils.errors import UserError
from graftdet.utils.images.video import VideoWriter, open_video, read_frames
from graftdet.utils.sources.source import open_source


@pytest.fixture
def video(tmp_path):
    with VideoWriter(tmp_path / "good") as writer:
        for _ in range(3):
            writer.write(np.full((48, 64, 3), 90, np.uint8))
    return writer.path


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {}\n",
    "ffconcat behind a tag": "ID3\3\0\0\0\0\0\nxxxxxxxxxxffconcat version 1.0\nfile {}\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\nc=IN IP4 127.0.0.1\nm=video 5555 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_under_the_name_of_a_video_are_refused(video, kind):
    path = video.with_name("list.mp4")
    path.write_text(PLAYLISTS[kind].format(video.name))
    with pytest.raises(UserError, match=r"list.mp4: is no video but a text, such as a playlist"):
        list(open_source(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_that_a_playlist_names_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile pipe.mp4\n")
    with pytest.raises(UserError, match="is no video"):
        open_video(str(tmp_path / "list.mp4"))
    with pytest.raises(UserError, match="not a regular file"):
        open_video(str(tmp_path / "pipe.mp4"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_addresses_for_ffmpeg_are_files(video, monkeypatch):
    monkeypatch.chdir(video.parent)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        name = f"tcp:127.0.0.1:{server.getsockname()[1]}.mp4"
        video.rename(name)
        assert len(list(read_frames(open_video(name)))) == 3
        assert [frame.path for frame in open_source(name)] == [name] * 3
        with pytest.raises(TimeoutError):
            server.accept()


def test_numbers_that_no_camera_has(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: opened.append(args))
    for text in ("99999999999999999999", "9" * 5000):
        with pytest.raises(UserError, match="no such file or folder|is not a path"):
            open_source(text)
    assert open_source("0").targets == [0] and not opened


def test_nothing_is_printed_about_a_damaged_avi_file(tmp_path, capfd):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for value in range(20):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    data = (tmp_path / "a.avi").read_bytes()
    for size in (len(data) // 2, 4000, 300):
        (tmp_path / "a.avi").write_bytes(data[:size])
        try:
            assert len(list(read_frames(open_video(str(tmp_path / "a.avi"))))) < 20
        except UserError as error:
            assert "is not a video OpenCV can read" in str(error)
    assert capfd.readouterr() == ("", "")
