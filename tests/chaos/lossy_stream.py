"""A stream of JPEG images on this machine that loops and whose connection is lost again and again."""

import http.server
import random
import threading
import time

import cv2
import numpy as np

BOUNDARY = "frame"
FPS = 20.0


class LossyStream:
    """A server in threads of this process.

    Args:
        connection_s: Shortest and longest time that a connection lasts [s].
        seed: Of these times.
    """

    def __init__(self, connection_s: tuple[float, float] = (3.0, 12.0), seed: int = 0):
        draw, frames = random.Random(seed), [_jpeg(number) for number in range(50)]

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
                self.end_headers()
                end, number = time.monotonic() + draw.uniform(*connection_s), 0
                try:
                    while time.monotonic() < end:
                        data = frames[number % len(frames)]
                        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                        number += 1
                        time.sleep(1 / FPS)
                    self.wfile.write(data[: len(data) // 2])  # in the middle of an image
                except OSError:  # the reader is gone
                    pass

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/stream.mjpg"

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()


def _jpeg(number: int) -> bytes:
    image = np.full((120, 160, 3), 40, np.uint8)
    cv2.circle(image, (3 * number, 60), 20, (0, 200, 90), -1)
    return cv2.imencode(".jpg", image)[1].tobytes()
