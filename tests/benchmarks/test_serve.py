"""The load test counts what is lost, and reads the metrics of the server."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks import serve


class Handler(BaseHTTPRequestHandler):
    """Answers every fourth request with an error, and every fifth with something else than JSON."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.count += 1
            count = self.server.count
        self.answer(503 if count % 4 == 0 else 200, b"oops" if count % 5 == 0 else b'{"detections": []}')

    def do_GET(self):
        self.answer(200, b"# HELP x y\ngraftdet_batch_images_sum 12.0\ngraftdet_batch_images_count 4\n")

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.lock, server.count = threading.Lock(), 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def test_failed_requests_are_counted(port):
    seconds, failures = serve.send(port, [b"a", b"b"], 40)
    assert (len(seconds), failures) == (24, 16)  # 10 errors, 8 answers that are no JSON, 2 of them both
    assert all(value > 0 for value in seconds)


def test_batch_size_is_read_from_the_metrics(port):
    assert serve.batch_size(port) == 3
