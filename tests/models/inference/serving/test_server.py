"""A server of its own process: detections of `predict`, refused uploads, metrics, shutdown."""

import asyncio
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from graftdet.models import load_model
from graftdet.models.inference.serving.app import Limits, Refused, read_upload

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
ROOT = Path(__file__).resolve().parents[4]
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()
FORM = (
    b'--edge\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n%b\r\n--edge--\r\n'
)


class Server:
    """A running `graftdet serve`."""

    def __init__(self, weights, *flags):
        command = [sys.executable, "-m", "graftdet", "serve", str(weights), "--port", "0", "--device", "cpu", *flags]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert "http://127.0.0.1:" in line, line + self.process.stderr.read()
        self.port = int(line.rsplit(":", 1)[1])

    def request(self, method, path, body=None, headers=None):
        """(status, headers, content) of a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def predict(self, body, headers=None):
        status, _, content = self.request("POST", "/predict", body, headers)
        return status, json.loads(content)

    def stop(self):
        self.process.terminate()
        output = self.process.communicate(timeout=60)
        return self.process.returncode, output


@pytest.fixture(scope="module")
def server(tiny_weights):
    server = Server(tiny_weights, "--img", "96", "--conf", "0.3", "--max-mb", "1", "--max-megapixels", "1")
    yield server
    if server.process.poll() is None:
        server.stop()


def test_detections_are_those_of_predict(server, tiny_weights):
    (expected,) = load_model(tiny_weights).predict(IMAGE, imgsz=96, conf=0.3)
    for body, headers in ((PNG, {}), (FORM % PNG, {"Content-Type": "multipart/form-data; boundary=edge"})):
        status, result = server.predict(body, headers)
        assert status == 200 and (result["width"], result["height"]) == (96, 64) and result["milliseconds"] > 0
        assert len(result["detections"]) == len(expected) > 3
        for one, wanted in zip(result["detections"], expected.to_dicts()):
            assert one == {
                "box": pytest.approx(wanted["box"], abs=0.01),
                "score": pytest.approx(wanted["score"], abs=1e-4),
                "class": wanted["label"],
                "name": wanted["name"],
            }


def png_of_size(width, height):
    """A PNG that states a size and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xaeB`\x82"


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        (b"", {}, 400, "the request has no body"),
        (b"hello", {}, 400, "not an image of a known format"),
        (PNG[:500], {}, 400, "the upload: is truncated"),
        (png_of_size(20000, 20000), {}, 413, "the image is 20000x20000, more than the limit of 1000000 pixels"),
        (PNG + bytes(2**20), {}, 413, "larger than the limit of 1048576 bytes"),
        (b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}, 400, "the form has no file"),
        (FORM % PNG, {"Content-Type": "multipart/form-data"}, 400, "the form is malformed"),
    ],
)
def test_bad_uploads_are_refused_in_one_line(server, body, headers, status, text):
    found, result = server.predict(body, headers)
    assert found == status and text in result["error"] and "\n" not in result["error"]
    assert set(result) == {"error"}


def test_chunks_count_towards_the_limit(server):
    """No Content-Length announces the size."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/predict", iter([PNG, bytes(2**20)]), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_page_health_metrics_and_other_addresses(server):
    status, headers, content = server.request("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html") and b"Drop an image here" in content
    assert b"http://" not in content and b"https://" not in content  # nothing is loaded from elsewhere
    status, _, content = server.request("GET", "/health")
    assert status == 200 and json.loads(content)["classes"] == ["circle", "square", "triangle"]
    server.predict(PNG)
    status, headers, content = server.request("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in content.decode().splitlines() if not line.startswith("#"))
    assert int(lines['graftdet_requests_total{status="200"}']) >= 1 and lines["graftdet_requests_in_flight"] == "0"
    assert server.request("GET", "/predict")[0] == 405 and server.request("GET", "/nothing")[0] == 404


def test_requests_at_the_same_time_share_batches(server):
    results, start = [], threading.Barrier(16)

    def call():
        start.wait()
        results.append(server.predict(PNG))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [status for status, _ in results] == [200] * 16
    assert len({json.dumps(result["detections"][0]["name"]) for _, result in results}) == 1
    lines = server.request("GET", "/metrics")[2].decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values["graftdet_batch_images_sum"]) > float(values["graftdet_batch_images_count"])


def test_too_many_requests(tiny_weights):
    server = Server(tiny_weights, "--img", "96", "--max-requests", "1")
    try:
        slow = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        slow.putrequest("POST", "/predict")
        slow.putheader("Content-Length", str(len(PNG)))
        slow.endheaders(PNG[:10])  # in progress: the rest is still to come
        time.sleep(0.5)
        status, headers, content = server.request("POST", "/predict", PNG)
        assert status == 503 and headers["retry-after"] == "1" and "too many requests" in json.loads(content)["error"]
        slow.send(PNG[10:])
        assert slow.getresponse().status == 200
        slow.close()
    finally:
        server.stop()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_sigterm_finishes_what_is_in_progress(tiny_weights):
    server = Server(tiny_weights, "--img", "96")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(len(PNG)))
    connection.endheaders(PNG[:10])
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    connection.send(PNG[10:])
    response = connection.getresponse()
    assert response.status == 200 and json.loads(response.read())["detections"]
    output = server.process.communicate(timeout=60)
    assert server.process.returncode == 143 and "Traceback" not in output[1]


def test_a_port_in_use_and_unknown_weights(server, tiny_weights):
    for flags, text in (
        ([tiny_weights, "--port", server.port], f"--host 127.0.0.1 --port {server.port}: cannot listen there"),
        (["missing.pt"], "missing.pt: no such file"),
    ):
        command = [sys.executable, "-m", "graftdet", "serve", *map(str, flags), "--device", "cpu"]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2 and text in result.stderr and result.stderr.count("\n") == 1


def test_the_missing_package_is_named(tiny_weights, monkeypatch, capsys):
    from graftdet.models.__main__ import main
    from graftdet.utils import cli

    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(SystemExit):
        cli.run(lambda: main(["serve", str(tiny_weights)]))
    assert "install it with \"pip install 'graftdet[serve]'\"" in capsys.readouterr().err


def test_an_upload_that_takes_too_long_is_refused():
    class SlowRequest:
        headers: dict[str, str] = {}

        async def stream(self):
            for _ in range(100):
                yield b"x"
                await asyncio.sleep(0.1)

    with pytest.raises(Refused, match=r"takes more than 0\.2 seconds") as refused:
        asyncio.run(read_upload(SlowRequest(), Limits(max_seconds=0.2)))
    assert refused.value.status == 408
