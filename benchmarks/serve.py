"""`graftdet serve` under load: throughput, latency and lost requests, with clients on this machine.

The reference is `predict` on the same encoded images in batches of the same size, in a process of its own.
"""

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.table import ROOT, Table, parser
from graftdet.models import build_model
from graftdet.utils.checkpoint import save_checkpoint

CFG = "yolov5n.yaml"
SIDE = 320  # image size of the model
WIDTH, HEIGHT = 640, 480  # of the images that are sent
CLIENTS = 16  # each waits for an answer before its next request
BATCH = 8
WARM_UP = 16  # requests before timing
LIMIT = 0.7  # of the throughput of `predict`
REFERENCE = """
import sys, time
import cv2, numpy
from graftdet import load_model
model, count = load_model(sys.argv[1], device="cpu"), int(sys.argv[3])
data = [numpy.frombuffer(open(path, "rb").read(), numpy.uint8) for path in sys.argv[4:]]
settings = {"imgsz": int(sys.argv[2]), "batch_size": 8}
model.predict([cv2.imdecode(one, 1) for one in data], **settings)
start = time.perf_counter()
for first in range(0, count, 8):
    model.predict([cv2.imdecode(data[i % len(data)], 1) for i in range(first, first + 8)], **settings)
print(count / (time.perf_counter() - start))
"""


def main() -> int:
    """Print the table; returns the exit status."""
    arguments = parser("serve", __doc__)
    arguments.add_argument("--requests", type=int, default=480, help="requests that are timed (default: 480)")
    options = arguments.parse_args()
    title = f"Serving: {CFG} at {SIDE}, {WIDTH}x{HEIGHT} JPEGs, {CLIENTS} clients, {os.cpu_count()} cores"
    table = Table(title, options.output)
    with tempfile.TemporaryDirectory() as folder:
        images = make_images(Path(folder))
        weights = make_weights(Path(folder) / "model.pt")
        command = [sys.executable, "-c", REFERENCE, weights, SIDE, options.requests, *images]
        result = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=True)
        reference = float(result.stdout.split()[-1])
        table.add("reference: predict in batches of 8", f"{reference:.1f} images/s", 1.0)
        with running_server(weights) as port:
            bodies = [path.read_bytes() for path in images]
            send(port, bodies, WARM_UP)
            start = time.perf_counter()
            seconds, failures = send(port, bodies, options.requests)
            throughput = len(seconds) / (time.perf_counter() - start)
            batches = batch_size(port)
    table.add("throughput", f"{throughput:.1f} images/s", throughput / reference, at_least=LIMIT)
    median, high = (1000 * float(np.quantile(seconds, q)) for q in (0.5, 0.99))
    table.add("latency, median", f"{median:.0f} ms")
    table.add("latency, p99", f"{high:.0f} ms", high / median, at_most=3)
    table.add("images per batch, mean", f"{batches:.1f}")
    table.add(f"lost of {options.requests} requests", str(failures), failures, at_most=0)
    return bool(table.short)


def make_images(folder: Path) -> list[Path]:
    """Write JPEGs of circles on a smooth background."""
    random, paths = np.random.default_rng(0), []
    for number in range(8):
        image = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for _ in range(10):
            center = (int(random.integers(WIDTH)), int(random.integers(HEIGHT)))
            cv2.circle(image, center, int(random.integers(10, 60)), random.integers(0, 256, 3).tolist(), -1)
        paths.append(folder / f"{number}.jpg")
        cv2.imwrite(str(paths[-1]), image)
    return paths


def make_weights(path: Path) -> Path:
    """Write untrained weights."""
    torch.manual_seed(0)
    model = build_model(CFG)
    content = {"yaml": model.yaml_text, "names": model.names, "nc": model.nc, "model": model.state_dict()}
    save_checkpoint(path, {**content, "options": {"img": SIDE}})
    return path


@contextmanager
def running_server(weights: Path) -> Iterator[int]:
    """The port of a server that ends with the context."""
    command = [sys.executable, "-m", "graftdet", "serve", str(weights), "--port", "0", "--device", "cpu"]
    command += ["--img", str(SIDE), "--max-batch", str(BATCH)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stdout.readline, "")
        yield int(next(line for line in lines if "http://" in line).rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait(60)


def send(port: int, bodies: list[bytes], count: int) -> tuple[list[float], int]:
    """Send `count` requests from `CLIENTS` threads; returns the seconds of each that succeeded, and how many failed."""
    numbers, lock = iter(range(count)), threading.Lock()
    seconds: list[float] = []
    failures = 0

    def client() -> None:
        nonlocal failures
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            start, succeeded = time.perf_counter(), False
            try:
                connection.request("POST", "/predict", bodies[number % len(bodies)])
                response = connection.getresponse()
                succeeded = "detections" in json.loads(response.read()) and response.status == 200
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            with lock:
                if succeeded:
                    seconds.append(time.perf_counter() - start)
                else:
                    failures += 1
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, failures


def batch_size(port: int) -> float:
    """The mean number of images per batch, from the metrics of the server."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return float(values["graftdet_batch_images_sum"]) / float(values["graftdet_batch_images_count"])


if __name__ == "__main__":
    sys.exit(main())
