"""The Python programs in the documentation run as they are, but for names of files and sizes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORTER = {  # what a page writes -> what is run here
    "graft-n.yaml": "tiny.yaml",
    "ghost.yaml": "tiny.yaml",
    "mine.yaml": "data.yaml",
    'split="test"': 'split="val"',
    "img=320": "img=64",
    "img=640": "img=64",
    "epochs=50": 'epochs=1, device="cpu", workers=0',
    "runs/train/exp/weights/best.pt": "best.pt",
    "yolov5n.pt": "best.pt",
}


def programs(page):
    """The Python blocks of a page with the replacements of `SHORTER`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for old, new in SHORTER.items():
        text = text.replace(old, new)
    return re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)


@pytest.mark.parametrize("page", ["python-api.md", "grafting.md", "exported-files.md"])
def test_the_programs_of_a_page_run(page, workspace, tiny_weights, tiny_yaml, tmp_path):
    images = sorted((workspace / "shapes" / "images" / "val").iterdir())
    for name, image in zip(("street.jpg", "zoo.jpg", "image.jpg"), images, strict=False):
        (tmp_path / name).write_bytes(image.read_bytes())
    (tmp_path / "best.pt").write_bytes(tiny_weights.read_bytes())
    (tmp_path / "data.yaml").write_bytes((workspace / "data.yaml").read_bytes())
    (tmp_path / "tiny.yaml").write_text(tiny_yaml, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    blocks = programs(page)
    assert blocks
    for program in blocks:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, program + done.stderr
