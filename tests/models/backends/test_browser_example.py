"""examples/browser gives the detections of detect.py; needs Chromium and the folder dist/ of onnxruntime-web.

ONNXRUNTIME_WEB names the folder.
"""

import json
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from graftdet.models import load_model
from graftdet.models.backends import BACKENDS, ExportOptions
from graftdet.models.weights.transfer import build_from_weights
from graftdet.models.weights.weights_file import load_weights
from graftdet.utils.images.io import write_image

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "browser"
RUNTIME = os.environ.get("ONNXRUNTIME_WEB")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium", path="/usr/bin")
PAGE = """<!doctype html><script src="ort/ort.wasm.min.js"></script><script type="module">
import {detect, loadModel} from "./detect.js";
ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
ort.env.wasm.numThreads = 1;
const fetched = async (name) => (await fetch(name)).blob();
let result;
try {
  const model = await loadModel(new Uint8Array(await (await fetched("model.onnx")).arrayBuffer()));
  const bitmap = await createImageBitmap(await fetched("image.png"));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  result = await detect(model, context.getImageData(0, 0, bitmap.width, bitmap.height), 0.3);
} catch (error) { result = String(error); }
await fetch("result", {method: "POST", body: JSON.stringify(result)});
</script>"""


class Handler(SimpleHTTPRequestHandler):
    def do_POST(self):
        self.server.result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.received.set()

    def log_message(self, *args):
        pass


@pytest.mark.skipif(not (RUNTIME and CHROMIUM), reason="needs Chromium and ONNXRUNTIME_WEB")
@pytest.mark.parametrize("shape", [(97, 141), (333, 250)])
def test_the_page_gives_the_detections_of_predict(tiny_weights, tmp_path, shape):
    for name in ("detect.js", "index.html"):
        shutil.copy(EXAMPLE / name, tmp_path)
    (tmp_path / "ort").symlink_to(Path(RUNTIME).resolve())
    (tmp_path / "test.html").write_text(PAGE)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    write_image(tmp_path / "image.png", image)
    model = build_from_weights(load_weights(tiny_weights))
    path = BACKENDS["onnx"].export(model, tmp_path / "model.onnx", ExportOptions((64, 96)))
    (expected,) = load_model(path).predict(image, conf=0.3)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    server.received = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/test.html"
    flags = "--headless --no-sandbox --disable-gpu --remote-debugging-port=0".split()
    browser = subprocess.Popen(
        [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", address],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert server.received.wait(120), "the page did not answer"
    finally:
        browser.terminate()
        browser.wait(20)
        server.shutdown()
    assert isinstance(server.result, list), server.result
    assert 3 < len(expected) == len(server.result)
    scores = [one["score"] for one in server.result]
    np.testing.assert_allclose(scores, expected.scores, atol=0.02)  # its images are resized without rounding steps
    assert {one["name"] for one in server.result} == set(expected.class_names)
    for one in server.result[:3]:
        assert np.abs(expected.boxes - one["box"]).max(1).min() < 3
